# SPDX-License-Identifier: Apache-2.0
"""Services with hours of their own: refused while the rest is open, passing while the rest is closed.

The permit is written in nft here, as vmwarden.linux.nft makes it over netlink; the elements are those that
rules.timed_services gives for the leases.
"""

import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

import msgspec
import pytest

from tests.integration import gate_probe as probe
from tests.integration.gate_frames import IPV4, IPV6, Ear, Ends, Frame, crafted, mac, send
from tests.integration.gate_policy import MANAGE_IN, MANAGE_OUT, SCOPE_TCP_IN, gate_policy, uids
from vmwarden.linux import nft
from vmwarden.model.hours import Interval
from vmwarden.model.policy import FlowIn, FlowOut, Hours, Policy, TimedService
from vmwarden.rules import netdev_ruleset, timed_services
from vmwarden.rules.ruleset import DRAIN_BITS, GUARDED_BIT, OPEN_BIT, SERVICES_BIT, closed
from vmwarden.testing.network import BEHIND, PEER, PEER6, STRANGER, VM, VM6, Lan, Namespace
from vmwarden.testing.traffic import family_of

pytestmark = pytest.mark.root

WITHIN_S = 0.4
ALWAYS = (Interval(),)
WEB, WEB_UDP, FEED, FEED_UDP, WIDE, OTHER = 8443, 8444, 9443, 9444, 8500, 9003
#: leases of the rest of the VM, by the posture: the set of the alive table, and of the second layer
STATES = {
    "open": ("lease", "lease_timed"),
    "drain": ("lease_drain", "lease_drain"),
    "guarded": ("lease_guarded", "lease_guarded"),
    "closed": ("lease_services", ""),
}
PERMIT = (
    "table inet vmwarden_alive {\n"
    + "".join(f"set {name} {{ type nf_proto; flags timeout; }}\n" for name, _ in STATES.values())
    + "".join(
        f"chain permit_{suffix} {{ type filter hook {hook} priority -350; policy accept;\n"
        + "".join(
            f"meta nfproto @{name} meta mark set meta mark | {bits:#x} accept\n"
            for name, bits in (
                ("lease", OPEN_BIT),
                ("lease_drain", DRAIN_BITS),
                ("lease_guarded", GUARDED_BIT),
                ("lease_services", SERVICES_BIT),
            )
            if suffix != "forward" or name in ("lease", "lease_drain")
        )
        + "}\n"
        for suffix, hook in (("in", "prerouting"), ("out", "output"), ("forward", "forward"))
    )
    + "}\n"
)
#: as controls.second_layer makes it for each uplink
DEVICE = "".join(
    f"table netdev vmwarden {{ chain {way}_eth0 {{ type filter hook {hook} device eth0 priority -500;"
    f" policy drop; meta protocol @lease accept; goto judge_{way}; }}; }}\n"
    for way, hook in (("in", "ingress"), ("out", "egress"))
)


def timed_policy(drain: str = "0s") -> Policy:
    """The gate's, with a service in and one out over both families, and two of which one is narrower."""
    services = (
        TimedService(
            name="web",
            in_=(
                FlowIn(from_="10.99.0.0/24", tcp=WEB),
                FlowIn(from_="10.99.0.0/24", udp=WEB_UDP),
                FlowIn(from_="::/0", tcp=WEB),
            ),
            open=ALWAYS,
        ),
        TimedService(
            name="feed",
            out=(
                FlowOut(to="10.99.0.2/32", tcp=FEED),
                FlowOut(to="10.99.0.2/32", udp=FEED_UDP),
                FlowOut(to="fd99::/64", tcp=FEED),
            ),
            open=ALWAYS,
        ),
        TimedService(name="all", in_=(FlowIn(from_="0.0.0.0/0", tcp=WIDE),), open=ALWAYS),
        TimedService(name="one", in_=(FlowIn(from_=f"{STRANGER}/32", tcp=WIDE),), open=ALWAYS),
    )
    hours = Hours(open=ALWAYS, drain=drain, services=services)
    return msgspec.structs.replace(gate_policy(), hours=hours)


@dataclass
class Stage:
    """The network with one layer of a gate with services: each has to refuse, and to pass, by itself."""

    lan: Lan
    second: bool
    policy: Policy
    _stack: ExitStack = field(default_factory=ExitStack)

    def lease(
        self, state: str, *names: str, lasting: int = 30_000, begin: Mapping[str, int] | None = None
    ) -> None:
        """One lease for the rest ("" = none), and one for each of these services; no others."""
        first, second = STATES.get(state, ("", ""))
        if self.second:
            at, kept, name = "netdev vmwarden", {name for _, name in STATES.values() if name}, second
            keys = ", ".join(f"{kind} timeout {lasting}ms" for kind in ("ip", "ip6", "0x8100", "0x88a8"))
        else:
            at, kept, name = "inet vmwarden_alive", {name for name, _ in STATES.values()}, first
            keys = f"ipv4 timeout {lasting}ms, ipv6 timeout {lasting}ms"
        told = [f"flush set {at} {each}" for each in sorted(kept)]
        if name:
            told.append(f"add element {at} {name} {{ {keys} }}")
        family = "netdev" if self.second else "inet"
        wanted = timed_services.services(self.policy).elements(dict.fromkeys(names, lasting), begin)
        for of_services, elements in wanted.items():
            told.append(f"flush set {family} vmwarden {of_services}")
            if elements:
                numbers = ((struct.unpack("=I", key)[0], ms) for key, ms in elements)
                keys = ", ".join(f"{number:#x} timeout {ms}ms" for number, ms in numbers)
                told.append(f"add element {family} vmwarden {of_services} {{ {keys} }}")
        nft.load("\n".join(told) + "\n")

    def tcp(
        self, source: Namespace, target: Namespace, to: str, port: int, *, source_port: int = 0
    ) -> Callable[[], bool]:
        """A connection, made now; what it gives says whether a byte passes each way."""
        with target.socket(socket.SOCK_STREAM, family_of(to)) as door:
            caller = self._stack.enter_context(source.socket(socket.SOCK_STREAM, family_of(to)))
            for each in (door, caller):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                each.settimeout(3)
            door.bind((to, port))
            door.listen(1)
            caller.bind(("::" if ":" in to else "0.0.0.0", source_port))
            caller.connect((to, port))
            answering = self._stack.enter_context(door.accept()[0])
        for each in (caller, answering):
            each.settimeout(WITHIN_S)
        return lambda: _passes(caller, answering) and _passes(answering, caller)

    def end(self) -> None:
        self._stack.close()


def _passes(sender: socket.socket, receiver: socket.socket) -> bool:
    sender.send(b"x")
    try:
        return receiver.recv(1) == b"x"
    except TimeoutError:
        return False


def staged(network: Lan, policy: Policy, *, second: bool = False) -> Stage:
    users = uids(["prober"])
    nft.load(
        netdev_ruleset.table(policy, users=users) + DEVICE if second else closed(policy, users=users) + PERMIT
    )
    return Stage(network, second, policy)


@pytest.fixture(params=["first layer", "second layer"])
def layer(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def stage(network: Lan, layer: str) -> Iterator[Stage]:
    with network.vm.entered():
        made = staged(network, timed_policy(), second=layer == "second layer")
        yield made
        made.end()


@pytest.fixture
def draining(network: Lan, layer: str) -> Iterator[Stage]:
    """Of a policy with a drain."""
    with network.vm.entered():
        made = staged(network, timed_policy("30s"), second=layer == "second layer")
        yield made
        made.end()


def probes(lan: Lan) -> dict[str, Callable[[], bool]]:
    """By what passes them: the name's first word."""
    vm, peer, behind = lan.vm, lan.peer, lan.behind
    return {
        "web TCP": lambda: probe.tcp(peer, vm, VM, WEB),
        "web TCP, IPv6": lambda: probe.tcp(peer, vm, VM6, WEB),
        "web UDP": lambda: probe.udp(peer, vm, VM, WEB_UDP),
        "feed TCP": lambda: probe.tcp(vm, peer, PEER, FEED),
        "feed TCP, IPv6": lambda: probe.tcp(vm, peer, PEER6, FEED),
        "feed UDP": lambda: probe.udp(vm, peer, PEER, FEED_UDP),
        "rest in": lambda: probe.tcp(peer, vm, VM, OTHER),
        "rest in, UDP": lambda: probe.udp(peer, vm, VM, WEB),
        "rest out": lambda: probe.tcp(vm, peer, PEER, OTHER),
        "rest out to the port from another": lambda: probe.tcp(vm, peer, STRANGER, FEED),
        "rest out, IPv6": lambda: probe.udp(vm, peer, PEER6, OTHER),
        "rest ping": lambda: probe.ping(peer, VM),
        "rest forwarded": lambda: probe.tcp(behind, peer, PEER, OTHER),
        "scope in": lambda: probe.tcp(peer, vm, VM, SCOPE_TCP_IN, sent_from=PEER),
        "manage in": lambda: probe.tcp(peer, vm, VM, MANAGE_IN, sent_from=PEER),
        "manage out": lambda: probe.tcp(vm, peer, PEER, MANAGE_OUT),
        "loopback to an own address": lambda: probe.tcp(vm, vm, VM, WEB),
    }


def passing(tried: Mapping[str, Callable[[], bool]]) -> set[str]:
    with ThreadPoolExecutor(max_workers=4) as threads:
        answers = {name: threads.submit(passes) for name, passes in tried.items()}
        return {name for name, answer in answers.items() if answer.result()}


def of(tried: Iterable[str], *kinds: str) -> set[str]:
    return {name for name in tried if name.split()[0] in kinds}


PASSES_BESIDES = {"open": ("rest", "scope"), "guarded": ("scope",), "closed": (), "drain": ()}


def passing_in(stage: Stage, state: str, *leased: str) -> set[str]:
    """What is missing or too many of what should pass."""
    tried = probes(stage.lan)
    expected = of(tried, *leased, *PASSES_BESIDES[state], "manage", "loopback")
    if state == "drain":
        expected |= {"rest ping"}  # between these two there was one while it was open
        # the second layer knows only what begins over TCP
        expected |= {"rest in, UDP", "rest out, IPv6"} if stage.second else set()
    stage.lease(state, *leased)
    return passing(tried) ^ expected


def test_a_service_passes_in_its_hours_and_in_no_others(draining: Stage) -> None:
    for state in PASSES_BESIDES:
        assert passing_in(draining, state, "web") == set()
        assert passing_in(draining, state, "feed") == set()


def test_the_same_without_a_drain(stage: Stage) -> None:
    assert passing_in(stage, "open", "web") == set()
    assert passing_in(stage, "closed", "feed") == set()


def test_open_flows_end_with_their_service(stage: Stage) -> None:
    vm, peer = stage.lan.vm, stage.lan.peer
    for number, state in enumerate(("open", "closed")):
        stage.lease("open", "web", "feed")
        flows = {
            "web": stage.tcp(peer, vm, VM, WEB),
            "web, IPv6": stage.tcp(peer, vm, VM6, WEB),
            "feed": stage.tcp(vm, peer, PEER, FEED),
            "rest": stage.tcp(vm, peer, PEER, OTHER + number),
        }
        stage.lease(state, "feed")
        assert passing(flows) == ({"feed", "rest"} if state == "open" else {"feed"})
        stage.end()


def test_a_slot_ends_in_the_kernel(stage: Stage) -> None:
    stage.lease("open", "web")
    flow = stage.tcp(stage.lan.peer, stage.lan.vm, VM, WEB)
    stage.lease("open", "web", lasting=200)
    assert flow()
    time.sleep(0.25)
    assert not flow()


def test_when_the_warden_dies_its_services_close_whatever_is_left_of_their_leases(network: Lan) -> None:
    with network.vm.entered():
        stage = staged(network, timed_policy())
        stage.lease("closed", "web", "feed")
        tried = {name: each for name, each in probes(network).items() if name.startswith(("web", "feed"))}
        assert passing(tried) == set(tried)
        nft.load("delete table inet vmwarden_alive\n")
        assert passing(tried) == set()


def test_a_flow_begun_against_the_direction_of_a_service_is_none_of_it(network: Lan) -> None:
    into, out = (network.peer, network.vm), (network.vm, network.peer)
    tried = ((out, PEER, WEB), (out, PEER6, WEB), (into, VM, FEED), (into, VM6, FEED))
    with network.vm.entered():
        stage = staged(network, timed_policy())
        stage.lease("open", "web", "feed")
        flows = [stage.tcp(*ends, to, OTHER, source_port=port) for ends, to, port in tried]
        assert all(passes() for passes in flows), "they are of the rest"
        stage.lease("closed", "web", "feed")
        assert not any(passes() for passes in flows)
        stage.end()


def test_no_flow_begins_against_the_direction_of_a_service(stage: Stage) -> None:
    vm, peer = stage.lan.vm, stage.lan.peer
    stage.lease("closed", "web", "feed")
    assert not probe.tcp(vm, peer, PEER, OTHER, source_port=WEB)
    assert not probe.tcp(peer, vm, VM, OTHER, source_port=FEED)


def test_the_narrower_of_two_services_counts(stage: Stage) -> None:
    tried = {
        "all": lambda: probe.tcp(stage.lan.peer, stage.lan.vm, VM, WIDE, sent_from=PEER),
        "one": lambda: probe.tcp(stage.lan.peer, stage.lan.vm, VM, WIDE, sent_from=STRANGER),
    }
    for state in ("open", "closed"):
        for leased in (("all",), ("one",), ("all", "one"), ()):
            stage.lease(state, *leased)
            assert passing(tried) == set(leased)


def test_what_is_routed_for_others_is_refused_as_a_service_and_never_passes_as_one(stage: Stage) -> None:
    vm, peer, behind = stage.lan.vm, stage.lan.peer, stage.lan.behind
    tried = {
        "out to what feed calls": lambda: probe.tcp(behind, peer, PEER, FEED),
        "out to what feed calls, UDP": lambda: probe.udp(behind, peer, PEER, FEED_UDP),
        "in to the port of web": lambda: probe.tcp(peer, behind, BEHIND, WEB),
    }
    stage.lease("open", "web", "feed")
    assert passing(tried) == set(tried)
    stage.lease("open")
    assert passing(tried) == set()
    stage.lease("closed", "web", "feed")
    assert passing(tried) == set()
    assert probe.tcp(peer, vm, VM, WEB)


def test_fragments_of_the_rest_pass_and_are_not_read_as_ports(stage: Stage) -> None:
    """Behind every header of a later fragment stands what looks like a service that is closed."""
    stage.lease("open")
    payload = struct.pack("!HH", FEED_UDP, WEB_UDP) * 2000
    for source, target, to in (
        (stage.lan.peer, stage.lan.vm, VM),
        (stage.lan.vm, stage.lan.peer, PEER),
    ):
        with target.socket(socket.SOCK_DGRAM) as server, source.socket(socket.SOCK_DGRAM) as client:
            server.bind((to, OTHER))
            server.settimeout(WITHIN_S)
            client.sendto(payload, (to, OTHER))
            assert server.recv(10_000) == payload


def ends(lan: Lan) -> Ends:
    return Ends(mac(lan.vm), mac(lan.peer), VM, PEER, VM6, PEER6)


def test_a_later_fragment_that_looks_like_a_service_does_not_pass_a_closed_gate(network: Lan) -> None:
    """From a packet socket, so that it is the second layer's."""
    with network.vm.entered():
        stage = staged(network, timed_policy(), second=True)
        stage.lease("closed", "web", "feed")
        frames = crafted(ends(network), b"token-of-a-fragment", ports=(WEB, FEED))
        with Ear(network.peer) as ear:
            for name, frame in frames.items():
                if "later fragment that looks like manage" in name:
                    send(network.vm, frame)
            assert not ear.heard(b"token-of-a-fragment")


def test_a_frame_that_is_not_what_it_is_called_carries_no_closed_service(network: Lan) -> None:
    with network.vm.entered():
        stage = staged(network, timed_policy(), second=True)
        frame = crafted(ends(network), b"token", ports=(50_000, FEED))["IPv4, unknown protocol"]
        tcp = frame.data[:23] + b"\x06" + frame.data[24:]
        for leased, label, passes in (
            (("feed",), IPV4, True),
            ((), IPV4, False),
            ((), IPV6, False),
            (("feed",), IPV6, False),
        ):
            stage.lease("open", *leased)
            with Ear(network.peer) as ear:
                send(network.vm, Frame(label, tcp))
                assert ear.heard(b"token") is passes, (leased, label)


def test_in_the_drain_of_a_service_its_open_flows_live_and_none_begins(draining: Stage) -> None:
    vm, peer = draining.lan.vm, draining.lan.peer
    draining.lease("open", "web", "feed")
    flows = {
        "web": draining.tcp(peer, vm, VM, WEB),
        "feed": draining.tcp(vm, peer, PEER, FEED),
    }
    for state in ("open", "closed", "drain"):
        draining.lease(state, "web", "feed", begin={"feed": 30_000})
        assert passing(flows) == set(flows)
        assert not probe.tcp(peer, vm, VM, WEB)
        assert probe.udp(peer, vm, VM, WEB_UDP), "nothing tells what begins over UDP"
        assert probe.tcp(vm, peer, PEER, FEED)
    draining.lease("open")
    assert passing(flows) == set()


def test_nothing_turns_connection_tracking_on(stage: Stage) -> None:
    assert " ct " not in stage.lan.vm.ruleset()
