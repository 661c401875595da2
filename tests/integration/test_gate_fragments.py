# SPDX-License-Identifier: Apache-2.0
"""A later fragment has no ports: what stands where they would be opens nothing."""

import pytest

from tests.integration.gate_frames import Ends, crafted, mac, send
from tests.integration.gate_policy import MANAGE_OUT, gate_policy, nft_gate
from vmwarden.rules.ruleset import NO_MANAGE
from vmwarden.testing.network import PEER, PEER6, VM, VM6, Lan

pytestmark = pytest.mark.root


@pytest.mark.parametrize(
    "name",
    [
        "IPv4, later fragment that looks like manage",
        "IPv4, later fragment that looks like DHCP",
        "IPv6, later fragment that looks like manage",
        "IPv6, later fragment that looks like neighbour discovery",
    ],
)
@pytest.mark.parametrize("managed", [True, False])
def test_it_is_dropped_whatever_it_looks_like(network: Lan, name: str, managed: bool) -> None:
    ends = Ends(mac(network.peer), mac(network.vm), PEER, VM, PEER6, VM6)
    frame = crafted(ends, b"token", ports=(MANAGE_OUT, 9000))[name]
    with network.vm.entered():
        gate = nft_gate()
        gate.install(gate_policy())
        if not managed:
            gate.restore(NO_MANAGE)
        before = gate.state().dropped["judge_in"]
        send(network.peer, frame)
        assert gate.state().dropped["judge_in"] == before + 1
