# SPDX-License-Identifier: Apache-2.0
"""Flows of UDP of which every packet's arrival is known by the kernel's time stamp."""

import errno
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from vmwarden.testing.network import Namespace

#: SO_TIMESTAMPNS of include/uapi/asm-generic/socket.h: CLOCK_REALTIME at which the packet came in
_TIMESTAMP = 35
_TIMESPEC = struct.Struct("@ll")
_SO_RCVBUFFORCE = 33
_PAYLOAD = b"vmwarden" * 8
#: refused by our rules, and what the far end's stack says to a port or a route that is not there
_REFUSED = (errno.EPERM, errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH)


@dataclass
class StampedFlow:
    """tried: packets that the sender has made, also those that the kernel refused to take."""

    name: str
    sender: socket.socket
    receiver: socket.socket
    tried: int = 0
    received: int = 0

    def send(self) -> None:
        self.tried += 1
        try:
            self.sender.send(_PAYLOAD)
        except OSError as error:
            if error.errno not in _REFUSED:
                raise

    def arrived(self) -> list[int]:
        """CLOCK_REALTIME in ns of each packet that came since the last time."""
        stamps: list[int] = []
        while True:
            try:
                _, ancillary, _, _ = self.receiver.recvmsg(2048, 64)
            except BlockingIOError:
                self.received += len(stamps)
                return stamps
            for _, kind, stamp in ancillary:
                if kind == _TIMESTAMP:
                    seconds, nanoseconds = _TIMESPEC.unpack(stamp)
                    stamps.append(seconds * 1_000_000_000 + nanoseconds)


class StampedFlows:
    """One packet of each flow a tick; what arrived waits in the receiver's socket until it is asked for."""

    def __init__(self, *, tick_s: float = 0.0005) -> None:
        self.flows: list[StampedFlow] = []
        self._tick_s = tick_s

    def add(
        self, name: str, source: Namespace, target: Namespace, *, to: tuple[str, int], at: tuple[str, int]
    ) -> StampedFlow:
        """to: where it is sent; at: where it is heard, another place if addresses are translated."""
        receiver = target.socket(socket.SOCK_DGRAM)
        receiver.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 64 << 20)
        receiver.setsockopt(socket.SOL_SOCKET, _TIMESTAMP, 1)
        receiver.setblocking(False)
        receiver.bind(at)
        sender = source.socket(socket.SOCK_DGRAM)
        sender.connect(to)
        flow = StampedFlow(name, sender, receiver)
        self.flows.append(flow)
        return flow

    @contextmanager
    def running(self) -> Iterator[None]:
        """Sends within the block."""
        stop = threading.Event()
        with ThreadPoolExecutor(max_workers=1) as threads:
            sending = threads.submit(self._sending, stop)
            try:
                yield
            finally:
                stop.set()
                sending.result()
                self.arrived()

    def arrived(self) -> list[int]:
        """The time stamps of all flows since the last time, in their order."""
        return sorted(stamp for flow in self.flows for stamp in flow.arrived())

    def close(self) -> None:
        for flow in self.flows:
            flow.sender.close()
            flow.receiver.close()

    def _sending(self, stop: threading.Event) -> None:
        while not stop.is_set():
            for flow in self.flows:
                flow.send()
            time.sleep(self._tick_s)
