# SPDX-License-Identifier: Apache-2.0
"""The program in which OpenSSL reads what a time server sends: memory and one socket, nothing else.

Started by vmwarden.linux.tls_session for one key establishment.  Each message is one datagram of the socket
on its standard input, a letter and its data: first the name and each authority, then what comes.
"""

import os
import resource
import struct

from vmwarden.errors import ControlFailed
from vmwarden.linux.seccomp import compute_only
from vmwarden.linux.tls import Client, TlsFailed

#: of the parent: the name, an authority, that all is told, bytes of the server, something to say to it
NAME, AUTHORITY, BEGIN, RECEIVED, SAY = b"N", b"A", b"B", b"R", b"W"
#: of this program: bytes for the server, who it is, what it says, the end
SEND, PROVEN, PLAIN, FAILED = b"S", b"P", b"L", b"F"
#: bound on one message, bytes
MESSAGE_BYTES = 1 << 16
#: not_before, not_after (milliseconds), key client to server, key server to client; the public key follows
PROVEN_HEAD = struct.Struct("!qq32s32s")

_SOCKET = 0
#: Python and libssl map 60 MB; a handshake takes some milliseconds of CPU
_ADDRESS_SPACE, _CPU_S = 256 << 20, 5
_NICER = 10


def main() -> None:
    """Until it fails or the parent hangs up."""
    try:
        _serve()
    except TlsFailed as error:
        _tell(FAILED, f"{error.why} {error}".encode())
    except ControlFailed as error:
        _tell(FAILED, f"tls {error}".encode())


def _serve() -> None:
    _be_modest()
    name, authorities = "", []
    while (message := _hear())[:1] != BEGIN:
        if message[:1] == NAME:
            name = message[1:].decode("ascii")
        else:
            authorities.append(message[1:])
    client = Client(name, tuple(authorities))
    compute_only()
    proven = client.handshake()
    while True:
        while data := client.to_send():
            _tell(SEND, data)
        message = _hear()
        if message[:1] == SAY:
            client.write(message[1:])
            continue
        client.receive(message[1:])
        if not proven:
            proven = _proven(client)
        while proven and (data := client.read()):
            _tell(PLAIN, data)


def _be_modest() -> None:
    """The first to go when memory is short, and behind the warden when the processor is.

    Where the unit does not allow one of these it is left out: the parent bounds time and bytes anyway.
    """
    try:
        os.nice(_NICER)
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("1000")
        for limit, most in ((resource.RLIMIT_AS, _ADDRESS_SPACE), (resource.RLIMIT_CPU, _CPU_S)):
            resource.setrlimit(limit, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except OSError:
        pass


def _proven(client: Client) -> bool:
    try:
        if not client.handshake():
            return False
        _tell(PROVEN, PROVEN_HEAD.pack(*client.period(), *client.keys()) + client.key())
    except TlsFailed:
        # the alert that tells the server why
        while data := client.to_send():
            _tell(SEND, data)
        raise
    return True


def _hear() -> bytes:
    message = os.read(_SOCKET, MESSAGE_BYTES)
    if not message:
        os._exit(0)
    return message


def _tell(kind: bytes, data: bytes) -> None:
    os.write(_SOCKET, kind + data)


if __name__ == "__main__":
    main()
    os._exit(0)
