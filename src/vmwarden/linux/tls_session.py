# SPDX-License-Identifier: Apache-2.0
"""TLS in a process of its own that can compute and nothing else (a ports.Tls).

What a captured one can do: say of the server that it is begun for that it is the right one, and with which
keys.  It holds no key of this VM, and sees neither its files nor its network nor the other servers' keys.
"""

import socket
import subprocess
import sys
from pathlib import Path
from typing import Literal, cast

import vmwarden
from vmwarden.errors import CommandFailed
from vmwarden.linux.process import ENVIRONMENT
from vmwarden.linux.tls_program import (
    AUTHORITY,
    BEGIN,
    FAILED,
    MESSAGE_BYTES,
    NAME,
    PLAIN,
    PROVEN,
    PROVEN_HEAD,
    RECEIVED,
    SAY,
    SEND,
)
from vmwarden.ports.tls import Failed, Plain, Proven, Said, Send

#: -I -S -B: nobody else's modules, no search for packages, nothing written.  It runs from where we do
_PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from vmwarden.linux.tls_program import main; main()"
#: read in one call: a captured process must not keep the warden from its lease
_MESSAGES = 64
_WHYS = ("name", "authority", "tls")


class TlsSession:
    """One connection to one server (a ports.Tls)."""

    def __init__(self, *, name: str, authorities: tuple[bytes, ...]) -> None:
        """Raises CommandFailed: the process cannot be started."""
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self._over = False
        argv = [sys.executable, "-I", "-S", "-B", "-c", _PROGRAM, str(Path(vmwarden.__file__).parents[1])]
        with theirs:
            try:
                self._process = subprocess.Popen(
                    argv,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    env=ENVIRONMENT,
                )
            except OSError as error:
                self._socket.close()
                raise CommandFailed(f"TLS cannot be started: {error.strerror}") from error
        for kind, data in ((NAME, name.encode()), *((AUTHORITY, der) for der in authorities), (BEGIN, b"")):
            self._tell(kind, data)

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self, data: bytes) -> None:
        self._tell(RECEIVED, data)

    def say(self, data: bytes) -> None:
        self._tell(SAY, data)

    def said(self) -> tuple[Said, ...]:
        found: list[Said] = []
        while not self._over and len(found) < _MESSAGES:
            try:
                message = self._socket.recv(MESSAGE_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                message = FAILED + f"tls {error.strerror}".encode()
            found.append(_read(message))
            self._over = isinstance(found[-1], Failed)
        return tuple(found)

    def close(self) -> None:
        if self._socket.fileno() < 0:
            return
        self._over = True
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def _tell(self, kind: bytes, data: bytes) -> None:
        if self._over:
            return
        try:
            self._socket.send(kind + data)
        except OSError:
            pass  # it has ended, or reads no more: said tells so, or the caller's time is up


def _read(message: bytes) -> Said:
    """A captured process may say anything: what is none of our messages is the end."""
    kind, data = message[:1], message[1:]
    if kind == SEND:
        return Send(data)
    if kind == PLAIN:
        return Plain(data)
    if kind == PROVEN and len(data) > PROVEN_HEAD.size:
        begin, end, *keys = PROVEN_HEAD.unpack_from(data)
        return Proven(data[PROVEN_HEAD.size :], begin, end, (keys[0], keys[1]))
    why, _, text = data.decode("ascii", "replace").partition(" ")
    if kind != FAILED or why not in _WHYS:
        return Failed("tls", "the process that does TLS has ended")
    return Failed(
        cast('Literal["name", "authority", "tls"]', why),
        "".join(letter if letter.isprintable() else "?" for letter in text[:200]),
    )
