# SPDX-License-Identifier: Apache-2.0
"""Somebody in the VM flushes all rules: the gate is put back, and the journal says so."""

from __future__ import annotations

import pytest

from tests.vm.warded import LEASE_S, Behaviour, WardedVm

pytestmark = pytest.mark.vm

SOON_S = 30.0
#: what the boot file has switched on for two minutes is gone with the table
RULES = "nft -s list table inet vmwarden | grep -v 'elements = '"
#: a tick is a third of the lease; the rest is nft's start under emulation
REPAIRED_S = LEASE_S / 3 + 3.0


@pytest.mark.parametrize("behaviour", [Behaviour.HONEST, Behaviour.WRONG_COUNTRY])
def test_a_flushed_gate_is_put_back(behaviour: Behaviour, warded_vm: WardedVm) -> None:
    with warded_vm.clone() as vm, warded_vm.host(behaviour=behaviour):
        vm.said(r"vmwarden: posture (open: allow|held: deny)", SOON_S)
        before = vm.guest.out(RULES)
        vm.guest.sh("nft flush ruleset", check=True)
        vm.guest.wait_until("nft list table inet vmwarden > /dev/null 2>&1", REPAIRED_S, every=0.05)
        assert vm.guest.out(RULES) == before
        assert vm.manage_answers()
        assert vm.service_answers(3.0) is (behaviour is Behaviour.HONEST)
        assert len(vm.journal("gate.repaired")) == 1
