# SPDX-License-Identifier: Apache-2.0
"""The watcher's loop over real sockets: it sleeps while nothing is asked, looks for the host when it is
asked, and stops at once."""

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vmwarden.channels.unix import UnixSocket
from vmwarden.linux.clock import SystemClock
from vmwarden.linux.sockets import listen
from vmwarden.model.message import MESSAGE_BYTES, Declared, Gather, Gathered, ToWarden
from vmwarden.model.moment import Moment
from vmwarden.model.statement import Audience, Challenge
from vmwarden.rules import canonical
from vmwarden.testing.tree import FakeTree
from vmwarden.watcher.program import Watcher

CHALLENGE = Challenge(aud=Audience(vm="payments-1", generation=1), nonce="n" * 43)


class CountingClock(SystemClock):
    """Every turn of the loop reads it."""

    read = 0

    def now(self) -> Moment:
        self.read += 1
        return super().now()


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The watcher sets its own."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Warden:
    """The other end of its socket."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link

    def order(self, turn: int, challenge: Challenge | None = None) -> list[ToWarden]:
        """All that is told until the sources have been asked."""
        self._link.send(canonical.encode(Gather(turn=turn, challenge=challenge)))
        told: list[ToWarden] = []
        while not told or not isinstance(told[-1], Gathered):
            data = self._link.recv(MESSAGE_BYTES)
            message: ToWarden = canonical.decode(data, ToWarden, limit=MESSAGE_BYTES, what="a message")  # type: ignore[arg-type]
            told.append(message)
        return told


@contextmanager
def accepted(path: Path) -> Iterator[tuple[socket.socket, Callable[[], Warden]]]:
    with listen(path, kind=socket.SOCK_SEQPACKET, mode=0o600) as listener:
        listener.settimeout(5)

        def accept() -> Warden:
            link = listener.accept()[0]
            link.settimeout(5)
            return Warden(link)

        yield listener, accept


def while_running(watcher: Watcher, play: Callable[[], None]) -> float:
    """Play beside the running watcher and stop it; seconds from the stop to its end."""
    stopped: list[float] = []
    wrong: list[BaseException] = []

    def beside() -> None:
        try:
            play()
        except BaseException as error:  # noqa: BLE001 - told in the test's own thread
            wrong.append(error)
        finally:
            stopped.append(time.monotonic())
            watcher.stop()

    thread = threading.Thread(target=beside)
    thread.start()
    watcher.run()
    ended = time.monotonic()
    thread.join()
    if wrong:
        raise wrong[0]
    return ended - stopped[0]


def watcher_of(tmp_path: Path, clock: SystemClock | None = None) -> Watcher:
    return Watcher(
        warden=tmp_path / "watcher.sock",
        sources=(),
        tree=FakeTree(),
        ways=(UnixSocket(tmp_path / "host.sock"),),
        clock=clock or SystemClock(),
    )


def test_it_sleeps_while_nothing_is_asked_and_stops_at_once(tmp_path: Path) -> None:
    clock, turns = CountingClock(), []
    with accepted(tmp_path / "watcher.sock") as (_, accept):

        def play() -> None:
            warden = accept()
            warden.order(1)
            time.sleep(0.1)
            turns.append(clock.read)
            time.sleep(1.2)
            turns.append(clock.read)

        assert while_running(watcher_of(tmp_path, clock), play) < 0.4
    assert turns[0] == turns[1]


def test_without_a_warden_it_stops_at_once_too(tmp_path: Path) -> None:
    assert while_running(watcher_of(tmp_path), lambda: time.sleep(0.1)) < 0.4


def test_a_host_that_came_later_is_found_when_it_is_asked(tmp_path: Path) -> None:
    with accepted(tmp_path / "watcher.sock") as (_, accept):

        def play() -> None:
            warden = accept()
            absent = warden.order(1, CHALLENGE)[0]
            assert isinstance(absent, Declared)
            assert absent.evidence[0].finding == "channel.absent"
            with listen(tmp_path / "host.sock", kind=socket.SOCK_STREAM, mode=0o600) as host:
                host.settimeout(5)
                told = warden.order(2, CHALLENGE)
                assert told == [Gathered(turn=2, waiting=1)]
                channel = host.accept()[0]
                with channel:
                    channel.settimeout(5)
                    assert CHALLENGE.nonce.encode() in channel.recv(4096)

        while_running(watcher_of(tmp_path), play)
