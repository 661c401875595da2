# SPDX-License-Identifier: Apache-2.0
"""Flows of UDP and TCP between namespaces, counted packet by packet with the kernel's own time stamps."""

import errno
import selectors
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
#: tcpi_total_retrans of struct tcp_info (include/uapi/linux/tcp.h): the 24th 32-bit word after 8 bytes
_TOTAL_RETRANS = struct.Struct("=100xI")
#: what one packet carries
_PAYLOAD = b"vmwarden" * 8
_CONNECT_WITHIN_S = 3.0
#: what a flow says that has ended; the last two if the kernel was asked to end it (SOCK_DESTROY)
_DIED = (
    errno.EPIPE,
    errno.ECONNRESET,
    errno.ECONNREFUSED,
    errno.ETIMEDOUT,
    errno.ECONNABORTED,
    errno.EDESTADDRREQ,
)
#: how long packets that are on their way may take once sending has stopped
_DRAIN_S = 0.3


def family_of(address: str) -> socket.AddressFamily:
    """Of a literal address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


@dataclass
class Flow:
    """One direction of packets.

    sent: handed to the kernel and taken.  refused: sendto failed with EPERM, the gate's answer to its own
    VM.  received: UDP packets or, for TCP, reads.  last_ns: the kernel's CLOCK_REALTIME stamp of the
    last that came in; 0 = none.
    """

    name: str
    sender: socket.socket
    receiver: socket.socket
    stream: bool
    sent: int = 0
    refused: int = 0
    received: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    last_ns: int = 0

    @property
    def lost(self) -> int:
        """Packets of UDP that did not arrive (refused ones included), bytes of TCP."""
        if self.stream:
            return self.sent_bytes - self.received_bytes
        return self.sent + self.refused - self.received

    def retransmitted(self) -> int:
        """Segments that this TCP sender had to send again."""
        info = self.sender.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TOTAL_RETRANS.size)
        retransmitted: int = _TOTAL_RETRANS.unpack(info)[0]
        return retransmitted

    def _send(self) -> None:
        try:
            taken = self.sender.send(_PAYLOAD)
        except BlockingIOError:
            return
        except OSError as error:
            # A refused UDP packet says EPERM; a stream that has died stays silent.
            if error.errno == errno.EPERM:
                self.refused += 1
            elif error.errno not in _DIED:
                raise
            return
        self.sent += 1
        self.sent_bytes += taken

    def _receive(self) -> bool:
        """Take all that is there; False when no more can come."""
        while True:
            try:
                data, ancillary, _, _ = self.receiver.recvmsg(65536, 64)
            except BlockingIOError:
                return True
            except (ConnectionError, TimeoutError):
                return False
            if self.stream and not data:
                return False
            self.received += 1
            self.received_bytes += len(data)
            for _, kind, stamp in ancillary:
                if kind == _TIMESTAMP:
                    seconds, nanoseconds = _TIMESPEC.unpack(stamp)
                    self.last_ns = seconds * 1_000_000_000 + nanoseconds


class Traffic:
    """Flows that run together: one packet of each a tick."""

    def __init__(self, *, tick_s: float = 0.001) -> None:
        self.flows: list[Flow] = []
        self._tick_s = tick_s
        self._sockets: list[socket.socket] = []

    def udp(self, name: str, source: Namespace, target: Namespace, *, to: str, port: int) -> Flow:
        """A flow to a port that is listened on."""
        receiver = target.socket(socket.SOCK_DGRAM, family_of(to))
        receiver.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 64 << 20)
        receiver.bind((to, port))
        sender = source.socket(socket.SOCK_DGRAM, family_of(to))
        sender.connect((to, port))
        return self._add(name, sender, receiver, stream=False)

    def tcp(self, name: str, source: Namespace, target: Namespace, *, to: str, port: int) -> Flow:
        """A flow over a connection that source opens now.  Raises TimeoutError when it cannot."""
        with target.socket(socket.SOCK_STREAM, family_of(to)) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((to, port))
            listener.listen(1)
            sender = source.socket(socket.SOCK_STREAM, family_of(to))
            self._sockets.append(sender)
            sender.settimeout(_CONNECT_WITHIN_S)
            sender.connect((to, port))
            listener.settimeout(_CONNECT_WITHIN_S)
            receiver = listener.accept()[0]
        sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._add(name, sender, receiver, stream=True)

    def _add(self, name: str, sender: socket.socket, receiver: socket.socket, *, stream: bool) -> Flow:
        receiver.setsockopt(socket.SOL_SOCKET, _TIMESTAMP, 1)
        sender.setblocking(False)
        receiver.setblocking(False)
        self._sockets += [sender, receiver]
        flow = Flow(name, sender, receiver, stream)
        self.flows.append(flow)
        return flow

    @contextmanager
    def running(self) -> Iterator[None]:
        """Sends within the block; when it is left, sending has stopped and what was on its way is counted."""
        stop_sending, stop_receiving = threading.Event(), threading.Event()
        with ThreadPoolExecutor(max_workers=2) as threads:
            sending = threads.submit(self._sending, stop_sending)
            receiving = threads.submit(self._receiving, stop_receiving)
            try:
                yield
            finally:
                stop_sending.set()
                try:
                    sending.result()
                    time.sleep(_DRAIN_S)
                finally:
                    stop_receiving.set()
                receiving.result()

    def close(self) -> None:
        for each in self._sockets:
            each.close()

    def _sending(self, stop: threading.Event) -> None:
        while not stop.is_set():
            for flow in self.flows:
                flow._send()
            time.sleep(self._tick_s)

    def _receiving(self, stop: threading.Event) -> None:
        with selectors.DefaultSelector() as selector:
            for flow in self.flows:
                selector.register(flow.receiver, selectors.EVENT_READ, flow)
            while not stop.is_set():
                for key, _ in selector.select(0.05):
                    if not key.data._receive():
                        selector.unregister(key.fileobj)
