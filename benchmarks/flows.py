# SPDX-License-Identifier: Apache-2.0
"""Ending the VM's own TCP flows: while the gate is open, after it has closed, and as the warden does it.

In namespaces, as root.  The VM's end of each flow is a socket of this process, the other end one of a forked
process, which counts what it hears.  Each round connects all flows anew.  They are ended in turns of TURN_MS,
as the warden does between renewals, one directly after the other.

    python -m benchmarks --only flows --rounds 5     (root)
"""

import multiprocessing
import resource
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from statistics import median

from benchmarks.figure import Figure, median_interval
from benchmarks.gate_overhead import policy
from benchmarks.site import Failed, Unmeasurable
from vmwarden.controls.flows import OwnFlows
from vmwarden.controls.gate import NftGate
from vmwarden.linux.sock_diag import SockDiag
from vmwarden.model.flow import Progress
from vmwarden.ports.flows import TURN_MS
from vmwarden.ports.gate import LONGEST_LEASE_MS
from vmwarden.testing.network import VM, Lan, Namespace, lan

SIZES = (10, 1_000, 10_000)
_PORT = 7201
_BACKLOG = 128
_WITHIN_S = 60.0
#: warden.gatekeeper.ENDING_MS
_RESETS_MS = 5_000
#: descriptors for everything else
_SPARE = 100

_CONTEXT = multiprocessing.get_context("fork")


@dataclass(frozen=True, slots=True)
class _Ended:
    """One round.  told: peers that heard of it."""

    took_ms: float
    turns: tuple[float, ...]
    told: int


def run(rounds: int) -> list[Figure]:
    """Raises Unmeasurable, Failed."""
    _descriptors(max(SIZES) + _SPARE)
    figures = []
    with lan() as network, network.vm.entered():
        gate = NftGate()
        try:
            gate.install(policy())
            # what lets resets out does so for seconds: the last of all
            for name, close in (
                ("gate still open", lambda: None),
                ("gate just closed", gate.flush),
                ("gate just closed, resets let out", lambda: _close(gate)),
            ):
                for many in SIZES:
                    ended = [_round(network, gate, many, close) for _ in range(rounds)]
                    figures.append(_figure(f"ending {many:,} TCP flows, {name}", many, ended))
            for many in SIZES:
                looks = [_look(network, gate, many) for _ in range(rounds)]
                figures.append(
                    Figure(
                        f"reading the table of {many:,} TCP flows",
                        median(looks),
                        "ms",
                        detail=str(median_interval(looks)),
                    )
                )
        finally:
            gate.remove()
    return figures


def _figure(name: str, many: int, ended: list[_Ended]) -> Figure:
    took = median_interval([one.took_ms for one in ended])
    longest = max(turn for one in ended for turn in one.turns)
    turns = median(len(one.turns) for one in ended)
    return Figure(
        name,
        took.median,
        "ms",
        detail=f"{took}, {len(ended)} rounds; {turns:.0f} turns, the longest {longest:.1f} ms;"
        f" {min(one.told for one in ended)} to {max(one.told for one in ended)} peers were told",
    )


def _close(gate: NftGate) -> None:
    """As warden.gatekeeper does on the way to quarantined."""
    gate.flush()
    gate.end_flows(_RESETS_MS)


def _round(network: Lan, gate: NftGate, many: int, close: Callable[[], object]) -> _Ended:
    with _connected(network, gate, many) as heard:
        flows = OwnFlows(uids=lambda _: {})
        close()
        began = time.monotonic()
        flows.begin(policy())
        turns: list[float] = []
        progress = Progress()
        while not progress.done:
            turn = time.monotonic()
            progress = flows.go_on(TURN_MS)
            turns.append((time.monotonic() - turn) * 1000)
        took_ms = (time.monotonic() - began) * 1000
        if progress.ended != many:
            raise Failed(f"of {many} flows {progress.ended} were ended")
        return _Ended(took_ms, tuple(turns), heard())


def _look(network: Lan, gate: NftGate, many: int) -> float:
    with _connected(network, gate, many):
        table = SockDiag()
        try:
            began = time.monotonic()
            found = len(table.tcp().established)
            took_ms = (time.monotonic() - began) * 1000
        finally:
            table.close()
    if found != many:
        raise Failed(f"of {many} flows {found} were found")
    return took_ms


@contextmanager
def _connected(network: Lan, gate: NftGate, many: int) -> Iterator[Callable[[], int]]:
    """So many flows to the VM.  Yields a function that says how many peers have been told of the end."""
    gate.lease(LONGEST_LEASE_MS)
    here, there = _CONTEXT.Pipe()
    with ExitStack() as stack:
        door = stack.enter_context(network.vm.socket(socket.SOCK_STREAM))
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((VM, _PORT))
        door.listen(_BACKLOG)
        door.settimeout(_WITHIN_S)
        peer = _CONTEXT.Process(target=_peer, args=(network.peer, many, there), daemon=True)
        peer.start()
        try:
            for _ in range(many):
                stack.enter_context(door.accept()[0])

            def heard() -> int:
                here.send("how many?")
                if not here.poll(_WITHIN_S):
                    raise Failed("the peer does not answer")
                told: int = here.recv()
                return told

            # what is accepted here may still be on its way to the other end
            if heard():
                raise Failed("a flow ended before it was begun")
            yield heard
        finally:
            peer.kill()
            peer.join(_WITHIN_S)
            here.close()
            there.close()


def _peer(where: Namespace, many: int, pipe: Pipe) -> None:
    sockets = []
    poll = select.poll()
    with where.entered():
        for _ in range(many):
            sock = socket.create_connection((VM, _PORT), _WITHIN_S)
            # ends without a trace: ten thousand in TIME_WAIT would leave no ports for the next round
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sockets.append(sock)
            poll.register(sock, select.POLLIN)
    while pipe.recv():
        # what has been sent to a namespace of this machine has arrived
        pipe.send(len(poll.poll(0)))


def _descriptors(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise Unmeasurable(f"{count} open files are needed, {hard} are allowed")
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
