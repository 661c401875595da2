# SPDX-License-Identifier: Apache-2.0
"""vmwarden as a whole, enforcing: `vmwarden run` and the watcher that it starts, in a namespace as its VM.

It has a mount namespace of its own with an empty /run, so that it finds no systemd to ask for anything.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from testbed.provision import Desk, vmwarden
from vmwarden.cli.daemon import fetch
from vmwarden.errors import WorldError
from vmwarden.model.control import Status
from vmwarden.testing.network import PEER, Namespace

#: a verdict on a busy machine
SOON_S = 30.0
_POLICY = """\
format: vmwarden.policy/1
name: deaths
version: 1
vms: ["*"]
valid: {{from: "2026-01-01T00:00Z", until: "2036-01-01T00:00Z"}}
mode: enforce
gate: {{lease: {lease}}}
manage:
  in: [{{tcp: {manage}, from: {peer}/32}}]
host:
  all_of: [{{fact: guest.time_zone, in: [{zone}], proof: declared}}]
  recheck: {recheck}
  unknown: [{{after: 0s, posture: held}}]
"""
_OWN_RUN = 'mount -t tmpfs tmpfs /run && exec "$@"'


def enrolled(folder: Path, *, lease: str, recheck: str, manage: int) -> Path:
    """The root of a VM that may be open on this machine.  lease, recheck: as a policy has them.
    manage: the TCP port that stays."""
    root, desk = folder / "vm", Desk(folder / "desk")
    root.mkdir(mode=0o700)
    evidence = json.loads(vmwarden("evidence", "--json"))["evidence"]
    zone = next(str(each["value"]) for each in evidence if each["subject"] == "guest.time_zone")
    text = _POLICY.format(lease=lease, recheck=recheck, manage=manage, peer=PEER, zone=zone)
    vmwarden("enrol", "--root", root, "--vm", desk.vm, "--owners", desk.owners())
    vmwarden("apply", "--root", root, desk.policy(text=text))
    return root


class Enforcing:
    """A warden that was started, and its watcher."""

    def __init__(self, root: Path, process: subprocess.Popen[bytes]) -> None:
        self._root = root
        self.process = process

    @property
    def pid(self) -> int:
        return self.process.pid

    def watcher(self, *, other_than: int = 0) -> int:
        """Its process id, once there is one other than that."""

        def there() -> int:
            for word in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split():
                if int(word) != other_than:
                    return int(word)
            return 0

        return until(there, "no watcher")

    def status(self) -> Status:
        """Raises WorldError."""
        return fetch(self._root, "status", timeout_s=SOON_S)

    def supported_until_ms(self, *, after_ms: int = 0) -> int:
        """CLOCK_BOOTTIME at which what the open gate rests on ends, once it is later than that."""

        def known() -> int:
            with contextlib.suppress(WorldError):  # it does not listen yet
                status = self.status()
                end = status.decision.lease_until_boot_ms or 0
                return end if status.posture == "open" and end > after_ms else 0
            return 0

        return until(known, "not open by newer evidence")

    def said(self) -> str:
        """By all wardens of this root."""
        return (self._root / "log").read_text()


@contextlib.contextmanager
def enforcing(root: Path, where: Namespace) -> Iterator[Enforcing]:
    """From the start of the process on; killed with its watcher at the end, if it still runs."""
    words = [sys.executable, "-m", "vmwarden.cli.main", "run", "--root", str(root), "--user", "root"]
    with (root / "log").open("ab") as log, where.entered():
        process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", _OWN_RUN, "sh", *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Enforcing(root, process)
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()  # the watcher goes with it (PR_SET_PDEATHSIG), also when it is stopped
        process.wait(SOON_S)


def until(what: Callable[[], int], otherwise: str, *, within_s: float = SOON_S) -> int:
    """What it returns once that is not 0."""
    deadline = time.monotonic() + within_s
    while not (found := what()):
        assert time.monotonic() < deadline, f"{otherwise} within {within_s:g} s"
        time.sleep(0.01)
    return found


def boot_ms(realtime_ns: int) -> float:
    """The CLOCK_BOOTTIME of a recent moment of CLOCK_REALTIME."""
    ahead = time.clock_gettime_ns(time.CLOCK_REALTIME) - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return (realtime_ns - ahead) / 1e6
