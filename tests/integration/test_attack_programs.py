# SPDX-License-Identifier: Apache-2.0
"""Warden and watcher as processes, in observe mode, against floods, big policies and a second warden."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.provision import Desk, vmwarden
from tests.integration.test_integration_programs import OBSERVE, Running

#: each entry of a policy is one finding when the place is wrong
ENTRIES = 3_000


@pytest.fixture
def vm(tmp_path: Path) -> tuple[Path, Desk]:
    root = tmp_path / "vm"
    root.mkdir(mode=0o700)
    desk = Desk(tmp_path / "desk")
    vmwarden("enrol", "--root", root, "--vm", desk.vm, "--owners", desk.owners())
    vmwarden("apply", "--root", root, desk.policy(text=OBSERVE.format(name="p", version=1, zone="Etc/GMT+5")))
    return root, desk


@pytest.fixture
def running(vm: tuple[Path, Desk]) -> Iterator[Running]:
    run = Running(vm[0], "--user", "root")
    try:
        run.wait("would take posture")
        yield run
    finally:
        run.close()


def test_a_policy_with_many_places_can_be_told(running: Running, vm: tuple[Path, Desk]) -> None:
    root, desk = vm
    host = OBSERVE.format(name="p", version=2, zone="Etc/GMT+5")
    places = ", ".join(f'{{postal_codes: ["{n:05}"], country: DE}}' for n in range(ENTRIES))
    vmwarden(
        "apply",
        "--root",
        root,
        desk.policy(version=2, text=f"{host}place: {{any_of: [{places}], proof: declared}}\n"),
    )
    status = running.status()

    assert status["policy"]["version"] == 2  # type: ignore[index]
    assert running.process.poll() is None


def test_a_second_warden_stays_away(running: Running) -> None:
    words = ("run", "--observe", "--user", "root", "--for", "1s", "--root", str(running.root))
    second = subprocess.run(
        [sys.executable, "-m", "vmwarden.cli.main", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert second.returncode == 69, second.stderr
    assert "another warden" in second.stderr
    assert running.status()["posture"] == "held"
    vmwarden("journal", "verify", "--root", running.root)
    assert not list((running.root / "var/lib/vmwarden").glob("*corrupt*"))


def test_a_watcher_that_comes_and_goes_keeps_nobody_from_asking(running: Running) -> None:
    path = str(running.root / "run/vmwarden/watcher.sock")
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as one:
                one.settimeout(1)
                one.connect(path)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        answers = [_ask(running.root) for _ in range(150)]
    finally:
        stop.set()
        thread.join(10)

    assert [answer for answer in answers if "vm" not in answer] == []


def _ask(root: Path) -> dict[str, object]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(root / "run/vmwarden/control.sock"))
        client.sendall(b'{"request":"status"}\n')
        data = b""
        while more := client.recv(1 << 16):
            data += more
    return dict(json.loads(data or b"{}"))
