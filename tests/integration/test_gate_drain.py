# SPDX-License-Identifier: Apache-2.0
"""The lease `drain`: open flows live, new ones are refused, in both directions and forwarded.

The permit is written in nft here, as vmwarden.linux.nft makes it over netlink.
"""

import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from tests.integration import gate_probe as probe
from tests.integration.gate_frames import IPV4, Frame, mac, send
from tests.integration.gate_policy import MANAGE_IN, MANAGE_OUT, PROBER_UID, REACH, uids
from tests.integration.gate_segments import ACK, SYN, UPLINK, heard, internet_sum, segment
from tests.integration.gate_ways import GUEST, scenes
from tests.unit.rules.test_rules_ruleset import draining
from vmwarden.linux import nft
from vmwarden.rules import netdev_ruleset
from vmwarden.rules.ruleset import DRAIN_BITS, OPEN_BIT, closed
from vmwarden.testing.network import BEHIND, PEER, PEER6, STRANGER, VM, VM6, Lan, Namespace
from vmwarden.testing.traffic import family_of

pytestmark = pytest.mark.root

WITHIN_S = 0.4
PERMIT = (
    """
table inet vmwarden_alive {
	set lease { type nf_proto; flags timeout; }
	set lease_drain { type nf_proto; flags timeout; }
"""
    + "".join(
        f"""	chain permit_{suffix} {{
		type filter hook {hook} priority -350; policy accept;
		meta nfproto @lease meta mark set meta mark | {OPEN_BIT:#x} accept
		meta nfproto @lease_drain meta mark set meta mark | {DRAIN_BITS:#x} accept
	}}
"""
        for suffix, hook in (("in", "prerouting"), ("out", "output"), ("forward", "forward"))
    )
    + "}\n"
)
LEASED = "ip timeout {0}, ip6 timeout {0}, 0x8100 timeout {0}, 0x88a8 timeout {0}"


@dataclass
class Stage:
    """The network with a gate that drains."""

    lan: Lan
    both: bool
    _stack: ExitStack = field(default_factory=ExitStack)

    def lease(self, name: str, lasting: str = "30s") -> None:
        """This one and no other; "" = none."""
        told = [f"flush set inet vmwarden_alive {each}" for each in ("lease", "lease_drain")]
        if self.both:
            told += [f"flush set netdev vmwarden {each}" for each in ("lease", "lease_drain")]
        if name:
            families = f"ipv4 timeout {lasting}, ipv6 timeout {lasting}"
            told.append(f"add element inet vmwarden_alive {name} {{ {families} }}")
            if self.both:
                told.append(f"add element netdev vmwarden {name} {{ {LEASED.format(lasting)} }}")
        nft.load("\n".join(told) + "\n")

    def made(self, where: Namespace, kind: socket.SocketKind, address: str) -> socket.socket:
        made = self._stack.enter_context(where.socket(kind, family_of(address)))
        made.settimeout(WITHIN_S)
        return made

    def tcp(self, source: Namespace, target: Namespace, to: str, port: int) -> Callable[[], bool]:
        """A connection, made now; what it gives says whether a byte passes each way."""
        with target.socket(socket.SOCK_STREAM, family_of(to)) as door:
            caller = self.made(source, socket.SOCK_STREAM, to)
            door.settimeout(3)
            door.bind((to, port))
            door.listen(1)
            caller.connect((to, port))
            answering = self._stack.enter_context(door.accept()[0])
        answering.settimeout(WITHIN_S)
        return lambda: _passes(caller, answering) and _passes(answering, caller)

    def udp(
        self, source: Namespace, target: Namespace, to: str, port: int, payload: bytes = b"x"
    ) -> Callable[[], bool]:
        """As tcp: the first call makes the flow."""
        server, client = (self.made(where, socket.SOCK_DGRAM, to) for where in (target, source))
        server.bind((to, port))
        client.bind(("::" if ":" in to else "0.0.0.0", 0))

        def passes() -> bool:
            try:
                client.sendto(payload, (to, port))
                data, sender = server.recvfrom(70_000)
                server.sendto(data, sender)
                return client.recv(70_000) == payload
            except (TimeoutError, PermissionError):
                return False

        return passes

    def end(self) -> None:
        self._stack.close()


def _passes(sender: socket.socket, receiver: socket.socket) -> bool:
    sender.send(b"x")
    try:
        return receiver.recv(1) == b"x"
    except TimeoutError:
        return False


@pytest.fixture(params=[False, True], ids=["first layer", "both layers"])
def stage(network: Lan, request: pytest.FixtureRequest) -> Iterator[Stage]:
    with network.vm.entered():
        made = Stage(network, request.param)
        users = uids(["prober"])
        nft.load(closed(draining(), users=users) + PERMIT)
        if request.param:
            nft.load(netdev_ruleset.table(draining(), users=users) + UPLINK)
        made.lease("lease")
        yield made
        made.end()


def flows(stage: Stage) -> dict[str, Callable[[], bool]]:
    """One of each, made now."""
    vm, peer, behind = stage.lan.vm, stage.lan.peer, stage.lan.behind
    return {
        "TCP in": stage.tcp(peer, vm, VM, 9020),
        "TCP out": stage.tcp(vm, peer, PEER, 9020),
        "TCP in, IPv6": stage.tcp(peer, vm, VM6, 9020),
        "TCP forwarded out": stage.tcp(behind, peer, PEER, 9021),
        "TCP forwarded in": stage.tcp(peer, behind, BEHIND, 9021),
        "UDP in": stage.udp(peer, vm, VM, 9020),
        "UDP out": stage.udp(vm, peer, PEER, 9020),
        "UDP in, IPv6": stage.udp(peer, vm, VM6, 9020),
        "UDP out, IPv6": stage.udp(vm, peer, PEER6, 9020),
        "UDP forwarded out": stage.udp(behind, peer, PEER, 9021),
        "UDP forwarded in": stage.udp(peer, behind, BEHIND, 9021),
        "UDP in fragments": stage.udp(peer, vm, VM, 9022, b"x" * 5000),
        "ping out": lambda: probe.ping(vm, PEER),
        "ping in": lambda: probe.ping(peer, VM),
        "ping through": lambda: probe.ping(behind, PEER),
        "ping, IPv6": lambda: probe.ping(vm, PEER6),
    }


def new_flows(lan: Lan) -> dict[str, Callable[[], bool]]:
    vm, peer, behind = lan.vm, lan.peer, lan.behind
    return {
        "TCP in": lambda: probe.tcp(peer, vm, VM, 9030),
        "TCP out": lambda: probe.tcp(vm, peer, PEER, 9030),
        "TCP in, IPv6": lambda: probe.tcp(peer, vm, VM6, 9030),
        "TCP forwarded out": lambda: probe.tcp(behind, peer, PEER, 9031),
        "TCP forwarded in": lambda: probe.tcp(peer, behind, BEHIND, 9031),
        "TCP forwarded in, to the port of manage": lambda: probe.tcp(peer, behind, BEHIND, MANAGE_IN),
        "UDP in": lambda: probe.udp(peer, vm, VM, 9030),
        "UDP out": lambda: probe.udp(vm, peer, PEER, 9030),
        "UDP in, IPv6": lambda: probe.udp(peer, vm, VM6, 9030),
        "UDP forwarded out": lambda: probe.udp(behind, peer, PEER, 9031),
        "UDP forwarded in": lambda: probe.udp(peer, behind, BEHIND, 9031),
        "ping out": lambda: probe.ping(vm, STRANGER),
        "ping through": lambda: probe.ping(behind, STRANGER),
    }


def passing(tried: dict[str, Callable[[], bool]]) -> set[str]:
    with ThreadPoolExecutor(max_workers=8) as threads:
        answers = {name: threads.submit(passes) for name, passes in tried.items()}
        return {name for name, answer in answers.items() if answer.result()}


def test_open_flows_live_and_new_ones_are_refused(stage: Stage) -> None:
    old, new = flows(stage), new_flows(stage.lan)
    assert passing(old) == set(old)
    stage.lease("lease_drain")
    assert passing(new) == set()
    assert passing(old) == set(old)
    stage.lease("")
    assert passing(old) == set()
    stage.lease("lease")
    assert passing(new) == set(new), "the probes themselves are right"


def test_a_udp_flow_that_was_silent_while_open_is_not_known(stage: Stage) -> None:
    stage.lease("")
    passes = stage.udp(stage.lan.peer, stage.lan.vm, VM, 9020)
    assert not passes()
    stage.lease("lease_drain")
    assert not passes()
    stage.lease("lease")
    assert passes()
    stage.lease("lease_drain")
    assert passes()


def test_what_always_passes_does_so_in_a_drain(stage: Stage) -> None:
    stage.lease("lease_drain")
    vm, peer = stage.lan.vm, stage.lan.peer
    assert probe.tcp(peer, vm, VM, MANAGE_IN, sent_from=PEER)
    assert probe.tcp(peer, vm, VM6, MANAGE_IN)
    assert probe.tcp(vm, peer, PEER, MANAGE_OUT)
    assert probe.tcp(vm, vm, "127.0.0.1", 9040)
    assert probe.udp(vm, vm, "127.0.0.1", 9040)
    assert probe.udp_answered(vm, peer, PEER, REACH, uid=PROBER_UID)
    assert not probe.tcp(peer, vm, VM, MANAGE_IN, sent_from=STRANGER)


def test_a_drain_ends_with_its_lease(stage: Stage) -> None:
    passes = stage.tcp(stage.lan.peer, stage.lan.vm, VM, 9020)
    stage.lease("lease_drain", "150ms")
    assert passes()
    time.sleep(0.2)
    assert not passes()


def test_flags_behind_the_end_of_a_first_fragment_begin_nothing(stage: Stage) -> None:
    """8 bytes of TCP in the first fragment, the flags in the second: put together, it is a SYN."""
    lan = stage.lan

    def answered(port: int) -> bool:
        packet = segment(PEER, VM, (40_000, port), SYN)
        ethernet = mac(lan.vm) + mac(lan.peer) + IPV4.to_bytes(2)
        with heard(lan.peer) as outside:
            for offset, more in ((0, True), (8, False)):
                body = packet[20:28] if more else packet[28:]
                send(lan.peer, Frame(IPV4, ethernet + _fragment(packet[:20], body, offset, more=more)))
            return bool(outside())

    with lan.vm.socket(socket.SOCK_STREAM) as door:
        door.bind((VM, 9050))
        door.listen(5)
        assert answered(9050)
        stage.lease("lease_drain")
        assert not answered(9050)


def _fragment(header: bytes, body: bytes, offset: int, *, more: bool) -> bytes:
    where = (0x2000 if more else 0) | offset // 8
    made = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 77, where, 64, 6, 0) + header[12:20]
    return made[:10] + struct.pack("!H", internet_sum(made)) + made[12:] + body


def test_a_new_flow_at_the_link_is_refused_by_the_second_layer(network: Lan) -> None:
    """A container on a bridge that holds the uplink: the first layer does not see it."""
    (scene,) = [each for each in scenes() if each.name.startswith("container on a bridge")]
    scene.built(network)
    with network.vm.entered():
        nft.load(closed(draining(), users=uids(["prober"])) + PERMIT)
        nft.load(netdev_ruleset.table(draining(), users=uids(["prober"])) + UPLINK)
        stage = Stage(network, both=True)
        ethernet = mac(network.behind) + mac(network.peer) + IPV4.to_bytes(2)

        def arrives(said: int) -> bool:
            with heard(network.behind) as inside:
                send(network.peer, Frame(IPV4, ethernet + segment(PEER, GUEST, (40_000, 80), said)))
                return bool(inside())

        stage.lease("lease")
        assert arrives(SYN) and arrives(ACK)
        stage.lease("lease_drain")
        assert arrives(ACK) and not arrives(SYN)
        stage.lease("")
        assert not arrives(ACK)
