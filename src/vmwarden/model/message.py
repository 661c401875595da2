# SPDX-License-Identifier: Apache-2.0
"""What passes between watcher and warden: one datagram (SOCK_SEQPACKET), one canonical message.

The watcher can add evidence and raise events; it can decide nothing.
"""

from typing import Annotated, Literal

from msgspec import Meta

from vmwarden.model.evidence import Evidence
from vmwarden.model.statement import STATEMENT_BYTES, Challenge
from vmwarden.model.time_servers import Address
from vmwarden.model.wire import Wire

#: bound on one message, bytes; a full gathering of one source is below 8 kB
MESSAGE_BYTES = 65536


class Gather(Wire, frozen=True, kw_only=True, tag="gather"):
    """warden -> watcher: gather everything afresh; put this challenge to the host."""

    turn: Annotated[int, Meta(ge=0)]
    challenge: Challenge | None = None


#: bound on the bytes of one Dial, Carry or Carried: a record of TLS (RFC 8446 section 5.2) is below 17 kB
CARRIED_BYTES = 1 << 14

_Line = Annotated[int, Meta(ge=1, le=2**53)]
_Port = Annotated[int, Meta(ge=1, le=65535)]
_Bytes = Annotated[bytes, Meta(max_length=CARRIED_BYTES)]


class Dial(Wire, frozen=True, kw_only=True, tag="dial"):
    """warden -> watcher: open a line to a time server and carry what is said on it, unread.

    udp: data is one datagram; an answer is what comes back from there.  tcp: a stream that begins with data,
    and the first Carried says that it stands.  line: a number never used before on this connection.
    """

    line: _Line
    over: Literal["tcp", "udp"]
    address: Address
    port: _Port
    data: _Bytes = b""


class Carry(Wire, frozen=True, kw_only=True, tag="carry"):
    """warden -> watcher: bytes for a stream that stands."""

    line: _Line
    data: _Bytes


class HangUp(Wire, frozen=True, kw_only=True, tag="hang-up"):
    """warden -> watcher: nothing of this line is wanted any more."""

    line: _Line


class Carried(Wire, frozen=True, kw_only=True, tag="carried"):
    """watcher -> warden: what came on a line.  ended: why nothing more will come, "" = it stands."""

    line: _Line
    data: _Bytes = b""
    ended: Annotated[str, Meta(max_length=200)] = ""


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


ToWatcher = Gather | Dial | Carry | HangUp
ToWarden = Declared | RawStatement | Gathered | Event | Carried

Direction = Literal["to-watcher", "to-warden"]
