# SPDX-License-Identifier: Apache-2.0
"""One QEMU process: started, watched, saved, and always ended."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType

from testbed import qemu_arguments
from testbed.commands import require, search_path, tail
from testbed.failures import GuestTimeout, MachineFailed
from testbed.guest import Guest
from testbed.qmp import Qmp
from testbed.spec import MachineSpec

TOOLS = (qemu_arguments.QEMU, "setpriv")
BOOT_LIMIT = 180.0  # seconds until the agent must answer: ten times what a boot takes on a quiet machine
_START_LIMIT = 30.0
_END_LIMIT = 15.0
_LAST_WORDS = 0.3
_POLL = 0.01
_FAST_MIGRATION = 10**10  # bytes a second: no limit in practice


class _Starter:
    """Starts processes from one thread that lives as long as this Python.

    The kernel's parent-death signal (prctl(2)) comes when the *thread* that started the child ends, so a
    machine started from a test's own thread would die with that thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted = threading.Semaphore(0)
        self._ready = threading.Semaphore(0)
        self._order: tuple[list[str], Path] | None = None
        self._result: subprocess.Popen[bytes] | OSError | None = None
        self._thread: threading.Thread | None = None

    def start(self, words: list[str], log: Path) -> subprocess.Popen[bytes]:
        """Start ``words`` with nothing as input and ``log`` for both outputs. Raises `OSError`."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="testbed starter", daemon=True)
                self._thread.start()
            self._order = (words, log)
            self._wanted.release()
            self._ready.acquire()
            result = self._result
        if isinstance(result, subprocess.Popen):
            return result
        raise result or RuntimeError("the starter gave no answer")

    def _serve(self) -> None:
        while True:
            self._wanted.acquire()
            if self._order is None:
                continue
            words, log = self._order
            try:
                with log.open("wb") as out:
                    self._result = subprocess.Popen(
                        words,
                        stdin=subprocess.DEVNULL,
                        stdout=out,
                        stderr=subprocess.STDOUT,
                        env={**os.environ, "PATH": search_path()},
                        # Ctrl-C is for the test, which then closes its machines.
                        process_group=0,
                    )
            except OSError as problem:
                self._result = problem
            self._ready.release()


_STARTER = _Starter()


class Machine:
    """A virtual machine that runs from construction to `close`; use it in a ``with`` statement.

    Construction returns as soon as QEMU answers; `guest` waits for the agent. Raises `MachineFailed` with
    QEMU's words when it does not start, `MissingTool` when a program is not installed.
    """

    def __init__(self, spec: MachineSpec) -> None:
        require(TOOLS)
        self.spec = spec
        self.started = time.monotonic()
        self.directory = Path(tempfile.mkdtemp(prefix="vmwarden-bed-"))
        self._guest: Guest | None = None
        self._qmp: Qmp | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._guard = threading.Timer(spec.lifetime, self._kill)
        self._guard.daemon = True
        self._guest_lock = threading.Lock()
        try:
            words = qemu_arguments.command_line(spec, self.directory)
            self._process = _STARTER.start(words, self.directory / "qemu.log")
            self._guard.start()
            self._qmp = self._connect_qmp()
            self._qmp.execute("migrate-set-parameters", max_bandwidth=_FAST_MIGRATION)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def qmp(self) -> Qmp:
        """QEMU's own protocol, for what this class has no word for."""
        if self._qmp is None:
            raise MachineFailed("this machine is closed")
        return self._qmp

    @property
    def guest(self) -> Guest:
        """The inside, once its agent answers; waits up to `BOOT_LIMIT` seconds for it. See `wait_guest`."""
        return self.wait_guest(BOOT_LIMIT)

    @property
    def pid(self) -> int:
        """Process id of QEMU."""
        if self._process is None:
            raise MachineFailed("this machine is closed")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether QEMU is alive (a paused guest is alive; one that has powered off is not)."""
        return self._process is not None and self._process.poll() is None

    def wait_guest(self, timeout: float) -> Guest:
        """The inside, once its agent answers. Raises `MachineFailed` with the console's end otherwise."""
        with self._guest_lock:
            if self._guest is not None:
                return self._guest
            try:
                guest = Guest(self.directory / qemu_arguments.AGENT_SOCKET, timeout)
            except OSError as problem:
                raise self._failure(f"no connection to the guest's agent: {problem}") from problem
            deadline = time.monotonic() + timeout
            try:
                while True:
                    try:
                        guest.ping(min(2.0, max(0.1, deadline - time.monotonic())))
                        break
                    except GuestTimeout:
                        if not self.running or time.monotonic() > deadline:
                            raise
            except (GuestTimeout, MachineFailed) as problem:
                guest.close()
                raise self._failure(f"the guest's agent did not answer within {timeout:.0f} s") from problem
            self._guest = guest
            return guest

    def pause(self) -> None:
        """Freeze the guest (QMP stop)."""
        self.qmp.execute("stop")

    def resume(self) -> None:
        """Let a frozen guest run on (QMP cont)."""
        self.qmp.execute("cont")

    def reset(self) -> None:
        """Press the reset button. As QEMU runs with ``-no-reboot`` the machine ends: start its spec again."""
        self.qmp.execute("system_reset")

    def quit(self, timeout: float = _END_LIMIT) -> None:
        """Pull the plug: QEMU ends at once and in order, the guest is not asked."""
        self.qmp.execute("quit")
        self.wait_exit(timeout)

    def power_off(self, timeout: float = 30.0) -> None:
        """Write the guest's changes to its disks and switch it off without asking its services."""
        self.guest.sh("sync; (sleep 0.2; echo o > /proc/sysrq-trigger) > /dev/null 2>&1 &", check=True)
        self.wait_exit(timeout)

    def wait_exit(self, timeout: float) -> int:
        """QEMU's exit code, once the guest has powered off, rebooted or panicked. Raises `MachineFailed`."""
        if self._process is None:
            raise MachineFailed("this machine is closed")
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired as problem:
            raise self._failure(f"the machine did not end within {timeout:.0f} s") from problem

    def save(self, path: Path, timeout: float = 60.0) -> None:
        """Write memory and devices to ``path``; the guest stays frozen afterwards (close the machine).

        Writable disks are not in it: see `testbed.snapshot`.
        """
        unfinished = path.with_name(f".{path.name}.part")
        try:
            self.migrate(f"exec:cat > {shlex.quote(str(unfinished))}", timeout)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    def migrate(self, uri: str, timeout: float = 60.0) -> None:
        """Move the guest to ``uri`` (``unix:/path`` of a machine with that `MachineSpec.incoming`)."""
        self.qmp.execute("migrate", uri=uri)
        deadline = time.monotonic() + timeout
        while True:
            state = self.qmp.execute("query-migrate")
            if state.get("status") == "completed":
                return
            if state.get("status") in ("failed", "cancelled") or time.monotonic() > deadline:
                raise self._failure(
                    f"migration to {uri}: {state.get('status')} {state.get('error-desc', '')}"
                )
            time.sleep(_POLL)

    def wait_running(self, timeout: float = 30.0) -> None:
        """Return once the guest runs: after an incoming migration it does so by itself."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                if self.qmp.execute("query-status")["status"] == "running":
                    return
            except MachineFailed as problem:
                raise self._failure(f"the guest did not go on: {problem}") from problem
            if time.monotonic() > deadline:
                raise self._failure(f"the guest did not run within {timeout:.0f} s")
            time.sleep(_POLL)

    def console(self) -> str:
        """All that the guest has written to its serial console."""
        try:
            return (self.directory / qemu_arguments.CONSOLE_LOG).read_text("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def wait_console(self, pattern: str, timeout: float) -> re.Match[str]:
        """The first place where the console's text matches the regular expression. Raises `MachineFailed`."""
        deadline = time.monotonic() + timeout
        while True:
            ended = not self.running
            found = re.search(pattern, self.console(), re.MULTILINE)
            if found:
                return found
            if ended or time.monotonic() > deadline:
                raise self._failure(f"the console did not show {pattern!r} within {timeout:.0f} s")
            time.sleep(0.05)

    def open_console(self) -> socket.socket:
        """The serial console for typing: a connected unix socket (one at a time), closed by the caller."""
        console = socket.socket(socket.AF_UNIX)
        try:
            console.settimeout(_START_LIMIT)
            console.connect(str(self.directory / qemu_arguments.CONSOLE_SOCKET))
        except OSError:
            console.close()
            raise
        return console

    def cpu_seconds(self) -> float:
        """Processor time that QEMU has used so far, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_bytes(self) -> int:
        """Memory that QEMU has resident now."""
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def close(self) -> None:
        """End QEMU, whatever it is doing, and remove the machine's directory. May be called twice."""
        self._guard.cancel()
        if self._guest is not None:
            self._guest.close()
            self._guest = None
        if self._qmp is not None:
            self._qmp.close()
            self._qmp = None
        if self._process is not None:
            self._kill()
            self._process.wait(_END_LIMIT)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    def _connect_qmp(self) -> Qmp:
        deadline = time.monotonic() + _START_LIMIT
        while True:
            try:
                return Qmp(self.directory / qemu_arguments.QMP_SOCKET, _START_LIMIT)
            except (FileNotFoundError, ConnectionRefusedError):
                if not self.running or time.monotonic() > deadline:
                    raise self._failure("QEMU did not start") from None
                time.sleep(_POLL)
            except (OSError, MachineFailed) as problem:
                raise self._failure(f"QEMU did not start: {problem}") from problem

    def _failure(self, what: str) -> MachineFailed:
        log = self.directory / "qemu.log"
        said = log.read_text("utf-8", "replace") if log.exists() else ""
        if self._process is not None and not said:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_LAST_WORDS)  # a QEMU that has just closed its sockets is about to say why
            said = log.read_text("utf-8", "replace") if log.exists() else ""
        state = "runs" if self.running else f"exited {self._process.returncode if self._process else '?'}"
        return MachineFailed(
            f"{what}; QEMU {state} and said:\n{tail(said)}\nend of the console:\n{tail(self.console())}"
        )
