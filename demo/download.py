# SPDX-License-Identifier: Apache-2.0
"""A download without end: what its client gets, and when its packets left the VM."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType

from testbed.guest import Guest

#: run in the VM: packets are seen as they go to the card, behind every rule, and the kernel stamps them
_EAR = r"""
import socket, struct, threading
SO_TIMESTAMPNS, SO_RCVBUFFORCE, OUTGOING = 35, 33, 4  # asm-generic/socket.h, linux/if_packet.h
ETH_P_ALL, ETH_P_IP = 3, 0x800  # linux/if_ether.h; what goes out is heard by those that hear all
left_ns = []
def _listen():
    while True:
        packet, notes, _, where = _ear.recvmsg(128, 64)
        header = packet[0] % 16 * 4
        tcp = where[1:3] == (ETH_P_IP, OUTGOING) and packet[9] == socket.IPPROTO_TCP
        if tcp and packet[header:header + 2] == b"\0\x50":
            length = int.from_bytes(packet[2:4], "big") - header - (packet[header + 12] >> 4) * 4
            if length:
                seconds, nanoseconds = struct.unpack("qq", notes[0][2])
                left_ns.append(seconds * 10**9 + nanoseconds)
_ear = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
_ear.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
_ear.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20)
threading.Thread(target=_listen, daemon=True).start()
"""
_ENOUGH = 100_000  # bytes


class Ear:
    """Hears every packet with data that leaves the VM's web service."""

    def __init__(self, guest: Guest) -> None:
        guest.py(_EAR)
        self._guest = guest

    def last_ns(self) -> int:
        """When the last one so far left, by the VM's clock: nanoseconds since 1970."""
        return int(self._guest.py("print(left_ns[-1])"))


class Download:
    """A client of the VM's web service; reads as fast as it can, until its connection ends."""

    def __init__(self, port: int) -> None:
        """port: of this host's loopback, forwarded to the VM's web service."""
        self.received = 0
        self._link = socket.create_connection(("127.0.0.1", port), 10)
        self._link.sendall(b"GET /without-end HTTP/1.0\r\n\r\n")
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Download:
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._link.shutdown(socket.SHUT_RDWR)
        self._link.close()

    def runs(self) -> bool:
        """Whether it has got so much that it is more than an answer."""
        return self.received > _ENOUGH and self._reader.is_alive()

    def told(self, within_s: float) -> bool:
        """Whether the client was told by then that its connection has ended."""
        self._reader.join(within_s)
        return not self._reader.is_alive()

    def _read(self) -> None:
        self._link.settimeout(None)
        with contextlib.suppress(OSError):  # a reset
            while data := self._link.recv(1 << 16):
                self.received += len(data)
