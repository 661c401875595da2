# SPDX-License-Identifier: Apache-2.0
"""TLS as a client, for one server; whoever does it carries no bytes and opens no connection."""

from typing import Literal, NamedTuple, Protocol


class Send(NamedTuple):
    """Bytes for the server."""

    data: bytes


class Proven(NamedTuple):
    """The handshake is over: TLS 1.3, and the certificate has the name that was asked for.

    spki: the server's public key, SubjectPublicKeyInfo in DER.  not_before_ms, not_after_ms: when its whole
    chain is valid, milliseconds since 1970; nobody has compared that with any clock.
    keys: exported, client to server and server to client.
    """

    spki: bytes
    not_before_ms: int
    not_after_ms: int
    keys: tuple[bytes, bytes]


class Plain(NamedTuple):
    """What the server says inside, in order."""

    data: bytes


class Failed(NamedTuple):
    """It is over.  why: the certificate has another name; no authority vouches for it; anything else."""

    why: Literal["name", "authority", "tls"]
    text: str


Said = Send | Proven | Plain | Failed


class Tls(Protocol):
    """One connection.  Nothing here waits."""

    def fileno(self) -> int:
        """For the event loop: readable when said has something."""
        ...

    def receive(self, data: bytes) -> None:
        """Bytes of the server.  After a failure they are dropped."""
        ...

    def say(self, data: bytes) -> None:
        """To the server, inside.  Only after Proven."""
        ...

    def said(self) -> tuple[Said, ...]:
        """What has come up since the last call; nothing after Failed."""
        ...

    def close(self) -> None:
        """Closing twice is no error."""
        ...


class Connect(Protocol):
    """Begins a connection."""

    def __call__(self, *, name: str, authorities: tuple[bytes, ...]) -> Tls:
        """To the server of that name.  authorities: roots in DER, one of which has to vouch for it; none: the
        caller looks at the key itself.  Raises CommandFailed."""
        ...
