# SPDX-License-Identifier: Apache-2.0
"""Carries bytes between the warden and time servers, unread: streams, and single datagrams.

Only to addresses that the warden names.  What is said on a line is none of the watcher's business: it could
withhold or delay, and not change a bit that the warden would not notice.
"""

import errno
import select
import socket
from collections.abc import Callable

from vmwarden.model.message import CARRIED_BYTES, Carried, Carry, Dial, HangUp
from vmwarden.model.moment import Moment

#: lines at a time: two for each of nine servers, and room for those that the warden has forgotten
LINES = 32
#: the life of one line: no key establishment and no question takes as long
LINE_MS = 12_000
#: carried to the warden on one line, bytes; it looks at no more than half of that
LINE_BYTES = 1 << 17
#: a datagram that is longer is no answer to ours
_DATAGRAM_BYTES = 2048


class _Line:
    """One connection.  standing: it has come about."""

    def __init__(self, sock: socket.socket, dial: Dial, now: Moment) -> None:
        self.sock = sock
        self.dial = dial
        self.until_ms = now.boot_ms + LINE_MS
        self.standing = dial.over == "udp"
        self.unsent = b""
        self.left = LINE_BYTES


class Relay:
    """All lines of one connection to the warden."""

    def __init__(self, tell: Callable[[Carried], None]) -> None:
        """tell: brings one message to the warden; what it raises passes through."""
        self._tell = tell
        self._lines: dict[int, _Line] = {}

    def order(self, order: Dial | Carry | HangUp, now: Moment) -> None:
        """Do what the warden says.  What does not fit is ignored, or ends the line, with the reason."""
        if isinstance(order, Dial):
            self._dial(order, now)
        elif isinstance(order, HangUp):
            self._forget(order.line)
        elif (line := self._lines.get(order.line)) is not None and line.dial.over == "tcp":
            line.unsent += order.data
            self._flush(line)

    def register(self, poll: select.poll) -> None:
        """Every line, for what it waits for."""
        for line in self._lines.values():
            waits = select.POLLIN if line.standing else 0
            poll.register(line.sock, waits | (select.POLLOUT if line.unsent or not line.standing else 0))

    def ready(self, fileno: int) -> None:
        """Something happened on that descriptor; those of others are ignored."""
        for line in list(self._lines.values()):
            if line.sock.fileno() == fileno:
                if not line.standing:
                    self._stand(line)
                else:
                    self._hear(line)
                if line.unsent and self._lines.get(line.dial.line) is line:
                    self._flush(line)
                return

    def overdue(self, now: Moment) -> None:
        """End the lines whose time is up."""
        for line in list(self._lines.values()):
            if now.boot_ms >= line.until_ms:
                self._end(line, "the line was open for too long")

    def wait_ms(self, now: Moment) -> int | None:
        """For so long nothing is overdue; None = no line is open."""
        if not self._lines:
            return None
        return max(0, min(line.until_ms for line in self._lines.values()) - now.boot_ms)

    def close(self) -> None:
        """The warden is gone: so are its lines."""
        for number in list(self._lines):
            self._forget(number)

    def _dial(self, dial: Dial, now: Moment) -> None:
        if dial.line in self._lines:
            return
        if len(self._lines) >= LINES:
            self._tell(Carried(line=dial.line, ended=f"more than {LINES} lines at a time"))
            return
        kind = socket.SOCK_STREAM if dial.over == "tcp" else socket.SOCK_DGRAM
        family = socket.AF_INET6 if ":" in dial.address else socket.AF_INET
        try:
            sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError as error:
            self._tell(Carried(line=dial.line, ended=_why(error)))
            return
        line = self._lines[dial.line] = _Line(sock, dial, now)
        failed = 0
        try:
            failed = sock.connect_ex((dial.address, dial.port))
            if dial.over == "udp" and not failed:
                sock.send(dial.data)
        except OSError as error:
            self._end(line, _why(error))
            return
        if failed not in (0, errno.EINPROGRESS):
            self._end(line, _why(OSError(failed, "")))
            return
        if dial.over == "tcp":
            line.unsent = dial.data

    def _stand(self, line: _Line) -> None:
        failed = line.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failed:
            self._end(line, _why(OSError(failed, "")))
            return
        line.standing = True
        self._tell(Carried(line=line.dial.line))

    def _hear(self, line: _Line) -> None:
        try:
            data = line.sock.recv(CARRIED_BYTES if line.dial.over == "tcp" else _DATAGRAM_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(line, _why(error))
            return
        if not data and line.dial.over == "tcp":
            self._end(line, "the server has closed the connection")
            return
        line.left -= max(1, len(data))
        if line.left < 0:
            self._end(line, f"more than {LINE_BYTES} bytes")
            return
        self._tell(Carried(line=line.dial.line, data=data))

    def _flush(self, line: _Line) -> None:
        if not line.standing:
            return
        try:
            line.unsent = line.unsent[line.sock.send(line.unsent) :]
        except BlockingIOError:
            return
        except OSError as error:
            self._end(line, _why(error))

    def _end(self, line: _Line, why: str) -> None:
        self._forget(line.dial.line)
        self._tell(Carried(line=line.dial.line, ended=why))

    def _forget(self, number: int) -> None:
        line = self._lines.pop(number, None)
        if line is not None:
            line.sock.close()


def _why(error: OSError) -> str:
    """The same words on every machine and for every address: they stand in the journal."""
    if error.errno is None:
        return "the connection failed"
    return f"connection failed: {errno.errorcode.get(error.errno, str(error.errno))}"
