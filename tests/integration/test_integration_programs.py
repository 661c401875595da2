# SPDX-License-Identifier: Apache-2.0
"""Warden and watcher as processes, in observe mode (they touch nothing), below a folder of their own."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.provision import Desk, vmwarden

OBSERVE = """\
format: vmwarden.policy/1
name: {name}
version: {version}
vms: ["*"]
valid: {{from: "2026-01-01T00:00Z", until: "2036-01-01T00:00Z"}}
mode: observe
host:
  all_of: [{{fact: guest.time_zone, in: [{zone}], proof: declared}}]
  recheck: 3s
"""


class Running:
    """`vmwarden run --observe` below root."""

    def __init__(self, root: Path, *words: str, env: dict[str, str] | None = None) -> None:
        self.root = root
        self.log = root / "log"
        self._out = self.log.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vmwarden.cli.main", "run", "--observe", "--root", str(root), *words],
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
        )

    def status(self) -> dict[str, object]:
        done = subprocess.run(
            [sys.executable, "-m", "vmwarden.cli.main", "status", "--json", "--root", str(self.root)],
            capture_output=True,
            timeout=20,
            check=False,
        )
        return dict(json.loads(done.stdout))

    def wait(self, wanted: str, seconds: float = 20) -> str:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            text = self.log.read_text()
            if wanted in text:
                return text
            time.sleep(0.05)
        raise AssertionError(f"{wanted!r} not within {seconds} s:\n{self.log.read_text()}")

    def wait_status(self, key: str, value: object, seconds: float = 20) -> dict[str, object]:
        until = time.monotonic() + seconds
        while True:
            status = self.status()
            if status.get(key) == value:
                return status
            assert time.monotonic() < until, status
            time.sleep(0.1)

    def wait_answer(self, answer: str, seconds: float = 20) -> None:
        until = time.monotonic() + seconds
        while (status := self.status())["decision"]["answer"] != answer:  # type: ignore[index]
            assert time.monotonic() < until, status
            time.sleep(0.2)

    def watcher_pid(self) -> int:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        assert len(children) == 1, children
        return int(children[0])

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        self.process.kill()
        self.process.wait(10)
        self._out.close()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Desk]:
    """A VM's folder, enrolled, with a policy in force; to be copied."""
    base = tmp_path_factory.mktemp("template")
    root = base / "vm"
    root.mkdir(mode=0o700)
    desk = Desk(base / "desk")
    vmwarden("enrol", "--root", root, "--vm", desk.vm, "--owners", desk.owners())
    apply(desk, root, version=1)
    return root, desk


@pytest.fixture
def enrolled(template: tuple[Path, Desk], tmp_path: Path) -> tuple[Path, Desk]:
    return copy_of(template[0], tmp_path), template[1]


def copy_of(root: Path, folder: Path) -> Path:
    return Path(shutil.copytree(root, folder / "vm", ignore=shutil.ignore_patterns("*.sock", "log")))


@pytest.fixture(scope="module")
def shared(template: tuple[Path, Desk], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One warden for tests after which it has to be as before."""
    run = Running(copy_of(template[0], tmp_path_factory.mktemp("shared")), "--user", "root")
    try:
        run.wait("would take posture open: allow")
        yield run
    finally:
        run.close()


def apply(desk: Desk, root: Path, *, version: int, zone: str = "") -> None:
    here = zone or _own_zone()
    text = OBSERVE.format(name="programs", version=version, zone=here)
    vmwarden("apply", "--root", root, desk.policy(version=version, text=text))


def _own_zone() -> str:
    evidence = json.loads(vmwarden("evidence", "--json"))["evidence"]
    return next(str(e["value"]) for e in evidence if e["subject"] == "guest.time_zone")


@pytest.fixture
def running(enrolled: tuple[Path, Desk]) -> Iterator[Running]:
    run = Running(enrolled[0], "--user", "root")
    try:
        run.wait("would take posture open: allow")
        yield run
    finally:
        run.close()


def test_first_verdict_and_status(shared: Running) -> None:
    status = shared.wait_status("settled", True)

    assert status["posture"] == "open"
    assert status["mode"] == "observe"
    assert status["watcher"] == "connected"
    assert status["last_verified"]


def test_a_killed_watcher_is_started_again_and_the_verdict_stays(shared: Running) -> None:
    first = shared.watcher_pid()
    os.kill(first, signal.SIGKILL)
    shared.wait("starting it again")
    status = shared.wait_status("watcher", "connected")

    assert shared.watcher_pid() != first
    assert status["posture"] == "open"


def test_a_stopped_watcher_ages_the_evidence(shared: Running) -> None:
    pid = shared.watcher_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        shared.wait_answer("unknown")
    finally:
        os.kill(pid, signal.SIGCONT)
    shared.wait_answer("allow")


def test_sigterm_ends_both_and_removes_the_sockets(running: Running) -> None:
    watcher = running.watcher_pid()
    running.process.terminate()

    assert running.process.wait(10) == 0
    assert not Path(f"/proc/{watcher}").exists()
    assert not (running.root / "run/vmwarden/control.sock").exists()


def test_a_killed_warden_takes_its_watcher_along(running: Running) -> None:
    watcher = running.watcher_pid()
    running.process.kill()
    running.process.wait(10)
    until = time.monotonic() + 5
    while Path(f"/proc/{watcher}").exists():
        assert time.monotonic() < until, "the watcher outlived its warden"
        time.sleep(0.05)


def test_apply_reaches_the_running_warden(running: Running, enrolled: tuple[Path, Desk]) -> None:
    apply(enrolled[1], enrolled[0], version=2, zone="Etc/GMT+5")
    running.wait("would take posture held: deny: guest.time_zone.mismatch")


def test_sighup_reads_the_policy_again(shared: Running) -> None:
    before = shared.status()["journal"]["size"]  # type: ignore[index]
    shared.process.send_signal(signal.SIGHUP)
    time.sleep(1)

    assert shared.process.poll() is None
    assert shared.status()["journal"]["size"] >= before  # type: ignore[index]


def test_the_journal_verifies_while_it_is_written(shared: Running) -> None:
    vmwarden("journal", "verify", "--root", shared.root)
    shown = vmwarden("journal", "show", "--root", shared.root)

    assert "warden.started" in shown
    assert "decision.changed" in shown


@pytest.mark.parametrize(
    "data", [b"", b"x", b"{}", b"\xff" * 65536, b'{"type":"gathered","turn":1} ', b'{"type":"declared"}']
)
def test_garbage_on_the_watchers_socket_is_survived(shared: Running, data: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as intruder:
        intruder.connect(str(shared.root / "run/vmwarden/watcher.sock"))
        with contextlib.suppress(OSError):
            intruder.send(data)
        time.sleep(0.3)

    assert shared.process.poll() is None
    shared.wait_status("watcher", "connected")
    assert shared.status()["posture"] == "open"


@pytest.mark.parametrize(
    "data", [b"\n", b"{}\n", b"x" * 100_000, b'{"request":"open"}\n', b'{"request":"status"} \n']
)
def test_garbage_on_the_control_socket_is_survived(shared: Running, data: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(shared.root / "run/vmwarden/control.sock"))
        with contextlib.suppress(OSError):
            client.sendall(data)
            client.recv(65536)

    assert shared.status()["posture"] == "open"


def test_many_idle_clients_do_not_lock_the_owner_out(shared: Running) -> None:
    clients = []
    try:
        for _ in range(40):
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(2)
            with contextlib.suppress(OSError):
                client.connect(str(shared.root / "run/vmwarden/control.sock"))
            clients.append(client)
        time.sleep(0.5)
    finally:
        for client in clients:
            client.close()

    assert shared.status()["posture"] == "open"


@pytest.mark.root
def test_other_users_are_refused_by_both_sockets(shared: Running) -> None:
    for name, kind in (("control.sock", socket.SOCK_STREAM), ("watcher.sock", socket.SOCK_SEQPACKET)):
        path = shared.root / "run/vmwarden" / name
        code = (
            "import os,socket,sys; os.setresgid(65534,65534,65534); os.setresuid(65534,65534,65534)\n"
            f"s=socket.socket(socket.AF_UNIX,{int(kind)})\n"
            f"s.connect({str(path)!r})"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=20, check=False)

        assert b"PermissionError" in done.stderr, name


def test_systemd_is_told(enrolled: tuple[Path, Desk], tmp_path: Path) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(address))
        systemd.settimeout(20)
        run = Running(enrolled[0], "--user", "root", env={"NOTIFY_SOCKET": str(address)})
        try:
            heard = systemd.recv(4096)
            assert heard == b"READY=1"
            assert systemd.recv(4096) == b"WATCHDOG=1"
        finally:
            run.close()
        last = b""
        systemd.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                last = systemd.recv(4096)
        assert last == b"STOPPING=1"


def test_without_enrolment_it_observes_and_keeps_nothing(tmp_path: Path) -> None:
    run = Running(tmp_path, "--user", "root")
    try:
        run.wait("observe")
        assert run.status()["enrolled"] is False
    finally:
        run.close()
    assert not (tmp_path / "var/lib/vmwarden/journal.db").exists()


def test_boot_check_answers_within_its_bound_without_a_warden(tmp_path: Path) -> None:
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "vmwarden.cli.main", "boot-check", "--bound", "1s", "--root", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 4
    assert "no word from the warden" in done.stdout
    assert time.monotonic() - begun < 10
