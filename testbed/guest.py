# SPDX-License-Identifier: Apache-2.0
"""Calls into a guest, over the virtio serial port on which `testbed/baked/guest_agent.py` answers."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shlex
import socket
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from testbed.failures import GuestError, GuestTimeout, MachineFailed

_CHUNK = 256 << 10  # bytes of a file in one message
_RECEIVE = 1 << 16
_GRACE = 10.0  # seconds beyond a command's own limit until the agent itself is taken for dead
_FILE_LIMIT = 60.0
_SEED = 64
_RNDRESEEDCRNG = 0x5207  # linux/random.h: _IO('R', 7)

GuestPath = str | PurePosixPath


@dataclass(frozen=True)
class Completed:
    """A shell command that ended."""

    cmd: str
    rc: int
    out: str
    """Standard output and standard error together; at most the last 4 MiB."""
    seconds: float
    """As measured in the guest."""


@dataclass(frozen=True)
class Background:
    """A command that runs on in the guest."""

    pid: int
    """Also the id of its process group."""
    log: str
    """File in the guest that gets its output."""


class Guest:
    """The inside of a running machine. Calls may come from several threads and then run side by side."""

    def __init__(self, path: Path, timeout: float) -> None:
        """Connect to the agent's socket ``path`` within ``timeout`` seconds; the guest hears nothing yet."""
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Future[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._socket.settimeout(None)
        self._reader = threading.Thread(target=self._read, name=f"guest {path}", daemon=True)
        self._reader.start()

    def ping(self, timeout: float = 10.0) -> float:
        """Seconds since the guest's boot, which shows that its agent answers. Raises `GuestTimeout`."""
        return float(self._call("ping", timeout)["uptime"])

    def sh(self, cmd: str, timeout: float = 60.0, check: bool = False) -> Completed:
        """Run ``cmd`` by /bin/sh as root, with /dev/null as input and / as directory; wait for its end.

        Raises `GuestTimeout` when it runs longer than ``timeout`` seconds (it is killed), and with
        ``check`` `GuestError` when it exits non-zero.
        """
        answer = self._call("sh", timeout + _GRACE, cmd=cmd, timeout=timeout)
        done = Completed(cmd, int(answer["rc"]), str(answer["out"]), float(answer["seconds"]))
        if check and done.rc != 0:
            raise GuestError(f"in the guest, {cmd!r} exited {done.rc}; it said:\n{done.out}")
        return done

    def out(self, cmd: str, timeout: float = 60.0) -> str:
        """What ``cmd`` prints, without white space at the end. Raises `GuestError` if it exits non-zero."""
        return self.sh(cmd, timeout, check=True).out.rstrip()

    def py(self, code: str, timeout: float = 60.0) -> str:
        """Run Python ``code`` inside the agent (4 ms; a new Python takes a second); return what it prints.

        All calls share one set of names, so what one defines the next can use. Raises `GuestError` with
        the traceback, `GuestTimeout` when it runs longer (the code cannot be killed and runs on).
        """
        return str(self._call("py", timeout + _GRACE, code=code, timeout=timeout)["out"])

    def put(self, path: GuestPath, data: bytes | str, mode: int = 0o644) -> None:
        """Write a file, at once visible in full; its directory is made if need be."""
        raw = data.encode() if isinstance(data, str) else data
        starts = range(0, max(1, len(raw)), _CHUNK)
        for start in starts:
            self._call(
                "put",
                _FILE_LIMIT,
                path=str(path),
                data=base64.b64encode(raw[start : start + _CHUNK]).decode(),
                mode=mode,
                first=start == 0,
                last=start == starts[-1],
            )

    def get(self, path: GuestPath) -> bytes:
        """Read a file up to its end, also of /proc and /sys. Raises `GuestError` if there is none."""
        parts: list[bytes] = []
        offset = 0
        while True:
            answer = self._call("get", _FILE_LIMIT, path=str(path), offset=offset, size=_CHUNK)
            part = base64.b64decode(answer["data"])
            parts.append(part)
            offset += len(part)
            if len(part) < _CHUNK:
                return b"".join(parts)

    def spawn(self, cmd: str) -> Background:
        """Start ``cmd`` by /bin/sh in a session of its own and return at once."""
        answer = self._call("spawn", _FILE_LIMIT, cmd=cmd)
        return Background(int(answer["pid"]), str(answer["log"]))

    def poll(self, background: Background) -> int | None:
        """Exit code of a spawned command (negative: the signal that ended it), or None while it runs."""
        rc = self._call("poll", _FILE_LIMIT, pid=background.pid)["rc"]
        return None if rc is None else int(rc)

    def wait_until(self, cmd: str, timeout: float, every: float = 0.1) -> Completed:
        """Run ``cmd`` again and again until it exits 0. Raises `GuestTimeout` with its last output."""
        deadline = time.monotonic() + timeout
        while True:
            done = self.sh(cmd, timeout)
            if done.rc == 0:
                return done
            if time.monotonic() > deadline:
                raise GuestTimeout(
                    f"{cmd!r} did not succeed within {timeout} s; at last it said:\n{done.out}"
                )
            time.sleep(every)

    def disk(self, serial: str) -> str:
        """Device of the disk with that serial, such as ``/dev/vdc``: the fast guest has no /dev/disk."""
        found = self.sh(f"grep -lx {shlex.quote(serial)} /sys/block/vd*/serial").out.split()
        if len(found) != 1:
            raise GuestError(f"the guest has {len(found)} disks with the serial {serial!r}")
        return f"/dev/{PurePosixPath(found[0]).parent.name}"

    def set_clock(self, unix_seconds: float) -> None:
        """Set the guest's real-time clock (not its RTC). A restored guest's stands at the time of saving."""
        self.py(f"import time; time.clock_settime(time.CLOCK_REALTIME, {unix_seconds!r})")

    def reseed(self) -> None:
        """Give the guest random numbers of its own, which the clones of one snapshot do not have."""
        seed = base64.b64encode(os.urandom(_SEED)).decode()
        self.py(
            "import base64, fcntl\n"
            f"with open('/dev/urandom', 'wb') as device:\n    device.write(base64.b64decode({seed!r}))\n"
            f"    device.flush()\n    fcntl.ioctl(device, {_RNDRESEEDCRNG:#x})"
        )

    def close(self) -> None:
        """Close the connection; the guest goes on."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # QEMU is gone already
        self._socket.close()
        self._reader.join(5)

    def _call(self, operation: str, patience: float, **arguments: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = json.dumps({"id": number, "op": operation, **arguments}).encode()
        answered: Future[dict[str, Any]] = Future()
        self._waiting[number] = answered
        try:
            with self._lock:
                # A line end first: it finishes whatever part of a line an earlier connection left behind.
                self._socket.sendall(b"\n" + message + b"\n")
            answer = answered.result(patience)
        except FutureTimeout as problem:
            raise GuestTimeout(
                f"the guest's agent did not answer {operation} within {patience} s"
            ) from problem
        except OSError as problem:
            raise MachineFailed(f"the connection to the guest's agent is lost: {problem}") from problem
        finally:
            del self._waiting[number]
        if "error" in answer:
            kind = GuestTimeout if answer.get("kind") == "timeout" else GuestError
            raise kind(f"in the guest, {operation}: {answer['error']}")
        return answer

    def _read(self) -> None:
        buffer = b""
        while True:
            try:
                data = self._socket.recv(_RECEIVE)
            except OSError:
                data = b""
            if not data:
                break
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                self._deliver(line)
        for answered in list(self._waiting.values()):
            if not answered.done():
                answered.set_exception(ConnectionError("QEMU closed it"))

    def _deliver(self, line: bytes) -> None:
        try:
            answer = json.loads(line)
        except ValueError:
            return  # half a line, from before this connection
        answered = self._waiting.get(answer.get("id"))
        if answered is not None and not answered.done():
            answered.set_result(answer)
