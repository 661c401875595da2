# SPDX-License-Identifier: Apache-2.0
"""Ending the VM's own flows, in the kernel: which go, which stay, what both ends hear of it, and the time."""

import errno
import os
import resource
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.integration.gate_policy import (
    MANAGE_IN,
    MANAGE_OUT,
    PROBER_UID,
    REACH,
    gate_policy,
    nft_gate,
    uids,
)
from vmwarden.controls.flows import OwnFlows
from vmwarden.errors import ControlFailed
from vmwarden.linux.sock_diag import SockDiag
from vmwarden.model.flow import Flow, Progress
from vmwarden.ports.flows import TURN_MS
from vmwarden.ports.gate import LONGEST_LEASE_MS
from vmwarden.testing.network import GATEWAY, PEER, PEER6, STRANGER, VM, VM6, Lan, Namespace
from vmwarden.testing.traffic import family_of

pytestmark = pytest.mark.root

WITHIN_S = 3.0
STREAM, DATAGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM
#: a turn on a loaded machine: the step that was begun is finished
SLACK_MS = 40.0
#: an address of the peer's network that nobody has
NOBODY = "10.99.0.99"


class Stage:
    """Sockets of the VM and its peer, all closed in the end."""

    def __init__(self, network: Lan, stack: ExitStack) -> None:
        self.network = network
        self._stack = stack

    def made(self, where: Namespace, kind: socket.SocketKind, family: int) -> socket.socket:
        made = self._stack.enter_context(where.socket(kind, socket.AddressFamily(family)))
        made.settimeout(WITHIN_S)
        return made

    def listener(self, where: Namespace, address: str, port: int) -> socket.socket:
        door = self.made(where, STREAM, family_of(address))
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address == "::":
            door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        door.bind((address, port))
        door.listen(128)
        return door

    def accepted(self, door: socket.socket) -> socket.socket:
        made = self._stack.enter_context(door.accept()[0])
        made.settimeout(WITHIN_S)
        return made

    def tcp(
        self, source: Namespace, target: Namespace, to: str, port: int, *, door: str = "", sent_from: str = ""
    ) -> tuple[socket.socket, socket.socket]:
        """(the socket at source, the one at target).  door: what target listens on; default: to itself."""
        with self.listener(target, door or to, port) as listening:
            client = self.made(source, STREAM, family_of(to))
            if sent_from:
                client.bind((sent_from, 0))
            client.connect((to, port))
            return client, self.accepted(listening)

    def udp(self, source: Namespace, to: str, port: int) -> socket.socket:
        made = self.made(source, DATAGRAM, family_of(to))
        made.connect((to, port))
        return made


@pytest.fixture
def stage(network: Lan) -> Iterator[Stage]:
    with ExitStack() as stack, network.vm.entered():
        yield Stage(network, stack)


def end_all() -> Progress:
    """In turns, as the warden does."""
    flows = OwnFlows(uids=uids)
    flows.begin(gate_policy())
    for _ in range(1000):
        progress = flows.go_on(TURN_MS)
        if progress.done:
            return progress
    raise AssertionError(f"it does not come to an end: {progress}")


def error_of(sock: socket.socket) -> int:
    """What the next read says; 0 = nothing within WITHIN_S, -1 = the other end closed in order."""
    if not readable(sock, WITHIN_S):
        return 0
    try:
        return 0 if sock.recv(100) else -1
    except OSError as error:
        return error.errno or 0


def silent(sock: socket.socket) -> bool:
    """Nothing is to be read, no error and no end."""
    return not readable(sock, 0.2)


def readable(sock: socket.socket, seconds: float) -> bool:
    # poll: with select a descriptor above 1023 is an error
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def carries(here: socket.socket, there: socket.socket) -> bool:
    here.sendall(b"question")
    if there.recv(100) != b"question":
        return False
    there.sendall(b"answer")
    return here.recv(100) == b"answer"


def of_user(uid: int, kind: socket.SocketKind) -> socket.socket:
    """A socket of the VM that belongs to that user; the test is in the VM's namespace."""
    os.seteuid(uid)
    try:
        made = socket.socket(socket.AF_INET, kind)
    finally:
        os.seteuid(0)
    made.settimeout(WITHIN_S)
    return made


def test_flows_in_and_out_are_ended_and_both_ends_hear_of_it(stage: Stage) -> None:
    vm, peer = stage.network.vm, stage.network.peer
    into = [
        stage.tcp(peer, vm, VM, 8001),
        stage.tcp(peer, vm, VM6, 8002),
        # an IPv4 flow in an IPv6 socket
        stage.tcp(peer, vm, VM, 8003, door="::"),
    ]
    out = [
        stage.tcp(vm, peer, PEER, 8004),
        stage.tcp(vm, peer, PEER6, 8005),
        # the port of manage.out, at an address that is none of manage's
        stage.tcp(vm, peer, STRANGER, MANAGE_OUT),
        # a bridge's container is behind the gate, too
        stage.tcp(stage.network.behind, vm, GATEWAY, 8006)[::-1],
    ]
    ours = [server for _, server in into] + [client for client, _ in out]
    theirs = [client for client, _ in into] + [server for _, server in out]
    progress = end_all()
    assert progress == Progress(ended=7, kept=0, refused=0, done=True)
    assert [error_of(sock) for sock in ours] == [errno.ECONNABORTED] * 7
    assert [error_of(sock) for sock in theirs] == [errno.ECONNRESET] * 7
    assert end_all().ended == 0


def test_manage_loopback_and_the_vm_with_itself_go_on(stage: Stage) -> None:
    vm, peer = stage.network.vm, stage.network.peer
    # a whole network that is local, without any address of it on a device
    vm.run("ip", "route", "add", "local", "10.77.0.0/16", "dev", "lo")
    kept = [
        stage.tcp(peer, vm, VM, MANAGE_IN, sent_from=PEER),
        stage.tcp(peer, vm, VM6, MANAGE_IN, sent_from=PEER6),
        stage.tcp(peer, vm, VM, MANAGE_IN, door="::", sent_from=PEER),
        stage.tcp(vm, peer, PEER, MANAGE_OUT),
        stage.tcp(vm, vm, "127.0.0.1", 8001),
        stage.tcp(vm, vm, "::1", 8001),
        stage.tcp(vm, vm, VM, 8001),
        # from one of its addresses to another
        stage.tcp(vm, vm, GATEWAY, 8001, sent_from=VM),
        stage.tcp(vm, vm, VM6, 8001),
        stage.tcp(vm, vm, "10.77.3.4", 8001, sent_from=VM),
    ]
    _, stranger = stage.tcp(peer, vm, VM, MANAGE_IN, sent_from=STRANGER)
    progress = end_all()
    # both ends of the six that the VM has with itself are its own
    assert progress == Progress(ended=1, kept=4 + 6 * 2, refused=0, done=True)
    assert error_of(stranger) == errno.ECONNABORTED
    assert all(carries(*pair) for pair in kept)


def test_what_is_kept_is_what_the_closed_gate_lets_pass(stage: Stage) -> None:
    """The rule in rules.kept_flows against the rules in the kernel: every kind of flow, by its packets."""
    vm, peer = stage.network.vm, stage.network.peer
    pairs = [
        stage.tcp(peer, vm, VM, MANAGE_IN, sent_from=PEER),
        stage.tcp(peer, vm, VM6, MANAGE_IN, sent_from=PEER6),
        stage.tcp(peer, vm, VM, MANAGE_IN, sent_from=STRANGER),
        stage.tcp(vm, peer, PEER, MANAGE_OUT),
        stage.tcp(vm, peer, STRANGER, MANAGE_OUT),
        stage.tcp(peer, vm, VM, MANAGE_OUT, sent_from=PEER),
        stage.tcp(vm, peer, PEER, MANAGE_IN),
        stage.tcp(peer, vm, VM, 8001),
        stage.tcp(vm, peer, PEER6, 8002),
        stage.tcp(vm, vm, GATEWAY, 8003, sent_from=VM),
    ]
    gate = nft_gate()
    gate.install(gate_policy())
    try:

        def passes(pair: tuple[socket.socket, socket.socket]) -> bool:
            for sock in pair:
                sock.settimeout(0.3)
            try:
                return carries(*pair)
            except OSError:
                return False

        passing = [passes(pair) for pair in pairs]
        end_all()
        alive = [passes(pair) for pair in pairs]
        gate.lease(LONGEST_LEASE_MS)
        assert alive == passing
        assert [passes(pair) for pair in pairs] == passing, "what was ended does not come back"
        assert passing == [True, True, False, True, False, False, False, False, False, True]
    finally:
        gate.remove()


def test_the_owner_of_a_socket_counts_for_reach_and_for_nothing_else(stage: Stage) -> None:
    with (
        of_user(PROBER_UID, DATAGRAM) as reach,
        of_user(PROBER_UID + 1, DATAGRAM) as other,
        of_user(PROBER_UID, STREAM) as elsewhere,
        stage.listener(stage.network.peer, PEER, 8001) as door,
    ):
        reach.connect((PEER, REACH))
        other.connect((PEER, REACH))
        elsewhere.connect((PEER, 8001))
        stage.accepted(door)
        progress = end_all()
        assert (progress.ended, progress.kept) == (2, 1)
        assert error_of(elsewhere) == errno.ECONNABORTED
        assert error_of(other) == errno.ECONNABORTED
        assert silent(reach)
        reach.send(b"still")


def test_a_connected_udp_socket_gets_an_error_and_others_stay(stage: Stage) -> None:
    vm = stage.network.vm
    connected = [stage.udp(vm, PEER, 5000), stage.udp(vm, PEER6, 5000)]
    mapped = stage.made(vm, DATAGRAM, socket.AF_INET6)
    mapped.connect((f"::ffff:{PEER}", 5000))
    connected.append(mapped)
    server = stage.made(vm, DATAGRAM, socket.AF_INET)
    server.bind((VM, 5001))
    assert end_all().ended == 3
    assert [error_of(sock) for sock in connected] == [errno.ECONNABORTED] * 3
    for sock in connected:
        with pytest.raises(OSError, match=os.strerror(errno.EDESTADDRREQ)):
            sock.send(b"no longer connected")
    assert server.getsockname() == (VM, 5001)
    assert silent(server)


def test_what_listens_goes_on_listening_also_with_connections_in_its_queue(stage: Stage) -> None:
    vm, peer = stage.network.vm, stage.network.peer
    door = stage.listener(vm, VM, 8001)
    waiting = stage.made(peer, STREAM, socket.AF_INET)
    waiting.connect((VM, 8001))
    assert end_all().ended == 1
    assert error_of(waiting) == errno.ECONNRESET
    again = stage.made(peer, STREAM, socket.AF_INET)
    again.connect((VM, 8001))
    first = stage.accepted(door)
    if error_of(first) != 0:  # the one that was ended is handed out, and is dead
        first = stage.accepted(door)
    assert carries(again, first)


def test_half_open_and_half_closed_flows_are_ended_and_time_wait_is_left_alone(stage: Stage) -> None:
    vm, peer = stage.network.vm, stage.network.peer
    # SYN_SENT: nobody answers there
    opening = stage.made(vm, STREAM, socket.AF_INET)
    opening.setblocking(False)
    assert opening.connect_ex((NOBODY, 8001)) == errno.EINPROGRESS
    # CLOSE_WAIT here, FIN_WAIT2 here
    left, close_wait = stage.tcp(peer, vm, VM, 8002)
    left.shutdown(socket.SHUT_WR)
    assert close_wait.recv(1) == b""
    fin_wait, leaving = stage.tcp(vm, peer, PEER, 8003)
    fin_wait.shutdown(socket.SHUT_WR)
    assert leaving.recv(1) == b""
    # TIME_WAIT here: closed on both sides, here first
    first, second = stage.tcp(vm, peer, PEER, 8004)
    first.close()
    assert second.recv(1) == b""
    second.close()
    # SYN_RECV and an orphan in FIN_WAIT1: the peer has become deaf
    door = stage.listener(vm, VM, 8005)
    orphan, _ = stage.tcp(vm, peer, PEER, 8006)
    peer.run(
        "nft", "add table ip deaf; add chain ip deaf in { type filter hook input priority 0; policy drop; }"
    )
    knocking = stage.made(peer, STREAM, socket.AF_INET)
    knocking.setblocking(False)
    knocking.connect_ex((VM, 8005))
    orphan.sendall(b"never acknowledged")
    orphan.close()
    before = states(vm)
    assert sorted(before) == [
        "CLOSE-WAIT", "FIN-WAIT-1", "FIN-WAIT-2", "LISTEN", "SYN-RECV", "SYN-SENT", "TIME-WAIT",
    ]  # fmt: skip
    progress = end_all()
    assert progress.ended >= 5
    assert sorted(states(vm)) == ["LISTEN", "TIME-WAIT"]
    assert [error_of(sock) for sock in (opening, fin_wait)] == [errno.ECONNABORTED] * 2
    with pytest.raises(ConnectionAbortedError):
        close_wait.sendall(b"reading ended before, writing ends now")
    door.close()


def states(where: Namespace) -> list[str]:
    """Of every TCP socket, as ss(8) names them."""
    return [line.split()[0] for line in where.run("ss", "-Htan").stdout.decode().splitlines()]


def test_flows_of_other_namespaces_are_out_of_reach(stage: Stage) -> None:
    behind, peer = stage.network.behind, stage.network.peer
    through = stage.tcp(behind, peer, PEER, 8001)
    assert end_all().ended == 0
    assert carries(*through)


def test_after_the_gate_has_closed_only_this_end_hears_of_it(stage: Stage) -> None:
    vm, peer = stage.network.vm, stage.network.peer
    client, server = stage.tcp(peer, vm, VM, 8001)
    gate = nft_gate()
    gate.install(gate_policy())
    try:
        assert end_all().ended == 1
        assert error_of(server) == errno.ECONNABORTED
        assert silent(client)
    finally:
        gate.remove()
    # what it sends now meets no socket any more
    client.sendall(b"are you there?")
    assert error_of(client) == errno.ECONNRESET


def test_without_the_right_it_fails_and_ends_nothing(stage: Stage) -> None:
    pair = stage.tcp(stage.network.peer, stage.network.vm, VM, 8001)
    os.seteuid(65534)
    try:
        with pytest.raises(ControlFailed, match=os.strerror(errno.EPERM)):
            end_all()
    finally:
        os.seteuid(0)
    assert carries(*pair)


def test_two_thousand_flows_in_turns_that_keep_their_time(
    stage: Stage, record_property: Callable[[str, object], None]
) -> None:
    many = 2000
    enough_descriptors(2 * many + 100)
    vm, peer = stage.network.vm, stage.network.peer
    door = stage.listener(vm, VM, 8001)
    managing = stage.tcp(peer, vm, VM, MANAGE_IN, sent_from=PEER)
    theirs = []
    for _ in range(many):
        theirs.append(stage.made(peer, STREAM, socket.AF_INET))
        theirs[-1].connect((VM, 8001))
        stage.accepted(door)
    flows = OwnFlows(uids=uids)
    began = time.monotonic()
    flows.begin(gate_policy())
    turns: list[float] = []
    progress = Progress()
    while not progress.done:
        turn = time.monotonic()
        progress = flows.go_on(TURN_MS)
        turns.append((time.monotonic() - turn) * 1000)
    took = (time.monotonic() - began) * 1000
    said = f"{many} flows: {took:.0f} ms, {len(turns)} turns of at most {max(turns):.1f} ms"
    record_property("ending flows", said)
    print(said)
    assert (progress.ended, progress.kept) == (many, 1)
    assert max(turns) <= TURN_MS + SLACK_MS
    assert len(turns) > 1
    assert carries(*managing)
    assert {error_of(sock) for sock in theirs} == {errno.ECONNRESET}


def enough_descriptors(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))


def test_the_table_tells_what_is_established_and_what_listens(stage: Stage) -> None:
    vm, peer = stage.network.vm, stage.network.peer
    door = stage.listener(vm, "::", MANAGE_IN)
    client = stage.made(peer, STREAM, socket.AF_INET)
    client.connect((VM, MANAGE_IN))
    server = stage.accepted(door)
    os.fchown(server.fileno(), 0, 0)
    out, _ = stage.tcp(vm, peer, PEER6, 8001)
    half = stage.made(vm, STREAM, socket.AF_INET)
    half.setblocking(False)
    half.connect_ex((NOBODY, 8001))
    table = SockDiag()
    try:
        found = table.tcp()
    finally:
        table.close()
    packed = {address: socket.inet_pton(family_of(address), address) for address in (VM, VM6, PEER, PEER6)}
    assert set(found.established) == {
        Flow("tcp", packed[VM], MANAGE_IN, packed[PEER], client.getsockname()[1], 0),
        Flow("tcp", packed[VM6], out.getsockname()[1], packed[PEER6], 8001, 0),
    }
    assert found.listening == {MANAGE_IN}
