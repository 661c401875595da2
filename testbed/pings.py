# SPDX-License-Identifier: Apache-2.0
"""Is the way in and out of a guest open, every few milliseconds, asked from its host.

The guest's kernel itself answers an ICMP echo, out of an interrupt: a program in the guest that should send
would have to wait for its turn on the one CPU just while vmwarden decides, and would look closed.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time

from testbed.spec import USER_GATEWAY, USER_GUEST
from vmwarden.testing.network import Namespace

PACE_S = 0.004
_ECHO, _REPLY = 8, 0  # RFC 792
_HEADER = struct.Struct("!BBHHH")
_IPV4_BYTES = 20
#: SO_TIMESTAMPNS of include/uapi/asm-generic/socket.h: CLOCK_REALTIME at which the packet came in
_TIMESTAMP = 35
_TIMESPEC = struct.Struct("@ll")


class Pings:
    """Runs from entering to the end of the ``with`` block.

    asked: how many were sent.  answered_ns: when each answer came to the host's kernel, CLOCK_REALTIME.
    """

    def __init__(self, namespace: str) -> None:
        self.asked = 0
        self.answered_ns: list[int] = []
        self._inside = Namespace(namespace)
        self._stop = threading.Event()

    def __enter__(self) -> Pings:
        with self._inside.entered():
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self._socket.bind((USER_GATEWAY, 0))
        self._socket.setsockopt(socket.SOL_SOCKET, _TIMESTAMP, 1)
        self._socket.settimeout(0.1)
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._ask, self._hear)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(5)
        self._socket.close()

    def wait_silent(self, timeout_s: float, *, quiet_s: float) -> None:
        """Until no answer has come for quiet_s.  Raises TimeoutError."""
        deadline, seen, since = time.monotonic() + timeout_s, -1, time.monotonic()
        while time.monotonic() < deadline:
            if len(self.answered_ns) != seen:
                seen, since = len(self.answered_ns), time.monotonic()
            elif time.monotonic() - since >= quiet_s:
                return
            time.sleep(0.01)
        raise TimeoutError(f"answers still come after {timeout_s} s")

    def wait_answers(self, timeout_s: float, *, number: int = 20) -> None:
        """Until so many more have come.  Raises TimeoutError."""
        deadline, wanted = time.monotonic() + timeout_s, len(self.answered_ns) + number
        while len(self.answered_ns) < wanted:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {number} answers within {timeout_s} s")
            time.sleep(0.01)

    def _ask(self) -> None:
        number, guest = 0, USER_GUEST.split("/")[0]
        while not self._stop.wait(PACE_S):
            number = (number + 1) % 0x10000
            # the sum over type and code is that of the first word alone; one's complement, carry added
            total = (_ECHO << 8) + number
            total = (total & 0xFFFF) + (total >> 16)
            packet = _HEADER.pack(_ECHO, 0, total ^ 0xFFFF, 0, number)
            with contextlib.suppress(OSError):  # nobody knows the guest's address yet
                self._socket.sendto(packet, (guest, 0))
                self.asked += 1

    def _hear(self) -> None:
        while not self._stop.is_set():
            try:
                data, ancillary, _, _ = self._socket.recvmsg(128, 64)
            except TimeoutError:
                continue
            if len(data) <= _IPV4_BYTES or data[_IPV4_BYTES] != _REPLY:
                continue
            for _, kind, stamp in ancillary:
                if kind == _TIMESTAMP:
                    seconds, nanoseconds = _TIMESPEC.unpack(stamp)
                    self.answered_ns.append(seconds * 1_000_000_000 + nanoseconds)
