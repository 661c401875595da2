# SPDX-License-Identifier: Apache-2.0
"""Which packets pass in which state of the gate: every direction, protocol and exception of rule 6."""

import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration import gate_probe as probe
from tests.integration.gate_policy import (
    MANAGE_IN,
    MANAGE_OUT,
    PROBER_UID,
    REACH,
    SCOPE_TCP_IN,
    SCOPE_UDP_IN,
    SCOPE_UDP_OUT,
    gate_policy,
    nft_gate,
)
from vmwarden.rules.ruleset import GUARDED_BIT, NO_MANAGE, OPEN_BIT, OUR_BITS
from vmwarden.testing.network import BEHIND, GATEWAY, PEER, PEER6, STRANGER, VM, VM6, Lan

pytestmark = pytest.mark.root

#: passes in every posture
ALWAYS = {
    "loopback",
    "manage in",
    "manage in, IPv6",
    "manage out",
    "reach by its user",
}
#: passes in guarded besides
SCOPES = {"scope in, UDP", "scope in, TCP", "scope out, UDP"}


def paths(lan: Lan) -> dict[str, Callable[[], bool]]:
    """Every path, by name; all of them pass where there is no gate."""
    vm, peer, behind = lan.vm, lan.peer, lan.behind
    return {
        "loopback": lambda: probe.udp(vm, vm, "127.0.0.1", 9000),
        "own address": lambda: probe.udp(vm, vm, VM, 9001),
        "in, UDP": lambda: probe.udp(peer, vm, VM, 9000),
        "out, UDP": lambda: probe.udp(vm, peer, PEER, 9000),
        "in, TCP": lambda: probe.tcp(peer, vm, VM, 9002),
        "out, TCP": lambda: probe.tcp(vm, peer, PEER, 9002),
        "in, ICMP": lambda: probe.ping(peer, VM),
        "out, ICMP": lambda: probe.ping(vm, PEER),
        "in, UDP, IPv6": lambda: probe.udp(peer, vm, VM6, 9000),
        "out, UDP, IPv6": lambda: probe.udp(vm, peer, PEER6, 9000),
        "in, TCP, IPv6": lambda: probe.tcp(peer, vm, VM6, 9002),
        "in, ICMPv6": lambda: probe.ping(peer, VM6),
        "out, ICMPv6": lambda: probe.ping(vm, PEER6),
        "forwarded out, UDP": lambda: probe.udp(behind, peer, PEER, 9000),
        "forwarded in, UDP": lambda: probe.udp(peer, behind, BEHIND, 9000),
        "forwarded in, manage port": lambda: probe.tcp(peer, behind, BEHIND, MANAGE_IN),
        "forwarded in, scope port": lambda: probe.udp(peer, behind, BEHIND, SCOPE_UDP_IN),
        "container to VM, UDP": lambda: probe.udp(behind, vm, GATEWAY, 9000),
        "manage in": lambda: probe.tcp(peer, vm, VM, MANAGE_IN, sent_from=PEER),
        "manage in, IPv6": lambda: probe.tcp(peer, vm, VM6, MANAGE_IN),
        "manage in by a stranger": lambda: probe.tcp(peer, vm, VM, MANAGE_IN, sent_from=STRANGER),
        "manage out": lambda: probe.tcp(vm, peer, PEER, MANAGE_OUT),
        "manage out to a stranger": lambda: probe.tcp(vm, peer, STRANGER, MANAGE_OUT),
        "SYN out through manage in": lambda: probe.tcp(vm, peer, PEER, 9003, source_port=MANAGE_IN),
        "SYN in through manage out": lambda: probe.tcp(
            peer, vm, VM, 9003, source_port=MANAGE_OUT, sent_from=PEER
        ),
        "reach by its user": lambda: probe.udp_answered(vm, peer, PEER, REACH, uid=PROBER_UID),
        "reach by another user": lambda: probe.udp_answered(vm, peer, PEER, REACH, uid=0),
        "reach elsewhere by its user": lambda: probe.udp_answered(vm, peer, STRANGER, REACH, uid=PROBER_UID),
        "scope in, UDP": lambda: probe.udp(peer, vm, VM, SCOPE_UDP_IN, sent_from=PEER),
        "scope in, TCP": lambda: probe.tcp(peer, vm, VM, SCOPE_TCP_IN, sent_from=PEER),
        "scope out, UDP": lambda: probe.udp(vm, peer, PEER, SCOPE_UDP_OUT),
        "scope by a stranger": lambda: probe.udp(peer, vm, VM, SCOPE_UDP_IN, sent_from=STRANGER),
    }


def passing(lan: Lan) -> set[str]:
    # forget the neighbours: what passes must be able to find them again
    for where in (lan.vm, lan.peer):
        where.run("ip", "-6", "neigh", "flush", "dev", "eth0")
    tried = paths(lan)
    passed = {name for name, passes in tried.items() if name.startswith("reach") and passes()}
    with ThreadPoolExecutor(max_workers=8) as threads:
        answers = {
            name: threads.submit(passes) for name, passes in tried.items() if not name.startswith("reach")
        }
        return passed | {name for name, answer in answers.items() if answer.result()}


def test_each_state_passes_exactly_what_it_should(network: Lan) -> None:
    everything = set(paths(network))
    assert passing(network) == everything, "before there is a gate"
    with network.vm.entered():
        gate = nft_gate()
        gate.install(gate_policy())
        # both ends are the VM's own: this never leaves through an uplink
        always = ALWAYS | {"own address"}
        assert passing(network) == always, "closed"
        gate.lease(30_000, guarded=True)
        assert passing(network) == always | SCOPES, "guarded"
        gate.lease(30_000)
        assert passing(network) == everything, "open"
        gate.flush()
        assert passing(network) == always, "flushed"
        gate.close()
        assert passing(network) == always, "after the warden has gone"
        nft_gate().remove()
        assert passing(network) == everything, "removed"


def test_without_a_way_to_manage_only_loopback_passes_and_no_lease_opens(network: Lan) -> None:
    with network.vm.entered():
        gate = nft_gate()
        gate.restore(NO_MANAGE)
        gate.lease(30_000)
        assert passing(network) == {"loopback", "own address"}
        gate.install(gate_policy())
        assert passing(network) == set(paths(network)), "a readable policy again: the lease counts"


@pytest.mark.parametrize("bits", [OPEN_BIT, GUARDED_BIT, OUR_BITS, 0xFFFF_FFFF])
def test_a_mark_that_a_local_root_process_sets_opens_nothing(network: Lan, bits: int) -> None:
    with network.vm.entered():
        nft_gate().install(gate_policy())
        assert not probe.udp(network.vm, network.peer, PEER, 9000, mark=bits)
        assert not probe.udp(network.vm, network.peer, PEER, SCOPE_UDP_OUT, mark=bits)


def test_a_spoofed_mark_does_not_turn_guarded_into_open(network: Lan) -> None:
    with network.vm.entered():
        gate = nft_gate()
        gate.install(gate_policy())
        gate.lease(30_000, guarded=True)
        assert not probe.udp(network.vm, network.peer, PEER, 9000, mark=OPEN_BIT)
        assert probe.udp(network.vm, network.peer, PEER, SCOPE_UDP_OUT, mark=OPEN_BIT)


def test_a_mark_set_on_the_way_in_opens_nothing(network: Lan) -> None:
    """As another table does it that thinks the bits are its own."""
    with network.vm.entered():
        nft_gate().install(gate_policy())
        network.vm.run("nft", "add table inet other")
        for chain, hook in (("into", "prerouting"), ("through", "forward")):
            network.vm.run(
                "nft", f"add chain inet other {chain} {{ type filter hook {hook} priority -370; }}"
            )
            network.vm.run("nft", f"add rule inet other {chain} meta mark set {OUR_BITS:#x}")
        assert not probe.udp(network.peer, network.vm, VM, 9000)
        assert not probe.udp(network.peer, network.behind, BEHIND, SCOPE_UDP_IN)


@pytest.mark.parametrize("guarded", [False, True])
def test_the_bits_of_others_stay_and_ours_do_not_travel_on(network: Lan, guarded: bool) -> None:
    """wg-quick, IPVS and `ip rule` compare whole marks: one bit of ours left over would break them."""
    with network.vm.entered():
        gate = nft_gate()
        gate.install(gate_policy())
        gate.lease(30_000, guarded=guarded)
        network.vm.run("nft", "add table inet other")
        network.vm.run("nft", "add chain inet other late { type filter hook output priority 0; }")
        network.vm.run("nft", "add rule inet other late udp dport 7003 meta mark != 0xca6c drop")
        assert probe.udp(network.vm, network.peer, PEER, SCOPE_UDP_OUT, mark=0xCA6C)
        assert not probe.udp(network.vm, network.peer, PEER, SCOPE_UDP_OUT, mark=0xCA6D)


@pytest.mark.parametrize(("family", "ports"), [(socket.AF_INET, (68, 67)), (socket.AF_INET6, (546, 547))])
def test_dhcp_passes_at_a_rate_that_carries_nothing_else(
    network: Lan, family: socket.AddressFamily, ports: tuple[int, int]
) -> None:
    vm, peer = (VM, PEER) if family == socket.AF_INET else (VM6, PEER6)
    with network.vm.entered():
        nft_gate().install(gate_policy())
    with (
        network.vm.socket(socket.SOCK_DGRAM, family) as client,
        network.peer.socket(socket.SOCK_DGRAM, family) as server,
    ):
        client.bind((vm, ports[0]))
        server.bind((peer, ports[1]))
        server.setblocking(False)
        refused = 0
        for _ in range(200):
            try:
                client.sendto(b"x", (peer, ports[1]))
            except PermissionError:
                refused += 1
        time.sleep(0.1)
        received = 0
        try:
            while server.recv(10):
                received += 1
        except BlockingIOError:
            pass
        # a burst of 10 and 5 a second
        assert 10 <= received <= 20
        assert received + refused == 200
        server.sendto(b"answer", (vm, ports[0]))
        client.settimeout(1)
        assert client.recv(10) == b"answer"
