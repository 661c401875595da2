# SPDX-License-Identifier: Apache-2.0
"""Time servers in memory, with switchable behaviour, and the watcher that carries bytes to them.

What they say is real NTS: sealed, opened and refused by the same rules.  TLS alone is left out.
"""

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from vmwarden.model.message import Carried, Carry, Dial, HangUp, ToWatcher
from vmwarden.model.moment import Moment
from vmwarden.model.time_servers import TimeServer
from vmwarden.ports.tls import Failed, Plain, Proven, Said, Send
from vmwarden.rules import nts, nts_ke
from vmwarden.rules.certificate import pin

_PACKET_BYTES = 48
_FOR_EVER_MS = 2**52


@dataclass
class SimulatedServer:
    """One server; change its fields at any time.

    offset_ms: its clock minus the true one.  after_ms: how long an answer takes.  dawdles: TLS begins and
    never goes on.  refuses: what it fails with.  period_ms: of its certificate.  records: what it says
    instead of keys.  forgetful: it can read no cookie.  kiss: the code of an authenticated kiss.
    header: changes what it says of its clock.  change: what the network makes of an answer; None = it is
    lost.  handshakes, questions, naks: counted.
    """

    name: str
    address: str
    offset_ms: int = 0
    after_ms: int = 1
    reachable: bool = True
    dawdles: bool = False
    refuses: Failed | None = None
    period_ms: tuple[int, int] = (0, _FOR_EVER_MS)
    records: bytes | None = None
    forgetful: bool = False
    kiss: str = ""
    header: Callable[[nts.Header], nts.Header] = lambda header: header
    change: Callable[[bytes], bytes | None] = lambda data: data
    spki: bytes = field(default_factory=lambda: os.urandom(91))
    handshakes: int = 0
    questions: int = 0
    naks: int = 0
    cookies: dict[bytes, tuple[bytes, bytes]] = field(default_factory=dict)

    @property
    def listed(self) -> TimeServer:
        """As a policy has it, its key pinned."""
        return TimeServer(name=self.name, address=self.address, keys=(pin(self.spki),))

    def cookie(self, keys: tuple[bytes, bytes]) -> bytes:
        """A new one, good for one question."""
        made = os.urandom(100)
        self.cookies[made] = keys
        return made

    def answer(self, data: bytes, true_ms: int) -> bytes:
        """To a question, at that true time."""
        self.questions += 1
        question, parts = nts.unpack(data), list(nts.fields(data[_PACKET_BYTES:]))
        found = {kind: body for _, kind, body in parts}
        wanted = sum(kind in (nts.COOKIE, nts.PLACEHOLDER) for _, kind, _ in parts)
        stamp = nts.timestamp(true_ms + self.offset_ms)
        header = nts.Header(
            leap=0,
            version=4,
            mode=nts.SERVER,
            stratum=1,
            origin=question.transmit,
            receive=stamp,
            transmit=stamp,
        )
        unique = nts.field(nts.UNIQUE_IDENTIFIER, found[nts.UNIQUE_IDENTIFIER])
        keys = None if self.forgetful else self.cookies.pop(found[nts.COOKIE], None)
        if keys is None or not _authentic(data, parts, keys[0]):
            self.naks += 1
            return nts.pack(header._replace(stratum=0, reference_id=nts.NAK.encode())) + unique
        if self.kiss:
            header = header._replace(stratum=0, reference_id=self.kiss.encode())
        packet = nts.pack(self.header(header)) + unique
        cookies = b"".join(nts.field(nts.COOKIE, self.cookie(keys)) for _ in range(wanted))
        return packet + nts.authenticator(keys[1], packet, nonce=os.urandom(16), plaintext=cookies)


def _authentic(data: bytes, parts: list[tuple[int, int, bytes]], key: bytes) -> bool:
    at, kind, body = parts[-1]
    if kind != nts.AUTHENTICATOR:
        return False
    nonce, sealed = body[4:20], body[20:36]
    try:
        return AESSIV(key).decrypt(sealed, [data[: _PACKET_BYTES + at], nonce]) == b""
    except InvalidTag:
        return False


class SimulatedTls:
    """A handshake that always comes to the keys, or to what the server refuses with (a ports.Tls)."""

    def __init__(self, server: SimulatedServer) -> None:
        self._server = server
        self.closed = False
        self._said: list[Said] = [Send(b"hello")]
        self._keys = (os.urandom(32), os.urandom(32))

    @property
    def readable(self) -> bool:
        """What poll would say of fileno."""
        return bool(self._said)

    def fileno(self) -> int:
        return -1

    def receive(self, data: bytes) -> None:
        self._server.handshakes += 1
        if self._server.dawdles:
            return
        if self._server.refuses is not None:
            self._said.append(self._server.refuses)
            return
        self._said.append(Proven(self._server.spki, *self._server.period_ms, self._keys))

    def say(self, data: bytes) -> None:
        assert data == nts_ke.request()
        records = self._server.records
        if records is None:
            cookies = (self._server.cookie(self._keys) for _ in range(nts_ke.COOKIES))
            records = (
                nts_ke.record(nts_ke.NEXT_PROTOCOL, bytes(2))
                + nts_ke.record(nts_ke.AEAD, b"\0\x0f")
                + b"".join(nts_ke.record(nts_ke.COOKIE, cookie, critical=False) for cookie in cookies)
                + nts_ke.record(nts_ke.END)
            )
        self._said.append(Plain(records))

    def said(self) -> tuple[Said, ...]:
        said, self._said = tuple(self._said), []
        return said

    def close(self) -> None:
        self.closed, self._said = True, []


class SimulatedNetwork:
    """The watcher and the servers behind it."""

    def __init__(self, *servers: SimulatedServer) -> None:
        self.servers = {server.name: server for server in servers}
        self._lines: dict[int, Dial] = {}
        self._coming: list[tuple[int, int, Carried]] = []
        self._count = itertools.count()
        self._sessions: list[SimulatedTls] = []

    def connect(self, *, name: str, authorities: tuple[bytes, ...]) -> SimulatedTls:
        """A ports.tls.Connect."""
        self._sessions = [session for session in self._sessions if not session.closed]
        self._sessions.append(SimulatedTls(self.servers[name]))
        return self._sessions[-1]

    def order(self, orders: tuple[ToWatcher, ...], now: Moment, *, true_ms: int) -> None:
        """Carry them; what comes of them comes with the time.  true_ms: of the servers' clocks."""
        for order in orders:
            if isinstance(order, Dial):
                self._lines[order.line] = order
                self._dial(order, now, true_ms)
            elif isinstance(order, Carry):
                self._come(now.boot_ms + 1, Carried(line=order.line, data=b"hello yourself"))
            elif isinstance(order, HangUp):
                self._lines.pop(order.line, None)

    def arrived(self, now: Moment) -> tuple[Carried, ...]:
        """What the watcher brings by now, in order."""
        here = sorted(each for each in self._coming if each[0] <= now.boot_ms)
        self._coming = [each for each in self._coming if each[0] > now.boot_ms]
        return tuple(carried for _, _, carried in here)

    def next_ms(self, now: Moment) -> int | None:
        """When something comes, or TLS has something to say; CLOCK_BOOTTIME; None = nothing is on its way."""
        if any(session.readable for session in self._sessions):
            return now.boot_ms
        return min((at for at, _, _ in self._coming), default=None)

    def _dial(self, dial: Dial, now: Moment, true_ms: int) -> None:
        server = next((s for s in self.servers.values() if s.address == dial.address), None)
        if server is None or not server.reachable:
            return
        if dial.over == "tcp":
            self._come(now.boot_ms + 1, Carried(line=dial.line))
            if dial.data:
                self._come(now.boot_ms + 2, Carried(line=dial.line, data=b"hello yourself"))
            return
        data = server.change(server.answer(dial.data, true_ms + server.after_ms // 2))
        if data is not None:
            self._come(now.boot_ms + server.after_ms, Carried(line=dial.line, data=data))

    def _come(self, at_ms: int, carried: Carried) -> None:
        self._coming.append((at_ms, next(self._count), carried))
