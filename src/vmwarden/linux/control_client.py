# SPDX-License-Identifier: Apache-2.0
"""Asking the running warden: one JSON line out, one back."""

import socket
from pathlib import Path

from vmwarden.errors import WorldError
from vmwarden.linux.sockets import connect

#: bound on an answer; a status is below 64 kB, but the largest policy (rules.trust.POLICY_BYTES) has
#: thousands of places, and each is a finding
_ANSWER_BYTES = 1 << 24


def ask(path: Path, line: bytes, *, timeout_s: float) -> bytes:
    """The warden's answer to line, without its line feed.

    Raises WorldError where no warden listens or no answer came in time.
    """
    with connect(path, kind=socket.SOCK_STREAM, timeout_s=timeout_s) as sock:
        answer = bytearray()
        try:
            sock.sendall(line + b"\n")
            while not answer.endswith(b"\n") and len(answer) < _ANSWER_BYTES:
                data = sock.recv(65536)
                if not data:
                    break
                answer += data
        except OSError as error:
            raise WorldError(
                f"the warden on {path} does not answer: {error.strerror or 'in time'}",
                mend="see journalctl -u vmwarden",
            ) from error
    if not answer.endswith(b"\n"):
        raise WorldError(f"the warden on {path} ended the conversation", mend="see journalctl -u vmwarden")
    return bytes(answer[:-1])
