# SPDX-License-Identifier: Apache-2.0
"""Rules are replaced and leases renewed under traffic: nothing forbidden passes, nothing allowed is lost.

pytest -m soak -s tests/integration/test_gate_exchange.py     1,000 replacements, 10,000 renewals
"""

import json
import time

import pytest

from tests.integration.gate_policy import SCOPE_UDP_IN, SCOPE_UDP_OUT, gate_policy, nft_gate
from vmwarden.testing.network import PEER, VM, Lan, Namespace
from vmwarden.testing.traffic import Flow, Traffic

pytestmark = pytest.mark.root

RENEWALS_EACH = 10


@pytest.mark.parametrize("replacements", [200, pytest.param(1000, marks=pytest.mark.soak)])
def test_replacing_and_renewing_lose_nothing_and_leak_nothing(network: Lan, replacements: int) -> None:
    policies = [gate_policy(more_scopes=number) for number in (0, 40)]
    traffic = Traffic(tick_s=0.0002)
    with network.vm.entered():
        gate = nft_gate()
        gate.install(policies[0])
        gate.lease(30_000)
        # while it is open: connections that the rules of guarded do not allow
        forbidden = [
            traffic.tcp("tcp in", network.peer, network.vm, to=VM, port=9101),
            traffic.tcp("tcp out", network.vm, network.peer, to=PEER, port=9101),
            traffic.udp("udp in", network.peer, network.vm, to=VM, port=9100),
            traffic.udp("udp out", network.vm, network.peer, to=PEER, port=9100),
            traffic.udp("udp through", network.behind, network.peer, to=PEER, port=9102),
        ]
        allowed = [
            traffic.udp("scope in", network.peer, network.vm, to=VM, port=SCOPE_UDP_IN),
            traffic.udp("scope out", network.vm, network.peer, to=PEER, port=SCOPE_UDP_OUT),
            traffic.tcp("manage in", network.peer, network.vm, to=VM, port=22),
            traffic.tcp("manage out", network.vm, network.peer, to=PEER, port=443),
        ]
        gate.lease(30_000, guarded=True)
        keep_ledger(network.vm)
        started = time.monotonic()
        with traffic.running():
            for number in range(replacements):
                gate.install(policies[(number + 1) % 2])
                for _ in range(RENEWALS_EACH):
                    gate.lease(30_000, guarded=True)
        assert gate.installed()
        assert gate.state().guarded
    counted = ledger(network.vm)
    report(replacements, time.monotonic() - started, traffic.flows)
    assert [(flow.name, flow.received) for flow in forbidden if flow.received] == []
    assert [(flow.name, flow.lost) for flow in allowed if flow.lost] == []
    # TCP mends a loss by itself, and on a busy machine it sends again what was not lost: so count packets
    assert counted["in_before"] == counted["in_after"] > 0
    assert counted["out_before"] == counted["out_after"] > 0
    assert all(flow.sent > 5 * replacements for flow in allowed), "there was traffic to lose"
    assert all(flow.sent + flow.refused > 0 for flow in forbidden)
    traffic.close()


def keep_ledger(vm: Namespace) -> None:
    """Count the packets of manage before the gate's first chain and after its last."""
    vm.run("nft", "add table inet ledger")
    for chain, hook, priority, flow in (
        ("in_before", "prerouting", -400, "ip saddr 10.99.0.2 tcp dport 22"),
        ("in_before", "prerouting", -400, "ip saddr 10.99.0.2 tcp sport 443"),
        ("in_after", "prerouting", -330, "ip saddr 10.99.0.2 tcp dport 22"),
        ("in_after", "prerouting", -330, "ip saddr 10.99.0.2 tcp sport 443"),
        ("out_before", "output", -400, "ip daddr 10.99.0.2 tcp sport 22"),
        ("out_before", "output", -400, "ip daddr 10.99.0.2 tcp dport 443"),
        ("out_after", "output", -330, "ip daddr 10.99.0.2 tcp sport 22"),
        ("out_after", "output", -330, "ip daddr 10.99.0.2 tcp dport 443"),
    ):
        vm.run("nft", f"add chain inet ledger {chain} {{ type filter hook {hook} priority {priority}; }}")
        vm.run("nft", f"add rule inet ledger {chain} {flow} counter")


def ledger(vm: Namespace) -> dict[str, int]:
    """Packets by chain."""
    listed = json.loads(vm.run("nft", "-j", "list", "table", "inet", "ledger").stdout)["nftables"]
    counted: dict[str, int] = {}
    for rule in (each["rule"] for each in listed if "rule" in each):
        packets = sum(part["counter"]["packets"] for part in rule["expr"] if "counter" in part)
        counted[rule["chain"]] = counted.get(rule["chain"], 0) + packets
    return counted


@pytest.mark.parametrize("renewals", [3000, pytest.param(10_000, marks=pytest.mark.soak)])
def test_renewing_an_open_gate_loses_nothing(network: Lan, renewals: int) -> None:
    traffic = Traffic(tick_s=0.0002)
    with network.vm.entered():
        gate = nft_gate()
        gate.install(gate_policy())
        gate.lease(30_000)
        flows = [
            traffic.udp("udp in", network.peer, network.vm, to=VM, port=9100),
            traffic.udp("udp out", network.vm, network.peer, to=PEER, port=9100),
            traffic.udp("udp through", network.behind, network.peer, to=PEER, port=9102),
            traffic.tcp("tcp in", network.peer, network.vm, to=VM, port=9101),
        ]
        started = time.monotonic()
        with traffic.running():
            for _ in range(renewals):
                gate.lease(5000)
                time.sleep(0.0003)
    report(renewals, time.monotonic() - started, traffic.flows)
    assert [(flow.name, flow.lost) for flow in flows if flow.lost] == []
    assert all(flow.sent > 1000 for flow in flows)
    traffic.close()


def report(count: int, seconds: float, flows: list[Flow]) -> None:
    print(f"\n{count} in {seconds:.1f} s")
    for flow in flows:
        print(f"  {flow.name:12} sent {flow.sent:7} refused {flow.refused:7} received {flow.received:7}")
