# SPDX-License-Identifier: Apache-2.0
"""What every ports.gate.Gate does: the kernel's and the fake."""

import os
import time
from collections.abc import Iterator
from typing import Protocol

import msgspec
import pytest

from tests.integration import gate_probe as probe
from tests.integration.gate_policy import SCOPE_UDP_IN, gate_policy, nft_gate
from vmwarden.errors import BugError, ControlFailed, Malformed
from vmwarden.linux import nft
from vmwarden.linux.nfnetlink import Connection, NetlinkRefused
from vmwarden.model.policy import FlowIn, Manage, Policy
from vmwarden.ports.gate import LONGEST_LEASE_MS, SHORTEST_LEASE_MS, Gate
from vmwarden.rules.ruleset import TABLE, closed
from vmwarden.testing.clock import FakeClock
from vmwarden.testing.gate import FakeGate
from vmwarden.testing.network import PEER, VM, Lan, lan


class Stand(Protocol):
    """A gate with the world around it."""

    @property
    def gate(self) -> Gate: ...

    def passes(self) -> tuple[bool, bool]:
        """(a flow of a scope, any other flow)"""
        ...

    def wait(self, milliseconds: int) -> None: ...

    def tamper(self) -> bool:
        """Somebody else deletes our rules; False = the kernel does not let them."""
        ...


class FakeStand:
    def __init__(self) -> None:
        self._clock = FakeClock()
        self.gate = FakeGate(self._clock)

    def passes(self) -> tuple[bool, bool]:
        passing = self.gate.passing()
        return passing != "manage", passing in ("free", "open")

    def wait(self, milliseconds: int) -> None:
        self._clock.advance(milliseconds)

    def tamper(self) -> bool:
        self.gate.tamper()
        return True


class KernelStand:
    def __init__(self, network: Lan, *, lasting: bool) -> None:
        self._network = network
        self.gate = nft_gate(lasting=lasting)

    def passes(self) -> tuple[bool, bool]:
        peer, vm = self._network.peer, self._network.vm
        return (
            probe.udp(peer, vm, VM, SCOPE_UDP_IN, sent_from=PEER),
            probe.udp(peer, vm, VM, 9000, sent_from=PEER),
        )

    def wait(self, milliseconds: int) -> None:
        time.sleep(milliseconds / 1000)

    def tamper(self) -> bool:
        connection = Connection()
        try:
            nft.delete(connection, TABLE)
        except NetlinkRefused:
            return False
        finally:
            connection.close()
        return True


CLOSED, SCOPES, EVERYTHING = (False, False), (True, False), (True, True)


@pytest.fixture(scope="module")
def network() -> Iterator[Lan]:
    if os.geteuid() != 0:
        pytest.skip("needs root: makes network namespaces")
    with lan() as made:
        yield made


@pytest.fixture(
    params=[
        "fake",
        pytest.param("kernel", marks=pytest.mark.root),
        pytest.param("kernel before 6.9", marks=pytest.mark.root),
    ]
)
def stand(request: pytest.FixtureRequest) -> Iterator[Stand]:
    if request.param == "fake":
        yield FakeStand()
        return
    network: Lan = request.getfixturevalue("network")
    with network.vm.entered():
        made = KernelStand(network, lasting=request.param == "kernel")
        try:
            yield made
        finally:
            made.gate.remove()


def test_before_it_is_installed_it_closes_nothing_and_gives_no_lease(stand: Stand) -> None:
    assert not stand.gate.installed()
    assert stand.passes() == EVERYTHING
    with pytest.raises(ControlFailed):
        stand.gate.lease(1000)
    with pytest.raises(ControlFailed):
        stand.gate.flush()


def test_installed_is_closed_and_a_lease_opens_until_flush(stand: Stand) -> None:
    stand.gate.install(gate_policy())
    assert stand.gate.installed()
    assert stand.passes() == CLOSED
    stand.gate.lease(LONGEST_LEASE_MS)
    assert stand.passes() == EVERYTHING
    stand.gate.flush()
    assert stand.passes() == CLOSED
    stand.gate.flush()


def test_a_lease_lapses_by_itself(stand: Stand) -> None:
    stand.gate.install(gate_policy())
    stand.gate.lease(200)
    stand.wait(250)
    assert stand.passes() == CLOSED
    assert stand.gate.installed()


def test_a_renewal_counts_from_now_on(stand: Stand) -> None:
    stand.gate.install(gate_policy())
    stand.gate.lease(LONGEST_LEASE_MS)
    stand.gate.lease(200)
    stand.wait(250)
    assert stand.passes() == CLOSED
    stand.gate.lease(200)
    stand.gate.lease(LONGEST_LEASE_MS)
    stand.wait(250)
    assert stand.passes() == EVERYTHING


def test_guarded_passes_scopes_and_takes_the_place_of_open(stand: Stand) -> None:
    stand.gate.install(gate_policy())
    stand.gate.lease(LONGEST_LEASE_MS, guarded=True)
    assert stand.passes() == SCOPES
    stand.gate.lease(LONGEST_LEASE_MS)
    assert stand.passes() == EVERYTHING
    stand.gate.lease(LONGEST_LEASE_MS, guarded=True)
    assert stand.passes() == SCOPES
    stand.gate.flush()
    assert stand.passes() == CLOSED


@pytest.mark.parametrize("guarded", [False, True])
@pytest.mark.parametrize("milliseconds", [SHORTEST_LEASE_MS - 1, 3, 1, 0, -5])
def test_a_lease_too_short_for_the_kernel_closes(stand: Stand, milliseconds: int, guarded: bool) -> None:
    stand.gate.install(gate_policy())
    stand.gate.lease(LONGEST_LEASE_MS)
    stand.gate.lease(milliseconds, guarded=guarded)
    assert stand.passes() == CLOSED


def test_the_shortest_lease_lapses(stand: Stand) -> None:
    stand.gate.install(gate_policy())
    stand.gate.lease(SHORTEST_LEASE_MS)
    stand.wait(SHORTEST_LEASE_MS + 50)
    assert stand.passes() == CLOSED


def test_a_lease_longer_than_the_longest_is_our_bug_and_changes_nothing(stand: Stand) -> None:
    stand.gate.install(gate_policy())
    with pytest.raises(BugError):
        stand.gate.lease(LONGEST_LEASE_MS + 1)
    assert stand.passes() == CLOSED


def test_installing_again_keeps_the_lease(stand: Stand) -> None:
    stand.gate.install(gate_policy())
    stand.gate.lease(LONGEST_LEASE_MS, guarded=True)
    stand.gate.install(gate_policy())
    assert stand.passes() == SCOPES
    stand.gate.install(gate_policy(more_scopes=5))
    assert stand.gate.installed()
    assert stand.passes() == SCOPES
    stand.gate.lease(LONGEST_LEASE_MS)
    stand.gate.install(gate_policy())
    assert stand.passes() == EVERYTHING


def test_a_policy_without_rules_is_refused_and_the_gate_stays_as_it_was(stand: Stand) -> None:
    stand.gate.install(gate_policy())
    bad = Manage(in_=(FlowIn(from_="10.0.0.0/99", tcp=22),))
    with pytest.raises(Malformed):
        stand.gate.install(_with(bad))
    assert stand.gate.installed()
    assert stand.passes() == CLOSED


def test_rules_that_somebody_took_away_are_missed_and_can_be_put_back(stand: Stand) -> None:
    stand.gate.install(gate_policy())
    if not stand.tamper():
        assert stand.gate.installed()
        assert stand.passes() == CLOSED
        return
    assert not stand.gate.installed()
    stand.gate.install(gate_policy())
    assert stand.gate.installed()
    assert stand.passes() == CLOSED


def test_the_boot_file_closes_too(stand: Stand) -> None:
    stand.gate.restore(closed(gate_policy(), users={"prober": 4242}))
    assert stand.gate.installed()
    assert stand.passes() == CLOSED
    stand.gate.install(gate_policy())
    assert stand.gate.installed()


def test_removed_is_gone_also_twice(stand: Stand) -> None:
    stand.gate.install(gate_policy())
    stand.gate.lease(LONGEST_LEASE_MS)
    for _ in range(2):
        stand.gate.remove()
        assert not stand.gate.installed()
        assert stand.passes() == EVERYTHING
    with pytest.raises(ControlFailed):
        stand.gate.lease(1000)
    stand.gate.install(gate_policy())
    assert stand.passes() == CLOSED


def test_it_says_when_it_closes_should_its_process_die(stand: Stand) -> None:
    assert stand.gate.closes_on_death()


def _with(manage: Manage) -> Policy:
    return msgspec.structs.replace(gate_policy(), manage=manage)
