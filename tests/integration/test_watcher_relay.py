# SPDX-License-Identifier: Apache-2.0
"""The watcher carries bytes to servers on the loopback."""

import select
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from vmwarden.linux.clock import SystemClock
from vmwarden.model.message import CARRIED_BYTES, Carried, Carry, Dial, HangUp
from vmwarden.model.moment import Moment
from vmwarden.watcher.relay import LINE_BYTES, LINE_MS, LINES, Relay

_WITHIN_S = 10.0


class Told:
    """A relay and what it told."""

    def __init__(self) -> None:
        self.carried: list[Carried] = []
        self.relay = Relay(self.carried.append)
        self._clock = SystemClock()

    def dial(self, line: int, over: str, address: tuple[str, int], data: bytes = b"") -> None:
        order = Dial(line=line, over=over, address=address[0], port=address[1], data=data)  # type: ignore[arg-type]
        self.relay.order(order, self._clock.now())

    def carry(self, line: int, data: bytes) -> None:
        self.relay.order(Carry(line=line, data=data), self._clock.now())

    def until(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + _WITHIN_S
        while not done():
            assert time.monotonic() < end, self.carried
            poll = select.poll()
            self.relay.register(poll)
            for descriptor, _ in poll.poll(50):
                self.relay.ready(descriptor)

    def data(self, line: int) -> bytes:
        return b"".join(carried.data for carried in self.carried if carried.line == line)

    def ended(self, line: int) -> list[str]:
        return [carried.ended for carried in self.carried if carried.line == line and carried.ended]


@pytest.fixture
def told() -> Iterator[Told]:
    made = Told()
    yield made
    made.relay.close()


@pytest.fixture
def stream() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(_WITHIN_S)
        yield server


@pytest.fixture
def datagrams() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(_WITHIN_S)
        yield server


def test_a_stream_both_ways_until_the_server_closes_it(told: Told, stream: socket.socket) -> None:
    told.dial(1, "tcp", stream.getsockname(), b"first ")
    peer, _ = stream.accept()
    with peer:
        told.until(lambda: told.carried == [Carried(line=1)])
        told.carry(1, b"second")
        assert peer.recv(12, socket.MSG_WAITALL) == b"first second"
        peer.sendall(b"x" * 40_000)
        told.until(lambda: len(told.data(1)) == 40_000)
        assert max(len(carried.data) for carried in told.carried) <= CARRIED_BYTES
    told.until(lambda: told.ended(1) != [])
    assert told.ended(1) == ["the server has closed the connection"]
    assert told.relay.wait_ms(SystemClock().now()) is None


def test_a_datagram_and_its_answers(told: Told, datagrams: socket.socket) -> None:
    told.dial(7, "udp", datagrams.getsockname(), b"question")
    data, peer = datagrams.recvfrom(100)
    assert data == b"question"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"of somebody else", peer)
    for answer in (b"one", b"", b"two"):
        datagrams.sendto(answer, peer)
    told.until(lambda: len(told.carried) == 3)
    assert told.carried == [Carried(line=7, data=data) for data in (b"one", b"", b"two")]
    told.relay.order(HangUp(line=7), SystemClock().now())
    datagrams.sendto(b"late", peer)
    told.until(lambda: told.relay.wait_ms(SystemClock().now()) is None)
    assert len(told.carried) == 3


@pytest.mark.parametrize("over", ["tcp", "udp"])
def test_nobody_there(told: Told, over: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM if over == "tcp" else socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        address = gone.getsockname()
    told.dial(1, over, address, b"x")
    told.until(lambda: told.ended(1) != [])
    assert told.ended(1) == ["connection failed: ECONNREFUSED"]


def test_an_address_that_is_none(told: Told) -> None:
    told.dial(1, "udp", ("1.2.3.4.5", 9), b"x")
    told.dial(2, "tcp", ("255.255.255.255", 9))
    assert len(told.ended(1)) == 1
    told.until(lambda: told.ended(2) != [])


def test_more_than_a_line_may_carry(told: Told, stream: socket.socket) -> None:
    told.dial(1, "tcp", stream.getsockname())
    peer, _ = stream.accept()
    with peer:
        peer.setblocking(False)

        def pour() -> bool:
            try:
                peer.send(b"x" * 65536)
            except OSError:
                pass  # full for now, or closed
            return told.ended(1) != []

        told.until(pour)
    assert told.ended(1) == [f"more than {LINE_BYTES} bytes"]
    assert len(told.data(1)) <= LINE_BYTES


def test_a_line_lives_for_a_bounded_time(told: Told, datagrams: socket.socket) -> None:
    told.dial(1, "udp", datagrams.getsockname(), b"x")
    now = SystemClock().now()
    wait = told.relay.wait_ms(now)
    assert wait is not None
    assert LINE_MS - 1_000 < wait <= LINE_MS
    told.relay.overdue(now)
    assert told.ended(1) == []
    told.relay.overdue(Moment(boot_ms=now.boot_ms + LINE_MS, utc_ms=0, boot_id=now.boot_id))
    assert told.ended(1) == ["the line was open for too long"]


def test_so_many_lines_and_no_more(told: Told, datagrams: socket.socket) -> None:
    for line in range(1, LINES + 2):
        told.dial(line, "udp", datagrams.getsockname(), b"x")
    assert told.ended(LINES + 1) == [f"more than {LINES} lines at a time"]
    told.dial(1, "udp", datagrams.getsockname(), b"again")
    told.carry(999, b"to nobody")
    told.carry(1, b"a stream's")
    told.relay.order(HangUp(line=999), SystemClock().now())
    assert len(told.carried) == 1


def test_what_tell_raises_is_not_taken_for_the_lines_end(datagrams: socket.socket) -> None:
    def gone(carried: Carried) -> None:
        raise BrokenPipeError("the warden is gone")

    relay = Relay(gone)
    dial = Dial(line=1, over="udp", address="127.0.0.1", port=datagrams.getsockname()[1], data=b"x")
    relay.order(dial, SystemClock().now())
    _, peer = datagrams.recvfrom(100)
    datagrams.sendto(b"answer", peer)
    poll = select.poll()
    relay.register(poll)
    ((descriptor, _),) = poll.poll(5_000)
    with pytest.raises(BrokenPipeError):
        relay.ready(descriptor)
    relay.close()
