# SPDX-License-Identifier: Apache-2.0
"""What it costs an open packet that the gate remembers something, and what other ways to remember would cost.

Round trips of UDP and of TCP in one thread over veth: no process is woken, so this is the least favourable
ratio.  Each round measures every variant, in an order that changes, and gives one ratio to the same rules
without any memory; the figure is the median of the ratios.  docs/adr/0011 says what was made of it.

    python -c "from benchmarks.gate_state import run; print(*run(90), sep='\\n')"     (root)
"""

import os
import random
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from benchmarks.figure import Figure, median_interval
from benchmarks.gate_overhead import policy
from vmwarden.linux import nft
from vmwarden.linux.nfnetlink import Connection
from vmwarden.model.hours import Interval
from vmwarden.model.policy import Hours
from vmwarden.ports.gate import LONGEST_LEASE_MS
from vmwarden.rules import direction
from vmwarden.rules.passing import flow
from vmwarden.rules.ruleset import ALIVE_TABLE, TABLE, closed
from vmwarden.testing.network import VM, Lan, lan

#: of each kind, in each variant, a round
ROUND_TRIPS = 400
_UDP_PORT, _TCP_PORT = 7301, 7302
_SEED = 20261123
_PLAIN = "the gate without any memory"


def variants() -> dict[str, str]:
    """Rules to be loaded, by what they remember; the first is what the others are compared with."""
    built = closed(policy(), users={})
    plain = built.replace(f"\t\t{direction.LOOK}\n", "")
    drained = msgspec.structs.replace(policy(), hours=Hours(open=(Interval(),), drain="30s"))
    return {
        _PLAIN: plain,
        "as built: flows begun against their direction": built,
        "as built, with a drain: also what is not TCP": closed(drained, users={}),
        "every flow of manage, refreshed by its packets": _remembering(plain),
        "connection tracking (a drop-only chain at -150)": _tracking(plain),
    }


def _remembering(text: str) -> str:
    """A list of what may pass in place of one of what may not."""
    made = "\tset manage4 { type ipv4_addr . inet_service . ipv4_addr . inet_service; size 65536; "
    text = _within(text, f"{made}flags dynamic,timeout; timeout 5d; }}\n")
    for way, end, inbound in (("in", "s", True), ("out", "d", False)):
        served, called = ("dport 22", "sport 443") if inbound else ("sport 22", "dport 443")
        update = f"update @manage4 {{ {flow('ip', 'tcp', inbound=inbound)} }}"
        start = text.index("\n\t}", text.index(f"chain clear_{way} {{"))
        rules = (
            f"\n\t\tip {end}addr 10.20.0.0/16 tcp {served} {update}"
            f"\n\t\tip {end}addr 10.20.0.10 tcp {called} {update}"
        )
        text = text[:start] + rules + text[start:]
    return text


def _tracking(text: str) -> str:
    chains = "".join(
        f"\tchain direction_{way} {{\n\t\ttype filter hook {hook} priority -150; policy accept;\n"
        "\t\tmeta nfproto @draining ct state new drop\n\t}\n"
        for way, hook in (("in", "prerouting"), ("out", "output"))
    )
    return _within(text, "\tset draining { type nf_proto; flags timeout; }\n" + chains)


def _within(text: str, more: str) -> str:
    head = f"table inet {TABLE} {{\n"
    return text.replace(head, head + more)


def run(rounds: int) -> list[Figure]:
    """Ratios of round trips, those of UDP and those of TCP for each variant."""
    texts = variants()
    taken: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in texts}
    order = random.Random(_SEED)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        with lan() as network, network.vm.entered(), _opened() as opened:
            opened(texts[_PLAIN])
            with _datagrams(network) as udp, _stream(network) as tcp:
                for _ in range(rounds):
                    for name in order.sample(list(texts), len(texts)):
                        opened(texts[name])
                        taken[name][0].append(_undisturbed(udp))
                        taken[name][1].append(_undisturbed(tcp))
    finally:
        os.sched_setaffinity(0, before)
    return [
        _figure(name, protocol, taken[name][column], taken[_PLAIN][column])
        for name in texts
        if name != _PLAIN
        for column, protocol in enumerate(("UDP", "TCP"))
    ]


def _figure(name: str, protocol: str, after: list[float], before: list[float]) -> Figure:
    ratio = median_interval([one / other for one, other in zip(after, before, strict=True)])
    detail = f"{ratio}, {len(after)} paired rounds; median {statistics.median(after):.2f} us"
    return Figure(f"open gate, {protocol} round trip: {name}", ratio.median, "ratio", detail=detail)


@contextmanager
def _opened() -> Iterator[Callable[[str], None]]:
    """Loads rules and opens them."""
    connection = Connection()

    def opened(text: str) -> None:
        nft.load(text)
        if not nft.standing(connection, ALIVE_TABLE):
            nft.make_alive(connection, owned=True)
        nft.renew(connection, LONGEST_LEASE_MS, guarded=False)

    try:
        yield opened
    finally:
        connection.close()


@contextmanager
def _datagrams(network: Lan) -> Iterator[Callable[[], None]]:
    with network.vm.socket(socket.SOCK_DGRAM) as server, network.peer.socket(socket.SOCK_DGRAM) as client:
        server.bind((VM, _UDP_PORT))
        client.connect((VM, _UDP_PORT))
        for each in (server, client):
            each.settimeout(2.0)
        payload = b"x" * 64

        def there_and_back() -> None:
            client.send(payload)
            data, sender = server.recvfrom(2048)
            server.sendto(data, sender)
            client.recv(2048)

        yield there_and_back


@contextmanager
def _stream(network: Lan) -> Iterator[Callable[[], None]]:
    with network.vm.socket(socket.SOCK_STREAM) as door, network.peer.socket(socket.SOCK_STREAM) as client:
        door.bind((VM, _TCP_PORT))
        door.listen(1)
        client.connect((VM, _TCP_PORT))
        server = door.accept()[0]
        for each in (server, client):
            each.settimeout(2.0)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        payload = b"x" * 64

        def there_and_back() -> None:
            client.send(payload)
            server.send(server.recv(2048))
            client.recv(2048)

        with server:
            yield there_and_back


def _undisturbed(there_and_back: Callable[[], None]) -> float:
    """Microseconds of the 30th percentile, after some that only warm the caches."""
    taken: list[int] = []
    for _ in range(ROUND_TRIPS):
        start = time.perf_counter_ns()
        there_and_back()
        taken.append(time.perf_counter_ns() - start)
    kept = sorted(taken[ROUND_TRIPS // 10 :])
    return kept[len(kept) * 3 // 10] / 1000
