# SPDX-License-Identifier: Apache-2.0
"""What the watcher takes from itself, without systemd's help: user, capabilities, Landlock.

That its unit takes more: tests/vm/test_vm_privileges.py.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.reachable import reachable_folder
from tests.integration.test_integration_programs import Running
from vmwarden.linux import landlock

pytestmark = pytest.mark.root

PROBE = Path(__file__).with_name("confined_probe.py")
NOBODY = 65534
#: refused by user, groups and capabilities, whatever the kernel
BY_USER = ("shadow", "secret", "environment", "control", "ptrace", "signal", "packet", "mount", "root", "bpf")
#: refused by Landlock, to somebody whom the modes of the files would let
BY_LANDLOCK = ("create", "temporary", "overwrite", "exec")
BY_LANDLOCK_4 = ("bind",)
#: no unit forbids it the Internet here: then it may connect, as where the policy lists time servers
WITH_INTERNET = ("connect",)
BY_LANDLOCK_6 = ("abstract",)
#: makes a kernel without Landlock for what it starts: system calls 444 to 446 are answered with ENOSYS.
#: (BPF: load seccomp_data.nr; below 444 or beyond 446 allow, otherwise the error 38)
WITHOUT_LANDLOCK = """
import ctypes, os, struct, sys
steps = (0x20, 0, 0, 0), (0x35, 0, 2, 444), (0x25, 1, 0, 446), (0x06, 0, 0, 0x50026), (0x06, 0, 0, 0x7FFF0000)
program = b"".join(struct.pack("=HBBI", *step) for step in steps)
buffer = ctypes.create_string_buffer(program, len(program))
class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))
filter = Program(len(steps), ctypes.addressof(buffer))
if ctypes.CDLL(None).prctl(22, ctypes.c_ulong(2), ctypes.byref(filter), 0, 0):
    sys.exit("no filter")
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.fixture
def prepared(reachable: Path) -> Iterator[dict[str, Any]]:
    """Things of which each could be had without confinement."""
    here = reachable
    open_to_all = here / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    writable, secret = here / "writable", here / "secret"
    writable.write_bytes(b"x")
    writable.chmod(0o666)
    secret.write_bytes(b"x")
    secret.chmod(0o600)
    warden = subprocess.Popen(["/bin/sleep", "120"])
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as control,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        control.bind(str(here / "control.sock"))
        (here / "control.sock").chmod(0o600)
        control.listen()
        abstract.bind(f"\0vmwarden-probe-{os.getpid()}")
        abstract.listen()
        try:
            yield {
                "user": "nobody",
                "warden": warden.pid,
                "folder": str(open_to_all),
                "writable": str(writable),
                "secret": str(secret),
                "control": str(here / "control.sock"),
                "abstract": f"vmwarden-probe-{os.getpid()}",
                "port": server.getsockname()[1],
            }
        finally:
            warden.kill()
            warden.wait(10)


@pytest.fixture
def reachable() -> Iterator[Path]:
    with reachable_folder() as made:
        yield made


def probe(
    given: dict[str, Any], *tries: str, confine: bool, without_landlock: bool = False
) -> dict[str, str]:
    """What became of each try, in a mount namespace of its own."""
    asked = json.dumps({**given, "tries": tries, "confine": confine})
    kernel = ("-c", WITHOUT_LANDLOCK) if without_landlock else ()
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, *kernel, str(PROBE), asked],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, str] = {}
    for line in done.stdout.splitlines():
        said |= json.loads(line)
    assert set(said) == set(tries), (done.stdout, done.stderr)
    return said


def test_what_a_captured_watcher_tries(prepared: dict[str, Any]) -> None:
    version = landlock.abi()
    refused = {*BY_USER}
    for since, names in ((1, BY_LANDLOCK), (4, BY_LANDLOCK_4), (6, BY_LANDLOCK_6)):
        refused |= {*names} if version >= since else set()
    every = (*BY_USER, *WITH_INTERNET, *BY_LANDLOCK_4, *BY_LANDLOCK_6, *BY_LANDLOCK)

    assert set(probe(prepared, *every, confine=False).values()) == {"done"}
    said = probe(prepared, *every, confine=True)
    assert {name for name, what in said.items() if what != "done"} == refused, said
    said = probe(prepared, *every, confine=True, without_landlock=True)
    assert {name for name, what in said.items() if what != "done"} == {*BY_USER}, said


def test_the_watchers_process_has_nothing_left(reachable: Path) -> None:
    run = Running(reachable, "--user", "nobody")
    try:
        run.wait("the watcher is confined by Landlock" if landlock.abi() else "the watcher is not confined")
        run.wait_status("watcher", "connected")
        lines = Path(f"/proc/{run.watcher_pid()}/status").read_text().splitlines()
        notes = run.status().get("notes", [])
    finally:
        run.close()

    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert status["Uid"].split() == status["Gid"].split() == [str(NOBODY)] * 4
    assert status["Groups"].split() == []
    assert {status[f"Cap{which}"] for which in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert any("Landlock" in note for note in notes) is (landlock.abi() == 0)  # type: ignore[attr-defined]


def test_a_kernel_without_landlock_costs_a_note(reachable: Path) -> None:
    words = ("-m", "vmwarden.cli.main", "run", "--observe", "--user", "nobody", "--root", str(reachable))
    log = reachable / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", WITHOUT_LANDLOCK, *words], stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        until = time.monotonic() + 20
        while (status := status_of(reachable)).get("watcher") != "connected":
            assert time.monotonic() < until, (status, log.read_text())
            time.sleep(0.2)
    finally:
        process.terminate()
        process.wait(10)

    assert "the watcher is not confined by Landlock" in log.read_text()
    assert any("no Landlock" in note for note in status["notes"]), status["notes"]


def status_of(root: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "vmwarden.cli.main", "status", "--json", "--root", str(root)],
        capture_output=True,
        timeout=20,
        check=False,
    )
    return dict(json.loads(done.stdout or b"{}"))
