# SPDX-License-Identifier: Apache-2.0
"""Unix sockets between our own programs, with the peer's credentials."""

import os
import socket
import struct
from pathlib import Path
from typing import NamedTuple

from vmwarden.errors import WorldError


class Peer(NamedTuple):
    """Who is at the other end (SO_PEERCRED, unix(7))."""

    pid: int
    uid: int
    gid: int


def listen(path: Path, *, kind: socket.SocketKind, mode: int, uid: int = -1) -> socket.socket:
    """A listening, non-blocking socket at path with exactly mode; an old socket there is replaced.

    uid: new owner of the socket, -1 = unchanged.  Raises WorldError.
    """
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    sock = socket.socket(socket.AF_UNIX, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.unlink(missing_ok=True)
        # bound under another name first: between bind and chmod nobody can connect to the real one
        sock.bind(str(fresh))
        fresh.chmod(mode)
        if uid != -1:
            os.chown(fresh, uid, -1)
        sock.listen(8)
        fresh.rename(path)
    except OSError as error:
        sock.close()
        raise WorldError(
            f"cannot listen on {path}: {error.strerror}", mend="run as root, or name another --run-dir"
        ) from error
    return sock


def has_internet() -> bool:
    """Whether this process may make sockets of the Internet; its unit may forbid it."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC).close()
    except OSError:
        return False
    return True


def connect(path: Path, *, kind: socket.SocketKind, timeout_s: float) -> socket.socket:
    """A connected socket with that timeout.  Raises WorldError."""
    sock = socket.socket(socket.AF_UNIX, kind | socket.SOCK_CLOEXEC)
    sock.settimeout(timeout_s)
    try:
        sock.connect(str(path))
    except OSError as error:
        sock.close()
        raise WorldError(
            f"no warden answers on {path}: {error.strerror or error}",
            mend="start it: systemctl start vmwarden, or vmwarden run",
        ) from error
    return sock


def peer(sock: socket.socket) -> Peer:
    """Credentials of the peer at the time it connected."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return Peer(*struct.unpack("3i", raw))
