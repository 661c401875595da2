# SPDX-License-Identifier: Apache-2.0
"""How a closed gate ends TCP flows: both ends are told by bare resets, few, and no payload leaves with them.

Through the first layer, and through both.  behind is a container that this VM routes for.
"""

import errno
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.integration.gate_frames import IPV4, Frame, mac, send
from tests.integration.gate_policy import gate_policy, uids
from tests.integration.gate_segments import ACK, PSH, RST, bare, heard, raw, segment
from tests.integration.gate_ways import GUEST, scenes, stands_in
from vmwarden.controls.gate import NftGate
from vmwarden.controls.second_layer import SecondLayer
from vmwarden.linux import nft
from vmwarden.linux.sock_diag import SockDiag
from vmwarden.testing.network import BEHIND, PEER, PEER6, VM, VM6, Lan, Namespace
from vmwarden.testing.traffic import family_of

pytestmark = pytest.mark.root

WITHIN_S = 1.0
SILENT_S = 0.4
BEHIND6 = "fd98::2"
FORWARDED, PUBLISHED, OWN = 9010, 9011, 9012
TOKEN = b"secret-of-this-vm"


@dataclass
class Stage:
    """The network with an open gate."""

    lan: Lan
    gate: NftGate
    both: bool
    _stack: ExitStack = field(default_factory=ExitStack)

    def close_gate(self, *, ending: bool) -> None:
        """ending: as the warden does it when it takes quarantined; else as in held."""
        self.gate.flush()
        if ending:
            nft.load("add element inet vmwarden ending { ipv4 timeout 20s, ipv6 timeout 20s }\n")
            if self.both:
                nft.load("add element netdev vmwarden ending { ip timeout 20s, ip6 timeout 20s }\n")

    def flow(
        self, source: Namespace, target: Namespace, to: str, port: int, *, at: str = ""
    ) -> tuple[socket.socket, socket.socket]:
        """A connection.  at: where target listens, if something translates the address."""
        door = self._stack.enter_context(target.socket(socket.SOCK_STREAM, family_of(to)))
        caller = self._stack.enter_context(source.socket(socket.SOCK_STREAM, family_of(to)))
        for each in (door, caller):
            each.settimeout(3)
        door.bind((at or to, port))
        door.listen(1)
        caller.connect((to, port))
        answering = self._stack.enter_context(door.accept()[0])
        return caller, answering

    def end(self) -> None:
        self._stack.close()


def renumber(lan: Lan) -> None:
    """Another number for the uplink than its other end has.

    A veth hands packets over with the socket that sent them, and Linux 6.18 takes the number of the device
    at which that socket hears (in the other namespace) for one of this namespace: `fib` then answers as if
    the packet's target were at the uplink.  What comes from a wire has no socket.
    """
    lan.vm.run("ip", "link", "del", "eth0")
    lan.vm.run(*"ip link add eth0 index 77 type veth peer name eth0 netns".split(), lan.peer.name)  # noqa: SIM905
    for where, *addresses in ((lan.vm, f"{VM}/24", f"{VM6}/64"), (lan.peer, f"{PEER}/24", f"{PEER6}/64")):
        for address in addresses:
            where.run("ip", "addr", "add", address, "dev", "eth0", *(["nodad"] if ":" in address else []))
        where.run("ip", "link", "set", "eth0", "up")
    lan.peer.run("ip", "route", "add", f"{BEHIND}/32", "via", VM)


@pytest.fixture(params=[False, True], ids=["first layer", "both layers"])
def stage(network: Lan, request: pytest.FixtureRequest) -> Iterator[Stage]:
    if request.param:
        renumber(network)
    for where, device, address in (
        (network.vm, "eth1", "fd98::1/64"),
        (network.behind, "eth0", f"{BEHIND6}/64"),
    ):
        where.run("ip", "addr", "add", address, "dev", device, "nodad")
    network.behind.run("ip", "-6", "route", "add", "default", "via", "fd98::1")
    network.peer.run("ip", "-6", "route", "add", f"{BEHIND6}/128", "via", "fd99::1")
    with network.vm.entered():
        Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
        second = SecondLayer(uids, stands_in=stands_in) if request.param else None
        gate = NftGate(uids, second=second, lasting_tables=False)
        gate.install(gate_policy())
        gate.lease(30_000)
        made = Stage(network, gate, request.param)
        yield made
        made.end()
        gate.remove()


def ended(end: socket.socket) -> bool:
    """Whether this end, which may send, has been told."""
    deadline = time.monotonic() + 3
    end.settimeout(0.1)
    while time.monotonic() < deadline:
        try:
            end.send(TOKEN)
            end.recv(1)
        except TimeoutError:
            continue
        except OSError as error:
            assert error.errno in (errno.ECONNRESET, errno.EPIPE)
            return True
    return False


def silent(*ends: socket.socket) -> bool:
    """Whether nobody is told anything for a while."""
    for end in ends:
        end.settimeout(0.1)
        end.send(TOKEN)
    deadline = time.monotonic() + SILENT_S
    while time.monotonic() < deadline:
        for end in ends:
            try:
                end.recv(1)
                return False
            except TimeoutError:
                continue
            except OSError:
                return False
    return True


@pytest.mark.parametrize(("inner", "outer"), [(BEHIND, PEER), (BEHIND6, PEER6)], ids=["IPv4", "IPv6"])
def test_both_ends_of_a_forwarded_flow_are_told_and_no_payload_passes(
    stage: Stage, inner: str, outer: str
) -> None:
    behind, peer = stage.lan.behind, stage.lan.peer
    flows = [
        stage.flow(behind, peer, outer, FORWARDED),
        stage.flow(peer, behind, inner, FORWARDED),
    ]
    with heard(peer) as outside, heard(behind) as inside:
        stage.close_gate(ending=True)
        for flow in flows:
            assert all(ended(end) for end in flow)
        for frames in (outside(), inside()):
            assert frames
            assert all(bare(frame) for frame in frames)
            assert not any(TOKEN in frame for frame in frames)


def test_both_ends_of_a_published_port_are_told(stage: Stage) -> None:
    """As Docker does it: the address is translated on the way in."""
    stage.lan.vm.run(
        "nft",
        "add table ip nat; add chain ip nat pre { type nat hook prerouting priority -100; }; "
        f"add rule ip nat pre ip daddr {VM} tcp dport {PUBLISHED} dnat to {BEHIND}",
    )
    flow = stage.flow(stage.lan.peer, stage.lan.behind, VM, PUBLISHED, at=BEHIND)
    stage.close_gate(ending=True)
    assert all(ended(end) for end in flow)


def test_the_other_end_of_a_flow_of_this_vm_is_told_when_it_speaks(stage: Stage) -> None:
    caller, _ = stage.flow(stage.lan.peer, stage.lan.vm, VM, OWN)
    stage.close_gate(ending=True)
    assert ended(caller)


def destroy(port: int) -> None:
    """The VM's sockets at that port, as controls.flows does it."""
    table = SockDiag()
    for batch in table.flows("tcp"):
        table.destroy([handle for handle in batch if handle.flow.local_port == port])
    table.close()


@pytest.mark.parametrize(("here", "there"), [(VM, PEER), (VM6, PEER6)], ids=["IPv4", "IPv6"])
def test_the_reset_of_a_socket_of_this_vm_gets_there_while_ending_and_only_then(
    stage: Stage, here: str, there: str
) -> None:
    first, _ = stage.flow(stage.lan.peer, stage.lan.vm, here, OWN)
    second, _ = stage.flow(stage.lan.peer, stage.lan.vm, here, OWN + 1)
    stage.close_gate(ending=False)
    with heard(stage.lan.peer) as outside:
        destroy(OWN)
        assert outside() == []
        stage.close_gate(ending=True)
        destroy(OWN + 1)
        second.settimeout(3)
        with pytest.raises(ConnectionResetError):
            second.recv(1)
        assert outside()
        assert all(bare(frame) for frame in outside())
    first.settimeout(0.1)
    with pytest.raises(TimeoutError):
        first.recv(1)


def test_nobody_is_told_anything_in_held(stage: Stage) -> None:
    behind, peer, vm = stage.lan.behind, stage.lan.peer, stage.lan.vm
    ends = (*stage.flow(behind, peer, PEER, FORWARDED), stage.flow(peer, vm, VM, OWN)[0])
    with heard(peer) as outside, heard(behind) as inside:
        stage.close_gate(ending=False)
        assert silent(*ends)
        assert outside() == inside() == []
    stage.gate.lease(30_000)
    # and so they live on
    ends[1].settimeout(5)
    assert ends[1].recv(100).startswith(TOKEN)


def test_the_ending_ends_by_itself(stage: Stage) -> None:
    ends = stage.flow(stage.lan.behind, stage.lan.peer, PEER, FORWARDED)
    stage.gate.flush()
    nft.load("add element inet vmwarden ending { ipv4 timeout 50ms, ipv6 timeout 50ms }\n")
    if stage.both:
        nft.load("add element netdev vmwarden ending { ip timeout 50ms, ip6 timeout 50ms }\n")
    time.sleep(0.1)
    assert silent(*ends)


def test_a_new_flow_is_not_answered(stage: Stage) -> None:
    stage.close_gate(ending=True)
    for source, to in ((stage.lan.behind, PEER), (stage.lan.peer, BEHIND), (stage.lan.peer, VM)):
        with source.socket(socket.SOCK_STREAM) as caller:
            caller.settimeout(SILENT_S)
            with pytest.raises(TimeoutError):
                caller.connect((to, OWN))


#: segments that somebody with CAP_NET_RAW would have out as a reset
PAYLOADS = {
    "reset with a kilobyte": (RST, TOKEN * 60, b""),
    "reset and ACK with a kilobyte": (RST | ACK, TOKEN * 60, b""),
    "reset with a few bytes": (RST, TOKEN[:12], b""),
    "reset with options full of it": (RST, b"", (b"\xfe\x28" + TOKEN * 3)[:40]),
    "reset and push": (RST | PSH | ACK, TOKEN, b""),
    "reset with a flag more": (RST | PSH, b"", b""),
    "no reset": (ACK, TOKEN, b""),
}


def test_a_crafted_reset_carries_nothing_out(stage: Stage) -> None:
    """Of this VM, of a container, below the first layer; also of a flow that was just told."""
    lan = stage.lan
    _, far = stage.flow(lan.behind, lan.peer, PEER, FORWARDED)
    ports = (far.getpeername()[1], FORWARDED)
    ethernet = mac(lan.peer) + mac(lan.vm) + IPV4.to_bytes(2)
    stage.close_gate(ending=True)
    assert ended(far)
    for table in ("inet", "netdev") if stage.both else ("inet",):
        # as if it were told again and again
        flow = f"{PEER} . {FORWARDED} . {BEHIND} . {ports[0]}"
        nft.load(f"flush set {table} vmwarden reset4\n")
        nft.load(f"add element {table} vmwarden reset4 {{ {flow} timeout 60s }}\n")
    with heard(lan.peer) as outside:
        for name, (said, payload, options) in PAYLOADS.items():
            outside().clear()
            for source, pair in ((BEHIND, ports), (VM, (OWN, 40_000))):
                packet = segment(source, PEER, pair, said, payload, options)
                raw(lan.vm, packet, PEER)
                raw(lan.behind, packet, PEER)
                if stage.both:
                    send(lan.vm, Frame(IPV4, ethernet + packet))
            assert outside() == [], name


def test_a_bare_reset_of_a_container_does_not_pass(stage: Stage) -> None:
    """Only what this VM has made itself."""
    stage.close_gate(ending=True)
    with heard(stage.lan.peer) as outside:
        raw(stage.lan.behind, segment(BEHIND, PEER, (FORWARDED, 40_000), RST), PEER)
        assert outside() == []


def test_few_resets_are_made_however_much_comes_in(stage: Stage) -> None:
    stage.close_gate(ending=True)
    lan = stage.lan
    ethernet = mac(lan.vm) + mac(lan.peer) + IPV4.to_bytes(2)
    with heard(lan.peer) as outside, lan.peer.entered():
        sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        began = time.monotonic()
        for number in range(2000):
            # a sender that goes on and on is told once; after that other flows have their turn
            ports = (40_000, OWN) if number < 1000 else (number, OWN)
            sender.sendto(ethernet + segment(PEER, VM, ports, ACK | PSH, TOKEN), ("eth0", IPV4))
        sender.close()
        took = time.monotonic() - began
        answers = [(int.from_bytes(frame[36:38]), bare(frame)) for frame in outside()]
    assert all(right for _, right in answers)
    to_one = [port for port, _ in answers if port == 40_000]
    assert 1 <= len(to_one) <= 1 + took / 0.5
    assert 150 <= len(answers) <= 201 + 200 * took + len(to_one)


def bridged(lan: Lan) -> bytes:
    """A container on a bridge that holds the uplink; its MAC."""
    (scene,) = [each for each in scenes() if each.name.startswith("container on a bridge")]
    scene.built(lan)
    return mac(lan.behind)


def sharing(lan: Lan) -> bytes:
    """A macvlan child in another namespace that has the MAC of the uplink, as ipvlan children have it."""
    lan.vm.run(*"ip link add link eth0 name mv0 type macvlan mode passthru".split())  # noqa: SIM905
    lan.vm.run("ip", "link", "set", "mv0", "netns", lan.behind.name)
    lan.behind.run("ip", "link", "set", "eth0", "down")
    lan.behind.run("ip", "link", "set", "mv0", "up")
    lan.behind.run("ip", "addr", "add", f"{GUEST}/24", "dev", "mv0")
    return mac(lan.vm)


@pytest.mark.parametrize(("built", "device"), [(bridged, "eth0"), (sharing, "mv0")])
def test_a_frame_for_another_at_the_link_does_not_come_in_while_ending(
    network: Lan, built: Callable[[Lan], bytes], device: str
) -> None:
    """What comes in for it never reaches the first layer, so the second must not let it through."""
    target = built(network)
    with network.vm.entered():
        gate = NftGate(uids, second=SecondLayer(uids, stands_in=stands_in), lasting_tables=False)
        gate.install(gate_policy())
        stage = Stage(network, gate, both=True)
        stage.close_gate(ending=True)
        packet = segment(PEER, GUEST, (40_000, 80), ACK | PSH, TOKEN)
        frame = target + mac(network.peer) + IPV4.to_bytes(2) + packet
        with heard(network.behind, device) as inside:
            send(network.peer, Frame(IPV4, frame))
            assert inside() == []
            gate.lease(30_000)
            send(network.peer, Frame(IPV4, frame))
            assert len(inside()) == 1
        gate.remove()
