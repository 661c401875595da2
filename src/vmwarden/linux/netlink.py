# SPDX-License-Identifier: Apache-2.0
"""Netlink itself: attributes, messages, one socket.  What is said over it is in nfnetlink and rtnetlink.

Standard library only.  All numbers are the kernel's: include/uapi/linux/netlink.h.
"""

import errno
import os
import re
import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

from vmwarden.errors import ControlFailed

SOL_NETLINK = 270
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
NETLINK_GET_STRICT_CHK = 12

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200
NLM_F_DUMP = 0x300
NLMSGERR_ATTR_MSG = 1

HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_ERROR = struct.Struct("=i")
_TYPE_MASK = 0x3FFF
#: include/linux/err.h, MAX_ERRNO: no error of the kernel is above
_MAX_ERRNO = 4095
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")
_NESTED = 0x8000

#: The kernel answers within the system call; waiting at all is for a kernel that defers.  Seconds.
ANSWER_WITHIN_S = 2.0
#: A dump that other writers keep interrupting is begun again at most so often.  With 8, a program that
#: changed its own sets 1,750 times a second made a look at our tables fail now and then.
DUMP_TRIES = 50
#: one datagram of a dump is at most 32 kB (NLMSG_GOODSIZE and netlink's own growth)
_DATAGRAM = 1 << 16


class NetlinkRefused(ControlFailed):
    """The kernel said no.  number: its errno."""

    def __init__(self, number: int, what: str, said: str) -> None:
        self.number = number
        super().__init__(
            f"{what}: {os.strerror(number)}" + (f" ({said})" if said else ""),
            mend="run it as root (CAP_NET_ADMIN)" if number == errno.EPERM else "",
        )


class StillChanging(ControlFailed):
    """Others changed the objects each time that they were read."""


class EventsLost(ControlFailed):
    """The kernel had more to tell than the socket held: what was told since is not known.  Look afresh."""


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    length = _ATTRIBUTE.size + len(data)
    return _ATTRIBUTE.pack(length, kind) + data + b"\0" * (-length % 4)


def nested(kind: int, *parts: bytes) -> bytes:
    """An attribute that holds attributes."""
    data = b"".join(parts)
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), kind | _NESTED) + data


def text(kind: int, value: str) -> bytes:
    """A string, ended by NUL; a name as name gives it."""
    return attribute(kind, name_bytes(value) + b"\0")


def name(value: bytes) -> str:
    """How we call what somebody else has named, a device or a chain.  Its name may be any bytes: those that
    are no UTF-8 are written \\xff, and so is a backslash, so that name_bytes finds the way back."""
    return value.rstrip(b"\0").replace(b"\\", b"\\x5c").decode(errors="backslashreplace")


def name_bytes(text: str) -> bytes:
    """What name was given, without the NUL."""
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), text.encode())


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, payload) of each attribute in data; ends quietly at what is none."""
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size or at + length > len(data):
            return
        yield kind & _TYPE_MASK, data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3


@dataclass(frozen=True, slots=True)
class Reply:
    """One message of the kernel.  payload: what follows netlink's own header."""

    kind: int
    flags: int
    sequence: int
    payload: bytes


def replies(datagram: bytes) -> Iterator[Reply]:
    """The messages in one datagram; ends quietly at what is none."""
    at = 0
    while at + HEADER.size <= len(datagram):
        length, kind, flags, sequence, _ = HEADER.unpack_from(datagram, at)
        if length < HEADER.size or at + length > len(datagram):
            return
        yield Reply(kind, flags, sequence, datagram[at + HEADER.size : at + length])
        at += (length + 3) & ~3


def verdict(reply: Reply) -> tuple[int, str]:
    """(errno, what the kernel says besides) of an NLMSG_ERROR; errno 0 = acknowledged."""
    if len(reply.payload) < _ERROR.size + HEADER.size:
        return errno.EBADMSG, "short acknowledgement"
    number: int = -_ERROR.unpack_from(reply.payload)[0]
    if not 0 <= number <= _MAX_ERRNO:
        return errno.EBADMSG, f"error {number}"
    if not reply.flags & NLM_F_ACK_TLVS:
        return number, ""
    echoed = HEADER.size
    if not reply.flags & NLM_F_CAPPED:
        echoed = (HEADER.unpack_from(reply.payload, _ERROR.size)[0] + 3) & ~3
    for kind, value in attributes(reply.payload[_ERROR.size + echoed :]):
        if kind == NLMSGERR_ATTR_MSG:
            return number, value.rstrip(b"\0").decode(errors="replace")
    return number, ""


class Netlink:
    """One socket of one netlink family.  It never blocks: every wait has a bound."""

    def __init__(
        self,
        protocol: int,
        *,
        what: str,
        mend: str = "",
        groups: int = 0,
        strict: bool = False,
        descriptor: int | None = None,
    ) -> None:
        """groups: multicast groups to hear, one bit each.  strict: what a dump's header says narrows the dump
        (Linux 4.20).  descriptor: of such a socket, made by an earlier program of this process.
        Raises ControlFailed: no such netlink here."""
        try:
            if descriptor is None:
                kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
                self._socket = socket.socket(socket.AF_NETLINK, kind, protocol)
                self._socket.bind((0, groups))
            else:
                self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol, descriptor)
                self._socket.set_inheritable(False)
            self._socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
            self._socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
            if strict:
                self._socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        except OSError as error:
            raise ControlFailed(f"{what}: {error.strerror}", mend=mend) from error
        self._socket.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        #: the kernel's name of this socket; a table's owner attribute carries it
        self.port: int = self._socket.getsockname()[0]
        #: of the last message that was packed
        self.sequence = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def packed(self, kind: int, flags: int, payload: bytes) -> bytes:
        """A request with the next sequence number.  payload: the family's header and the attributes."""
        self.sequence += 1
        length = HEADER.size + len(payload)
        return HEADER.pack(length, kind, NLM_F_REQUEST | flags, self.sequence, 0) + payload

    def send(self, datagram: bytes, what: str) -> None:
        """Raises ControlFailed."""
        try:
            self._socket.sendto(datagram, (0, 0))
        except OSError as error:
            raise ControlFailed(f"{what}: cannot be sent: {error.strerror}") from error

    def receive(self, deadline: float, what: str) -> bytes:
        """The next datagram, until time.monotonic() is deadline.  Raises ControlFailed."""
        while True:
            try:
                return self._socket.recv(_DATAGRAM)
            except BlockingIOError:
                remaining = deadline - time.monotonic()
                if remaining <= 0 or not self._poll.poll(remaining * 1000):
                    raise ControlFailed(f"{what}: no answer within {ANSWER_WITHIN_S:g} s") from None
            except OSError as error:
                raise ControlFailed(f"{what}: the answer was lost: {error.strerror}") from error

    def heard(self) -> bytes:
        """The next datagram that is there already; b"" = none.  Raises EventsLost, ControlFailed."""
        try:
            return self._socket.recv(_DATAGRAM)
        except BlockingIOError:
            return b""
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                raise EventsLost("the kernel's events came faster than they were read") from error
            raise ControlFailed(f"netlink: {error.strerror}") from error

    def wait(self, seconds: float) -> None:
        """Until there is something to be heard, or so long."""
        self._poll.poll(max(0.0, seconds) * 1000)

    def dump(self, kind: int, payload: bytes, *, what: str) -> tuple[Reply, ...]:
        """Every object of that kind; payload: the family's header, and attributes that narrow it.

        Raises NetlinkRefused, ControlFailed, StillChanging.
        """
        for _ in range(DUMP_TRIES):
            whole = self._dump_once(kind, payload, what)
            if whole is not None:
                return whole
        raise StillChanging(f"{what}: it changes faster than it can be read")

    def _dump_once(self, kind: int, payload: bytes, what: str) -> tuple[Reply, ...] | None:
        self.forget_late_answers()
        self.send(self.packed(kind, NLM_F_DUMP, payload), what)
        objects: list[Reply] = []
        interrupted = False
        deadline = time.monotonic() + ANSWER_WITHIN_S
        while True:
            for reply in replies(self.receive(deadline, what)):
                if reply.sequence != self.sequence:
                    continue
                interrupted = interrupted or bool(reply.flags & NLM_F_DUMP_INTR)
                if reply.kind == NLMSG_DONE:
                    return None if interrupted else tuple(objects)
                if reply.kind == NLMSG_ERROR:
                    number, said = verdict(reply)
                    raise NetlinkRefused(number, what, said)
                objects.append(reply)

    def ask(self, kind: int, payload: bytes, *, flags: int = NLM_F_ACK, what: str) -> Reply:
        """Say one thing and return the answer; an acknowledgement has kind NLMSG_ERROR.

        Raises NetlinkRefused, ControlFailed.
        """
        self.forget_late_answers()
        self.send(self.packed(kind, flags, payload), what)
        deadline = time.monotonic() + ANSWER_WITHIN_S
        while True:
            for reply in replies(self.receive(deadline, what)):
                if reply.sequence != self.sequence:
                    continue
                if reply.kind == NLMSG_ERROR:
                    number, said = verdict(reply)
                    if number or not flags & NLM_F_ACK:
                        raise NetlinkRefused(number, what, said)
                return reply

    def forget_late_answers(self) -> None:
        """Answers to an act that was given up must not be taken for answers to the next."""
        while True:
            try:
                self._socket.recv(_DATAGRAM)
            except BlockingIOError:
                return
            except OSError:
                continue  # ENOBUFS is reported once and then gone
