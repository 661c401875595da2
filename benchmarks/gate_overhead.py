# SPDX-License-Identifier: Apache-2.0
"""What an open gate costs: UDP round trips and TCP throughput between two namespaces, with and without it.

Paired rounds: each round measures both, in an order that changes, and gives one ratio; the figure is the
median of the ratios.  Client and server are two processes that block, each on a CPU of its own, so that a
round trip contains what real ones contain: two packets and two wake-ups.  Beside it stands, without a
budget, the round trip of two processes on one CPU, at its undisturbed tenth percentile: no idle CPU to
wake, so nearly all of it is the stack, and the difference is the CPU time of two packets through the gate.

    python -m benchmarks --only gate_overhead --rounds 40     (root)
"""

import multiprocessing
import os
import random
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.figure import Figure, Interval, median_interval
from vmwarden.controls.gate import NftGate
from vmwarden.controls.second_layer import SecondLayer
from vmwarden.model.policy import FlowIn, FlowOut, Manage, Policy, Scope, Valid
from vmwarden.ports.gate import LONGEST_LEASE_MS
from vmwarden.testing.network import VM, Lan, lan

LATENCY_BUDGET = 1.05
THROUGHPUT_BUDGET = 0.97
#: scopes of the policy: an open packet meets none of them
SCOPES = (0, 10, 1_000)
ROUND_TRIPS = 500
WARM_UP = 50
TRANSFER_S = 0.15
_CHUNK = 1 << 20
_UDP_PORT, _UDP_PORT_NEAR, _TCP_PORT = 7101, 7103, 7102
_SEED = 20261123

_CONTEXT = multiprocessing.get_context("fork")


def policy(scopes: int = 3) -> Policy:
    """A policy of ordinary size; an open packet must not notice how large it is."""
    return Policy(
        format="vmwarden.policy/1",
        name="overhead",
        version=1,
        vms=("bench",),
        valid=Valid(from_="2026-11-01T00:00Z", until="2027-11-01T00:00Z"),
        mode="enforce",
        manage=Manage(
            in_=(FlowIn(from_="10.20.0.0/16", tcp=22),), out=(FlowOut(to="10.20.0.10/32", tcp=443),)
        ),
        scopes=tuple(
            Scope(name=f"scope-{number}", in_=(FlowIn(from_=f"192.0.2.{number % 250}/32", tcp=8000),))
            for number in range(scopes)
        ),
    )


def run(rounds: int) -> list[Figure]:
    """Latency and throughput of the open gate over those of no rules: one layer and both, with scopes."""
    figures: list[Figure] = []
    for layers in (1, 2):
        for scopes in SCOPES:
            figures += _figures(layers, scopes, rounds)
    return figures


def _figures(layers: int, scopes: int, rounds: int) -> list[Figure]:
    second = SecondLayer(stands_in=lambda link: link.kind == "veth" and link.name == "eth0")
    with lan() as network, network.vm.entered():
        gate = NftGate(second=second if layers == 2 else None)
        try:
            found = measure(network, gate.remove, lambda: _open(gate, policy(scopes)), rounds)
        finally:
            gate.remove()
    slower, near = found.latency.ratios(), found.near.ratios()
    share = found.throughput.ratios()
    added = median_interval([after - before for before, after in found.near.pairs()])
    name = f"open gate, {'one layer' if layers == 1 else 'both layers'}, {scopes:,} scopes"
    return [
        Figure(
            f"{name}: UDP round trip over that without rules",
            slower.median,
            "ratio",
            f"<= {LATENCY_BUDGET}",
            not slower.misses_at_most(LATENCY_BUDGET),
            found.latency.detail(slower, "us"),
        ),
        Figure(
            f"{name}: TCP throughput over that without rules",
            share.median,
            "ratio",
            f">= {THROUGHPUT_BUDGET}",
            not share.misses_at_least(THROUGHPUT_BUDGET),
            found.throughput.detail(share, "Gbit/s"),
        ),
        Figure(
            f"{name}: UDP round trip on one CPU over that without rules",
            near.median,
            "ratio",
            detail=found.near.detail(near, "us") + f"; two packets cost {added} us more",
        ),
    ]


@dataclass(frozen=True, slots=True)
class Paired:
    """One value a round without rules, one with the open gate."""

    before: list[float]
    after: list[float]

    def pairs(self) -> list[tuple[float, float]]:
        return list(zip(self.before, self.after, strict=True))

    def ratios(self) -> Interval:
        return median_interval([after / before for before, after in self.pairs()])

    def detail(self, ratio: Interval, unit: str) -> str:
        before, after = statistics.median(self.before), statistics.median(self.after)
        return f"{ratio}, {len(self.before)} paired rounds; medians {before:.2f} and {after:.2f} {unit}"


@dataclass(frozen=True, slots=True)
class Found:
    """latency: us on two CPUs; near: us on one CPU; throughput: Gbit/s."""

    latency: Paired
    near: Paired
    throughput: Paired


def measure(network: Lan, without: Callable[[], None], opened: Callable[[], None], rounds: int) -> Found:
    """Both sides of each round, in an order that a fixed seed shuffles."""
    order = random.Random(_SEED)
    found = Found(Paired([], []), Paired([], []), Paired([], []))
    far_cpu, near_cpu = _cpus()
    with (
        _on(near_cpu),
        _echo(network, _UDP_PORT, far_cpu) as far,
        _echo(network, _UDP_PORT_NEAR, near_cpu) as near,
        _sink(network, far_cpu) as stream,
    ):
        for _ in range(rounds):
            sides = ["before", "after"]
            order.shuffle(sides)
            for side in sides:
                (without if side == "before" else opened)()
                getattr(found.latency, side).append(_round_trips(far))
                getattr(found.near, side).append(_round_trips(near, share=0.1))
                getattr(found.throughput, side).append(_transfer(stream))
    return found


def _open(gate: NftGate, in_force: Policy) -> None:
    gate.install(in_force)
    gate.lease(LONGEST_LEASE_MS)


@contextmanager
def _echo(network: Lan, port: int, cpu: int) -> Iterator[socket.socket]:
    """A client's socket; a process in the VM sends back what it is sent."""
    with network.vm.socket(socket.SOCK_DGRAM) as server, network.peer.socket(socket.SOCK_DGRAM) as client:
        server.bind((VM, port))
        client.connect((VM, port))
        client.settimeout(2.0)
        with _process(_answer, server, cpu):
            yield client


def _answer(server: socket.socket) -> None:
    while True:
        data, sender = server.recvfrom(2048)
        server.sendto(data, sender)


def _round_trips(client: socket.socket, *, share: float = 0.5) -> float:
    """That quantile of ROUND_TRIPS, in microseconds, after some that only warm the caches."""
    payload = b"x" * 64
    taken: list[int] = []
    clock = time.perf_counter_ns
    for _ in range(WARM_UP + ROUND_TRIPS):
        start = clock()
        client.send(payload)
        client.recv(2048)
        taken.append(clock() - start)
    return sorted(taken[WARM_UP:])[int(ROUND_TRIPS * share)] / 1000


@contextmanager
def _sink(network: Lan, cpu: int) -> Iterator[socket.socket]:
    """A client's connection; a process in the VM reads it, and answers one byte for every chunk."""
    with network.vm.socket(socket.SOCK_STREAM) as listener, network.peer.socket(socket.SOCK_STREAM) as client:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((VM, _TCP_PORT))
        listener.listen(1)
        client.settimeout(5.0)
        client.connect((VM, _TCP_PORT))
        server = listener.accept()[0]
        with server, _process(_swallow, server, cpu):
            yield client


def _swallow(server: socket.socket) -> None:
    buffer = bytearray(_CHUNK)
    while True:
        missing = _CHUNK
        while missing:
            taken = server.recv_into(buffer, missing)
            if not taken:
                return
            missing -= taken
        server.send(b".")


def _transfer(client: socket.socket) -> float:
    """Gbit/s over TRANSFER_S, with two chunks under way."""
    chunk = b"x" * _CHUNK
    client.sendall(chunk)
    done = 0
    start = time.perf_counter()
    while time.perf_counter() - start < TRANSFER_S:
        client.sendall(chunk)
        client.recv(1)
        done += 1
    taken = time.perf_counter() - start
    client.recv(1)
    return done * _CHUNK * 8 / taken / 1e9


@contextmanager
def _process(target: Callable[[socket.socket], None], given: socket.socket, cpu: int) -> Iterator[None]:
    """A child on that CPU that does target until the block ends."""
    with _on(cpu):
        process = _CONTEXT.Process(target=target, args=(given,), daemon=True)
        process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join(5)


@contextmanager
def _on(cpu: int) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _cpus() -> tuple[int, int]:
    """(the server's, the client's); the same where there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]
