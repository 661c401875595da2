# SPDX-License-Identifier: Apache-2.0
"""NTS key establishment with one server, once: over a line of the watcher, through TLS.  Sans-I/O."""

import base64
from typing import NamedTuple

from vmwarden.errors import CommandFailed, UntrustedInput
from vmwarden.model.message import CARRIED_BYTES, Carried, Carry, Dial, HangUp, ToWatcher
from vmwarden.model.moment import Moment
from vmwarden.model.time_servers import NTP_PORT, TimeServer
from vmwarden.ports.tls import Connect, Failed, Plain, Proven, Send, Tls
from vmwarden.rules import certificate, nts_ke
from vmwarden.rules.certificate import Period
from vmwarden.rules.time_servers import leads_there

#: until TLS has something to send: a Python that starts; 0.1 s were measured, 20 times that under emulation
START_MS = 8_000
#: then until the stream stands: a SYN that was lost is sent again after 1 s and 3 s (RFC 6298)
DIAL_MS = 4_000
#: and then, handshake and answer together: some round trips.  chronyd hangs up after 2 s
TALK_MS = 5_000
#: and after the stream has ended
_AFTER_END_MS = 1_000
#: bytes of the server that are looked at: a chain of certificates and the answer are below 16 kB
_SERVER_BYTES = 1 << 16
#: what is said of a failure of TLS
_FAILURES = {"name": "time.server.name", "authority": "time.server.authority", "tls": "time.server.tls"}


class Trouble(NamedTuple):
    """What is wrong with a server.  id: that of the finding.  found: the same from turn to turn."""

    id: str
    found: str


class Keys(NamedTuple):
    """What was established.  to_server, to_us: the two keys.  period: of the server's certificates."""

    to_server: bytes
    to_us: bytes
    cookies: tuple[bytes, ...]
    period: Period


class KeyEstablishment:
    """Begin it; feed it what comes on its line and what TLS says; close it when outcome is there.

    TLS is begun before the line is dialed, and its first words go with that: no server is kept waiting.
    """

    def __init__(
        self, server: TimeServer, *, authorities: tuple[str, ...], line: int, connect: Connect
    ) -> None:
        """authorities: DER in base64; they do not count for a server that has keys."""
        self.line = line
        self.outcome: Keys | Trouble | None = None
        self.tls: Tls | None = None
        #: whether a connection came about
        self.stood = False
        #: when time is up, CLOCK_BOOTTIME; None = it has not begun
        self.due_ms: int | None = None
        self._server = server
        self._authorities = () if server.keys else tuple(base64.b64decode(der) for der in authorities)
        self._connect = connect
        self._dialed = False
        self._proven: Proven | None = None
        self._plain = b""
        self._heard = 0
        self._ended = ""

    def begin(self, now: Moment) -> None:
        """Start TLS."""
        self.due_ms = now.boot_ms + START_MS
        try:
            self.tls = self._connect(name=self._server.name, authorities=self._authorities)
        except CommandFailed as error:
            self._fail("time.server.tls", str(error))

    def hear(self, carried: Carried, now: Moment) -> None:
        """What came on the line."""
        if self.outcome is not None:
            return
        if not self.stood and not carried.ended:
            self.stood = True
            self.due_ms = now.boot_ms + TALK_MS
        self._heard += len(carried.data)
        if self._heard > _SERVER_BYTES:
            self._fail("time.server.tls", "it says too much")
        elif self.tls is not None and carried.data:
            self.tls.receive(carried.data)
        if carried.ended and not self.stood:
            self._fail("time.server.unreachable", carried.ended)
        elif carried.ended:
            self._ended = carried.ended
            # what TLS has been given may still be enough
            self.due_ms = now.boot_ms + _AFTER_END_MS

    def go_on(self, now: Moment, *, at_least_ms: int) -> tuple[ToWatcher, ...]:
        """Do what can be done now; what is to be sent.  at_least_ms: an instant that has certainly passed."""
        orders: list[ToWatcher] = []
        for said in self.tls.said() if self.tls is not None and self.outcome is None else ():
            if isinstance(said, Send):
                orders.extend(self._carry(said.data, now))
            elif isinstance(said, Failed):
                self._fail(_FAILURES[said.why], said.text)
            elif isinstance(said, Proven):
                self._judge(said, at_least_ms)
            else:
                self._read(said)
            if self.outcome is not None:
                break
        if self.outcome is None and self.due_ms is not None and now.boot_ms >= self.due_ms:
            if self._ended:
                self._fail("time.server.tls", self._ended)
            elif self.stood:
                self._fail("time.server.slow", f"key establishment takes more than {TALK_MS // 1000} s")
            elif self._dialed:
                self._fail("time.server.unreachable", f"no connection within {DIAL_MS // 1000} s")
            else:
                self._fail("time.server.tls", f"TLS does not begin within {START_MS // 1000} s")
        return tuple(orders)

    def close(self) -> HangUp:
        """The end, whatever the outcome."""
        if self.tls is not None:
            self.tls.close()
            self.tls = None
        return HangUp(line=self.line)

    def _carry(self, data: bytes, now: Moment) -> list[ToWatcher]:
        orders: list[ToWatcher] = []
        if not self._dialed:
            self._dialed, self.due_ms = True, now.boot_ms + DIAL_MS
            place = self._server.address, self._server.port
            first, data = data[:CARRIED_BYTES], data[CARRIED_BYTES:]
            orders.append(Dial(line=self.line, over="tcp", address=place[0], port=place[1], data=first))
        steps = range(0, len(data), CARRIED_BYTES)
        return orders + [Carry(line=self.line, data=data[at : at + CARRIED_BYTES]) for at in steps]

    def _judge(self, proven: Proven, at_least_ms: int) -> None:
        period = Period(proven.not_before_ms, proven.not_after_ms)
        if self._server.keys and certificate.pin(proven.spki) not in self._server.keys:
            self._fail("time.server.key", "its key is none of those that are pinned")
        elif not period.possible(at_least_ms):
            self._fail("time.server.expired", "its certificate is not valid now")
        elif self.tls is not None and self._proven is None:
            self._proven = proven
            self.tls.say(nts_ke.request())

    def _read(self, said: Plain) -> None:
        if self._proven is None:
            self._fail("time.server.tls", "it speaks before it is known")
            return
        self._plain += said.data
        try:
            answer = nts_ke.read(self._plain)
        except nts_ke.Refused as error:
            self._fail("time.server.refused", str(error))
            return
        except UntrustedInput as error:
            self._fail("time.server.garbled", str(error))
            return
        if answer is None:
            return
        if not leads_there(self._server, name=answer.server, port=answer.port):
            where = f"{answer.server or self._server.address}, port {answer.port or NTP_PORT}"
            self._fail("time.server.elsewhere", f"it sends us to {where}")
        else:
            period = Period(self._proven.not_before_ms, self._proven.not_after_ms)
            self.outcome = Keys(*self._proven.keys, cookies=answer.cookies, period=period)

    def _fail(self, finding: str, found: str) -> None:
        self.outcome = Trouble(finding, found)
