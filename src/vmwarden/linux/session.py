# SPDX-License-Identifier: Apache-2.0
"""By which connection the caller is logged in, as far as his process and its ancestors tell.

The ancestors are asked, and not only our own environment, because sudo takes SSH_CONNECTION out of it and
gives the command a terminal session of its own.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from vmwarden.model.installed import Session

#: a chain of parents is a few long; the bound stops a /proc that lies
_ANCESTORS = 64
_READ_BYTES = 1 << 20
_SSH = b"SSH_CONNECTION="


@dataclass(frozen=True)
class _Process:
    """From /proc/PID/stat, proc(5).  start: clock ticks since boot."""

    pid: int
    parent: int
    session: int
    terminal: int
    start: int


def current(*, proc: Path = Path("/proc"), pid: int | None = None) -> Session:
    """The session of process pid (None = our own).  What cannot be read is left empty; never raises."""
    chain: list[_Process] = []
    process = _process(proc, os.getpid() if pid is None else pid)
    while process is not None and process.pid > 1 and len(chain) < _ANCESTORS:
        chain.append(process)
        process = _process(proc, process.parent)
    ssh = ""
    starts: list[int] = []
    terminals: list[str] = []
    for process in chain:
        named = _ssh_connection(proc, process.pid)
        ssh = ssh or named
        if process.terminal:
            leader = _process(proc, process.session)
            if leader is not None:
                terminals.append(f"{leader.pid}:{leader.start}")
                starts.append(leader.start)
        if ssh and named == ssh:
            starts.append(process.start)
    return Session(
        ssh=ssh[:256],
        terminals=tuple(dict.fromkeys(terminals)),
        opened_boot_ms=min(starts) * 1000 // _ticks() if starts else None,
    )


def _ticks() -> int:
    """A second, in the unit of starttime."""
    return os.sysconf("SC_CLK_TCK")


def _process(proc: Path, pid: int) -> _Process | None:
    if pid <= 0:
        return None
    # the name in parentheses may hold spaces and parentheses itself: count from the last one
    _, _, rest = _read(proc / str(pid) / "stat").rpartition(b")")
    words = rest.split()
    try:
        return _Process(
            pid=pid,
            parent=int(words[1]),
            session=int(words[3]),
            terminal=int(words[4]),
            start=int(words[19]),
        )
    except (IndexError, ValueError):
        return None


def _ssh_connection(proc: Path, pid: int) -> str:
    for entry in _read(proc / str(pid) / "environ").split(b"\0"):
        if entry.startswith(_SSH):
            return entry.removeprefix(_SSH).decode("ascii", "replace")
    return ""


def _read(path: Path) -> bytes:
    """Empty where nothing can be read: processes end while they are looked at."""
    try:
        with path.open("rb") as file:
            return file.read(_READ_BYTES)
    except OSError:
        return b""
