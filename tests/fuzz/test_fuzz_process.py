# SPDX-License-Identifier: Apache-2.0
"""The real program, observing, with a captured watcher and hostile clients on its sockets."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.messages import messages
from tests.fuzz.mutate import Mutator
from tests.fuzz.state_files import ARMED
from vmwarden.model.installed import Cell, Slot
from vmwarden.store.layout import Layout

REQUESTS = (
    b'{"request":"status"}',
    b'{"request":"settled"}',
    b'{"request":"reload"}',
    b'{"request":"checkpoint"}',
)


def put(layout: Layout, state: dict[Slot, Cell]) -> None:
    layout.etc.mkdir(parents=True)
    layout.state.mkdir(parents=True, mode=0o700)
    for slot, cell in state.items():
        if isinstance(cell, bytes):
            layout.path(slot).write_bytes(cell)
            layout.path(slot).chmod(0o600)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Enrolled and armed; below a folder whose name is no text, which a command line may well have."""
    found = tmp_path / os.fsdecode(b"vm-\xff")
    found.mkdir(mode=0o755)
    put(Layout.below(found), ARMED[0])
    return found


@contextlib.contextmanager
def running(root: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """--observe: it touches nothing of this machine, whatever the policy says."""
    words = ["run", "--observe", "--watcher", "external", "--user", "root", "--root", str(root)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "vmwarden.cli.main", *words],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "NOTIFY_SOCKET": "@" + "x" * 200, "WATCHDOG_USEC": "²"},
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def ask(layout: Layout, request: bytes) -> dict[str, object]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(layout.control_socket))
        client.sendall(request + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            part = client.recv(65536)
            assert part, "the warden hung up"
            answer += part
    return dict(json.loads(answer))


def wait_for(path: Path) -> None:
    until = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < until, f"no {path.name}"
        time.sleep(0.05)


class Hostile:
    """A watcher, and clients of the control socket, that do what they like."""

    def __init__(self, layout: Layout, rng: random.Random) -> None:
        self._layout = layout
        self._rng = rng
        self._mutator = Mutator(rng)
        self._said = [one for one in messages() if b'"jws"' not in one]
        self._watcher: socket.socket | None = None
        self._clients: list[socket.socket] = []
        self.sent = 0

    def watcher(self) -> None:
        """One datagram, or a new connection, or silence."""
        with contextlib.suppress(OSError):
            if self._watcher is None or self._rng.random() < 0.05:
                self._close(self._watcher)
                self._watcher = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                self._watcher.setblocking(False)
                self._watcher.connect(str(self._layout.watcher_socket))
            data, other = self._rng.choice(self._said), self._rng.choice(self._said)
            changed = data if self._rng.random() < 0.4 else self._mutator.json(data, other)
            self._watcher.send(changed[: 1 << 16])
            self.sent += 1
            return
        self._close(self._watcher)
        self._watcher = None

    def client(self) -> None:
        """A request that is almost right, whole or in pieces; answers are left unread."""
        if not self._clients or (len(self._clients) < 20 and self._rng.random() < 0.5):
            self._clients.append(socket.socket(socket.AF_UNIX))
            self._clients[-1].setblocking(False)
            with contextlib.suppress(OSError):
                self._clients[-1].connect(str(self._layout.control_socket))
        client = self._rng.choice(self._clients)
        request = self._rng.choice(REQUESTS)
        if self._rng.random() < 0.6:
            request = self._mutator.json(request, self._rng.choice(REQUESTS))
        with contextlib.suppress(OSError):
            client.send(request[: self._rng.choice((3, 5_000))] + self._rng.choice((b"", b"\n")))
            self.sent += 1
            if self._rng.random() < 0.5:
                return
        self._clients.remove(client)
        client.close()

    def close(self) -> None:
        for one in (self._watcher, *self._clients):
            self._close(one)

    @staticmethod
    def _close(one: socket.socket | None) -> None:
        if one is not None:
            one.close()


@pytest.mark.parametrize("seconds", [2, pytest.param(120, marks=pytest.mark.soak)])
def test_the_program_lives_through_a_flood_of_lies_and_opens_nothing(
    seconds: int, root: Path, tmp_path: Path
) -> None:
    layout, log = Layout.below(root), tmp_path / "log"
    kept = (Slot.OWNERS, Slot.POLICY, Slot.ARMED, Slot.ENROLMENT, Slot.IDENTITY)
    before = {slot: layout.path(slot).read_bytes() for slot in kept}
    with running(root, log) as process:
        wait_for(layout.control_socket)
        hostile = Hostile(layout, random.Random(seconds))
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for _ in range(20):
                hostile.watcher()
                hostile.client()
            if hostile.sent % 7 == 0:
                process.send_signal(signal.SIGHUP)
            time.sleep(0.002)
            assert process.poll() is None, log.read_text(errors="replace")
        hostile.close()
        time.sleep(0.5)  # for the loop to see that its clients are gone
        status = ask(layout, b'{"request":"status"}')
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert hostile.sent > 100 * seconds
    assert "Traceback" not in log.read_text(errors="replace")
    assert status["posture"] != "open" and status["posture"] != "guarded"
    assert status["armed"] is True and status["policy"] is not None
    assert {slot: layout.path(slot).read_bytes() for slot in kept} == before
    print(f"{hostile.sent} messages in {seconds} s")
