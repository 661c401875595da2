# SPDX-License-Identifier: Apache-2.0
"""What passes between watcher and warden: one datagram (SOCK_SEQPACKET), one canonical message.

The watcher can add evidence and raise events; it can decide nothing.
"""

from typing import Annotated, Literal

from msgspec import Meta

from vmwarden.model.evidence import Evidence
from vmwarden.model.statement import STATEMENT_BYTES, Challenge
from vmwarden.model.wire import Wire

#: bound on one message, bytes; a full gathering of one source is below 8 kB
MESSAGE_BYTES = 65536


class Gather(Wire, frozen=True, kw_only=True, tag="gather"):
    """warden -> watcher: gather everything afresh; put this challenge to the host."""

    turn: Annotated[int, Meta(ge=0)]
    challenge: Challenge | None = None


class Declared(Wire, frozen=True, kw_only=True, tag="declared"):
    """watcher -> warden: what one source says; every piece has proof declared, or the warden refuses it."""

    turn: Annotated[int, Meta(ge=0)]
    source: str
    evidence: Annotated[tuple[Evidence, ...], Meta(max_length=64)]


class RawStatement(Wire, frozen=True, kw_only=True, tag="statement"):
    """watcher -> warden: a signed document as it came, unread.  boot_frozen: from a static channel."""

    turn: Annotated[int, Meta(ge=0)]
    source: str
    jws: Annotated[str, Meta(max_length=STATEMENT_BYTES)]
    boot_frozen: bool


class Gathered(Wire, frozen=True, kw_only=True, tag="gathered"):
    """watcher -> warden: local sources of this turn have spoken.  waiting: hosts that may yet answer."""

    turn: Annotated[int, Meta(ge=0)]
    waiting: Annotated[int, Meta(ge=0, le=64)] = 0


class Event(Wire, frozen=True, kw_only=True, tag="event"):
    """watcher -> warden: something happened that may mean a movement."""

    kind: Annotated[str, Meta(max_length=64)]
    detail: Annotated[str, Meta(max_length=512)] = ""
    strong: bool = False


ToWatcher = Gather
ToWarden = Declared | RawStatement | Gathered | Event

Direction = Literal["to-watcher", "to-warden"]
