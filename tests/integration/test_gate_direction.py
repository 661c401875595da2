# SPDX-License-Identifier: Apache-2.0
"""Who began a TCP flow: one that was begun against its direction ends with the lease, and no other does."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import msgspec
import pytest

from tests.integration.gate_policy import (
    MANAGE_IN,
    MANAGE_OUT,
    PROBER_UID,
    REACH,
    SCOPE_TCP_IN,
    gate_policy,
    nft_gate,
)
from tests.integration.test_gate_services import FEED, WEB, timed_policy
from vmwarden.controls.gate import NftGate
from vmwarden.linux import nft
from vmwarden.linux.sock_diag import SockDiag
from vmwarden.model.policy import FlowIn, FlowOut, Policy, Reach, Scope
from vmwarden.ports.gate import ServiceLeases
from vmwarden.rules import direction
from vmwarden.rules.ruleset import TABLE
from vmwarden.testing.network import PEER, PEER6, VM, VM6, Lan, Namespace
from vmwarden.testing.traffic import family_of

pytestmark = pytest.mark.root

WITHIN_S = 0.4
#: not in any policy, and below what a client is given
SERVICE, REACH_TCP, SCOPE_OUT = 9003, 4460, 7013


def policy() -> Policy:
    """The gate's, with TCP in reach and in what a scope calls, and manage.out over IPv6."""
    plain = gate_policy()
    manage = msgspec.structs.replace(
        plain.manage, out=(*plain.manage.out, FlowOut(to="fd99::2/128", tcp=MANAGE_OUT))
    )
    return msgspec.structs.replace(
        plain,
        manage=manage,
        reach=(*plain.reach, Reach(to="10.99.0.2/32", as_="prober", tcp=REACH_TCP)),
        scopes=(*plain.scopes, Scope(name="calls", out=(FlowOut(to="10.99.0.0/24", tcp=SCOPE_OUT),))),
    )


@pytest.fixture
def gate(network: Lan) -> Iterator[NftGate]:
    """In the VM, open; so is this thread."""
    with network.vm.entered():
        # not lasting: the tests put elements in with nft, and who keeps a table is the only one to change it
        made = nft_gate(lasting=False)
        made.install(policy())
        made.lease(30_000)
        yield made
        made.remove()


@contextmanager
def flow(
    source: Namespace, target: Namespace, to: str, port: int, *, source_port: int = 0
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection: (who began it, who answered).  Raises TimeoutError when it does not come about."""
    with (
        target.socket(socket.SOCK_STREAM, family_of(to)) as door,
        source.socket(socket.SOCK_STREAM, family_of(to)) as caller,
    ):
        for each in (door, caller):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.settimeout(WITHIN_S)
        door.bind((to, port))
        door.listen(1)
        caller.bind(({VM: PEER, PEER: VM, VM6: PEER6, PEER6: VM6}[to], source_port))
        caller.connect((to, port))
        answering = door.accept()[0]
        door.close()
        answering.settimeout(WITHIN_S)
        with answering:
            yield caller, answering


def alive(ends: tuple[socket.socket, socket.socket]) -> bool:
    """A byte each way, whichever way lives."""
    passed = []
    for sender, receiver in (ends, ends[::-1]):
        try:
            sender.send(b"x")
            passed.append(receiver.recv(1) == b"x")
        except TimeoutError:
            passed.append(False)
    assert len(set(passed)) == 1, "never one way alone"
    return passed[0]


def written_down(vm: Namespace) -> int:
    """Elements of both sets."""
    found = 0
    for name in ("backward4", "backward6"):
        listed = json.loads(vm.run("nft", "-j", "list", "set", "inet", TABLE, name).stdout)
        found += len(listed["nftables"][1]["set"].get("elem", ()))
    return found


#: what looks like a reply of manage, reach or a scope, by (who begins, address, port, source port)
AGAINST = {
    "in from the port of manage.out": ("in", VM, SERVICE, MANAGE_OUT),
    "in from the port of manage.out, IPv6": ("in", VM6, SERVICE, MANAGE_OUT),
    "in from the port of reach": ("in", VM, SERVICE, REACH_TCP),
    "in from the port that a scope calls": ("in", VM, SERVICE, SCOPE_OUT),
    "out from the port of manage.in": ("out", PEER, SERVICE, MANAGE_IN),
    "out from the port of manage.in, IPv6": ("out", PEER6, SERVICE, MANAGE_IN),
    "out from the port of a scope": ("out", PEER, SERVICE, SCOPE_TCP_IN),
    # begun rightly, by what passes less long than what it looks like
    "in to a scope from the port of manage.out": ("in", VM, SCOPE_TCP_IN, MANAGE_OUT),
    "in to a scope from the port of reach": ("in", VM, SCOPE_TCP_IN, REACH_TCP),
    "out to what a scope calls from the port of manage.in": ("out", PEER, SCOPE_OUT, MANAGE_IN),
    "out to reach, by another user, from the port of manage.in": ("out", PEER, REACH_TCP, MANAGE_IN),
    "out to reach, by another user, from the port of a scope": ("out", PEER, REACH_TCP, SCOPE_TCP_IN),
}


@pytest.mark.parametrize("name", AGAINST)
def test_a_flow_against_its_direction_ends_with_the_lease(network: Lan, gate: NftGate, name: str) -> None:
    way, to, port, source_port = AGAINST[name]
    ends = (network.peer, network.vm) if way == "in" else (network.vm, network.peer)
    with flow(*ends, to, port, source_port=source_port) as made:
        assert alive(made), "while open it passes as any other"
        gate.lease(30_000, guarded=True)
        assert not alive(made)
        gate.flush()
        assert not alive(made)
        gate.lease(30_000)
        made[0].settimeout(5)  # TCP waits longer each time before it tries again
        assert made[0].recv(1) == b"x", "it lives on with the next lease"


#: the same of services with hours of their own
AGAINST_SERVICES = {
    "in to a service from the port of manage.out": ("in", VM, WEB, MANAGE_OUT),
    "in to a scope from the port that a service calls": ("in", VM, SCOPE_TCP_IN, FEED),
    "in to a service from the port that another calls": ("in", VM, WEB, FEED),
    "out to a service from the port of manage.in": ("out", PEER, FEED, MANAGE_IN),
    "out to what a scope calls from the port of a service": ("out", PEER, SCOPE_OUT, WEB),
    "out to a service from the port of a scope": ("out", PEER, FEED, SCOPE_TCP_IN),
}


@pytest.mark.parametrize("name", AGAINST_SERVICES)
def test_what_is_begun_by_one_service_does_not_pass_as_another(network: Lan, name: str) -> None:
    way, to, port, source_port = AGAINST_SERVICES[name]
    ends = (network.peer, network.vm) if way == "in" else (network.vm, network.peer)
    both = {"web": 30_000, "feed": 30_000}
    with network.vm.entered(), closing(nft_gate(lasting=False)) as gate:
        gate.install(msgspec.structs.replace(policy(), hours=timed_policy().hours))
        gate.lease(30_000, services=ServiceLeases(both, both))
        with flow(*ends, to, port, source_port=source_port) as made:
            assert alive(made), "while open it passes as any other"
            gate.lease(0, services=ServiceLeases(both, both))
            assert not alive(made)
            gate.flush()
            assert not alive(made)
        gate.remove()


def test_flows_of_scopes_live_on_while_guarded_and_end_when_closed(network: Lan, gate: NftGate) -> None:
    vm, peer = network.vm, network.peer
    with (
        flow(peer, vm, VM, SCOPE_TCP_IN) as into,
        flow(vm, peer, PEER, SCOPE_OUT) as out,
        flow(peer, vm, VM, SCOPE_TCP_IN, source_port=SCOPE_OUT) as both,
    ):
        flows = (into, out, both)
        gate.lease(30_000, guarded=True)
        assert [alive(each) for each in flows] == [True] * 3
        gate.flush()
        assert [alive(each) for each in flows] == [False] * 3


def test_flows_of_manage_live_on_whatever_their_ports_and_however_they_are_idle(
    network: Lan, gate: NftGate
) -> None:
    vm, peer = network.vm, network.peer
    with (
        flow(peer, vm, VM, MANAGE_IN) as into,
        # the owner's client may have any port, also that of manage.out
        flow(peer, vm, VM6, MANAGE_IN, source_port=MANAGE_OUT) as odd,
        flow(vm, peer, PEER, MANAGE_OUT) as out,
        flow(vm, peer, PEER, MANAGE_OUT, source_port=MANAGE_IN) as both,
    ):
        assert written_down(vm) == 0
        gate.flush()
        assert all(alive(each) for each in (into, odd, out, both))


def test_a_flow_that_began_before_there_was_a_gate_lives_on(network: Lan) -> None:
    """The owner's session over which he applies his first policy."""
    with network.vm.entered(), flow(network.peer, network.vm, VM, MANAGE_IN) as session:
        gate = nft_gate()
        gate.install(policy())
        assert alive(session)
        gate.remove()


def test_what_is_written_down_outlives_an_exchange_of_rules(network: Lan, gate: NftGate) -> None:
    more = msgspec.structs.replace(
        policy(), scopes=(Scope(name="other", in_=(FlowIn(from_="192.0.2.0/24", udp=1),)),)
    )
    with flow(network.peer, network.vm, VM, SERVICE, source_port=MANAGE_OUT) as made:
        gate.install(more)
        assert written_down(network.vm) == 1
        gate.flush()
        assert not alive(made)


def test_the_same_ports_begun_rightly_are_taken_out(network: Lan, gate: NftGate) -> None:
    with flow(network.peer, network.vm, VM, SERVICE, source_port=MANAGE_OUT) as made:
        assert alive(made)
    # the end that answers closed last: nobody waits with this pair of ports but the peer
    assert written_down(network.vm) == 1
    with network.peer.socket(socket.SOCK_STREAM) as door, network.vm.socket(socket.SOCK_STREAM) as caller:
        for each in (door, caller):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.settimeout(WITHIN_S)
        door.bind((PEER, MANAGE_OUT))
        door.listen(1)
        caller.bind((VM, SERVICE))
        caller.connect((PEER, MANAGE_OUT))
        assert written_down(network.vm) == 0


def test_where_no_more_can_be_written_down_no_such_flow_begins(network: Lan, gate: NftGate) -> None:
    full = ", ".join(f"192.0.2.1 . {port} . 192.0.2.2 . 1" for port in range(direction.SIZE))
    nft.load(f"add element inet {TABLE} backward4 {{ {full} }}\n")
    peer, vm = network.peer, network.vm
    with pytest.raises(TimeoutError), flow(peer, vm, VM, SERVICE, source_port=MANAGE_OUT):
        pass
    with flow(peer, vm, VM, SERVICE) as ordinary, flow(peer, vm, VM, MANAGE_IN) as manage:
        assert alive(ordinary)
        gate.flush()
        assert not alive(ordinary)
        assert alive(manage)


def test_an_older_flow_against_its_direction_is_told_by_who_listens(network: Lan) -> None:
    vm, peer = network.vm, network.peer
    with (
        vm.entered(),
        flow(peer, vm, VM, SERVICE, source_port=MANAGE_OUT) as backward,
        flow(peer, vm, VM, MANAGE_IN) as session,
        flow(vm, peer, PEER, MANAGE_OUT) as ours,
        vm.socket(socket.SOCK_STREAM) as service,
    ):
        service.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        service.bind((VM, SERVICE))
        service.listen(1)
        gate = nft_gate(lasting=False)
        gate.install(policy())
        sockets = SockDiag()
        found = direction.begun_before(policy(), sockets.tcp())
        sockets.close()
        assert [len(keys) for keys in found.values()] == [1, 0]
        (key,) = found["backward4"]
        remote, local = (
            f"{socket.inet_ntoa(end[:4])} . {int.from_bytes(end[4:6])}" for end in (key[:8], key[8:])
        )
        nft.load(f"add element inet {TABLE} backward4 {{ {remote} . {local} }}\n")
        assert written_down(vm) == 1
        assert not alive(backward)
        assert alive(session) and alive(ours)
        gate.remove()


def test_what_reach_asked_over_udp_is_answered_and_nothing_else_comes_from_there(
    network: Lan, gate: NftGate
) -> None:
    gate.flush()
    vm, peer = network.vm, network.peer
    with (
        peer.socket(socket.SOCK_DGRAM) as server,
        vm.socket(socket.SOCK_DGRAM) as other,
    ):
        server.bind((PEER, REACH))
        server.settimeout(WITHIN_S)
        other.bind((VM, SERVICE))
        other.settimeout(WITHIN_S)
        os.seteuid(PROBER_UID)
        try:
            asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # in the VM, as this thread
        finally:
            os.seteuid(0)
        with asking:
            asking.settimeout(WITHIN_S)
            asking.bind((VM, SERVICE + 1))
            server.sendto(b"unasked", (VM, SERVICE + 1))
            with pytest.raises(TimeoutError):
                asking.recv(10)
            asking.sendto(b"question", (PEER, REACH))
            server.sendto(b"answer", server.recvfrom(10)[1])
            assert asking.recv(10) == b"answer"
            server.sendto(b"for another", (VM, SERVICE))
            with pytest.raises(TimeoutError):
                other.recv(10)


def test_nothing_turns_connection_tracking_on(network: Lan, gate: NftGate) -> None:
    with flow(network.peer, network.vm, VM, MANAGE_IN) as made:
        gate.flush()
        assert alive(made)
    assert " ct " not in network.vm.ruleset()
