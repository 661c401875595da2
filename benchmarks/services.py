# SPDX-License-Identifier: Apache-2.0
"""What services with hours of their own cost: an open gate with 1, 100 and 1,000 of them over one with none.

UDP round trips in one thread, so that there is no process to wake and nearly all of it is the stack: the
least favourable ratio.  Each gate stands in a network of its own; each round measures all of them, in an
order that changes, and gives one ratio each.  Of the rest of the VM, and of a service that is leased.

    python -m benchmarks --only services --rounds 60     (root)
"""

import random
import socket
import statistics
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import msgspec

from benchmarks import gate_overhead
from benchmarks.figure import Figure, median_interval
from vmwarden.linux import nft
from vmwarden.linux.nfnetlink import Connection
from vmwarden.model.hours import Interval
from vmwarden.model.policy import FlowIn, Hours, Policy, TimedService
from vmwarden.ports.gate import LONGEST_LEASE_MS
from vmwarden.rules import netdev_ruleset, timed_services
from vmwarden.rules.ruleset import HOOKS, OPEN_BIT, PERMIT_PRIORITY, TABLE, closed
from vmwarden.testing.network import VM, Lan, lan

SIZES = (1, 100, 1000)
ROUND_TRIPS = 300
WARM_UP = 30
RENEWALS = 50
_REST_PORT, _FIRST_PORT = 7101, 20_000
_LASTING = "1h"
_SEED = 20261123


def policy(size: int) -> Policy:
    """As gate_overhead's, with so many services, each of two networks and a port of its own."""
    timed = tuple(
        TimedService(
            name=f"service-{number}",
            in_=(
                FlowIn(from_="10.99.0.0/16", udp=_FIRST_PORT + number),
                FlowIn(from_="fd99::/16", udp=_FIRST_PORT + number),
            ),
            open=(Interval(),),
        )
        for number in range(size)
    )
    hours = Hours(open=(Interval(),), services=timed)
    return msgspec.structs.replace(gate_overhead.policy(), hours=hours)


@dataclass(frozen=True, slots=True)
class _Way:
    """One client and its server."""

    name: str
    over: str
    client: socket.socket
    server: socket.socket

    def microseconds(self) -> float:
        """Of a round trip: the median."""
        taken: list[int] = []
        clock = time.perf_counter_ns
        for _ in range(WARM_UP + ROUND_TRIPS):
            start = clock()
            self.client.send(b"x" * 64)
            data, sender = self.server.recvfrom(2048)
            self.server.sendto(data, sender)
            self.client.recv(2048)
            taken.append(clock() - start)
        return statistics.median(taken[WARM_UP:]) / 1000


def run(rounds: int) -> list[Figure]:
    """Ratios, and what one renewal of all services takes."""
    with ExitStack() as stack:
        ways = [way for both in (False, True) for way in _ways(stack, both=both)]
        found: dict[str, list[float]] = {way.name: [] for way in ways}
        order = random.Random(_SEED)
        for _ in range(rounds):
            order.shuffle(ways)
            for way in ways:
                found[way.name].append(way.microseconds())
        renewal = stack.enter_context(_renewed(stack))
    figures: list[Figure] = []
    for way in sorted(ways, key=lambda way: list(found).index(way.name)):
        if way.over:
            pairs = list(zip(found[way.over], found[way.name], strict=True))
            ratio = median_interval([after / before for before, after in pairs])
            added = median_interval([after - before for before, after in pairs])
            detail = f"{ratio}, {rounds} paired rounds; a round trip takes {added} us more"
            figures.append(
                Figure(f"open gate, {way.name} over {way.over}", ratio.median, "ratio", detail=detail)
            )
    figures.append(
        Figure(
            "renewing the leases of 1,000 services in one layer",
            statistics.median(renewal),
            "ms",
            detail=f"median of {RENEWALS}, worst {max(renewal):.2f} ms",
        )
    )
    return figures


def _ways(stack: ExitStack, *, both: bool) -> Iterator[_Way]:
    layers = "both layers" if both else "first layer"
    none = f"{layers}, no services"
    for size in (0, *SIZES):
        network = stack.enter_context(lan())
        _open(network, size, both=both)
        name = f"{layers}, {size} services: a packet" if size else none
        yield _way(stack, network, f"{name} of the rest" if size else none, none if size else "", _REST_PORT)
        if size:
            yield _way(stack, network, f"{name} of a service", none, _FIRST_PORT + size - 1)


def _way(stack: ExitStack, network: Lan, name: str, over: str, port: int) -> _Way:
    server = stack.enter_context(network.vm.socket(socket.SOCK_DGRAM))
    client = stack.enter_context(network.peer.socket(socket.SOCK_DGRAM))
    for each in (server, client):
        each.settimeout(5)
    server.bind((VM, port))
    client.connect((VM, port))
    return _Way(name, over, client, server)


def _open(network: Lan, size: int, *, both: bool) -> None:
    """As the warden opens it, but for the time: the tables are nft's here, and the lease is long."""
    plan = policy(size)
    permit = "".join(
        f"chain permit_{suffix} {{ type filter hook {hook} priority {PERMIT_PRIORITY}; policy accept;"
        f" meta nfproto @lease meta mark set meta mark | {OPEN_BIT:#x} accept; }}\n"
        for suffix, hook in HOOKS.items()
    )
    families = f"ipv4 timeout {_LASTING}, ipv6 timeout {_LASTING}"
    tables = [
        closed(plan, users={}),
        f"table inet vmwarden_alive {{ set lease {{ type nf_proto; flags timeout; }}\n{permit} }}\n",
        f"add element inet vmwarden_alive lease {{ {families} }}\n",
    ]
    if both:
        tables.append(netdev_ruleset.table(plan, users={}))
        for way, hook in (("in", "ingress"), ("out", "egress")):
            tables.append(
                f"table netdev vmwarden {{ chain {way}_eth0 {{ type filter hook {hook} device eth0"
                f" priority {netdev_ruleset.PRIORITY}; policy drop; meta protocol @lease accept;"
                f" goto judge_{way}; }}; }}\n"
            )
        name = netdev_ruleset.TIMED_SET if size else netdev_ruleset.LEASE_SET
        tables.append(
            f"add element netdev vmwarden {name} {{ ip timeout {_LASTING}, ip6 timeout {_LASTING} }}\n"
        )
    if size:
        numbers = ", ".join(f"{number} timeout {_LASTING}" for number in range(1, size + 1))
        for family in ("inet", "netdev") if both else ("inet",):
            tables.append(f"add element {family} vmwarden {timed_services.SET} {{ {numbers} }}\n")
    with network.vm.entered():
        nft.load("".join(tables))


@contextmanager
def _renewed(stack: ExitStack) -> Iterator[list[float]]:
    """Milliseconds of each of RENEWALS, over netlink as the warden does it."""
    network = stack.enter_context(lan())
    _open(network, SIZES[-1], both=False)
    keys = [struct.pack("=I", number) for number in range(1, SIZES[-1] + 1)]
    with network.vm.entered():
        connection = Connection()
        taken: list[float] = []
        for _ in range(RENEWALS):
            start = time.perf_counter()
            messages = [
                nft.emptied(TABLE, timed_services.SET),
                nft.timed(TABLE, timed_services.SET, keys, LONGEST_LEASE_MS),
            ]
            connection.commit(messages, what="renewing the services")
            taken.append((time.perf_counter() - start) * 1000)
        connection.close()
    yield taken
