# SPDX-License-Identifier: Apache-2.0
"""Does a packet get there?  One answer a probe.  Probes may run in threads, but for udp_answered."""

import os
import select
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from vmwarden.testing.network import Namespace
from vmwarden.testing.traffic import family_of

#: what gets through is there in well under a millisecond; the rest is for a loaded machine
WITHIN_S = 0.25
_ECHO_REQUEST = {socket.AF_INET: 8, socket.AF_INET6: 128}
_ECHO_REPLY = {socket.AF_INET: 0, socket.AF_INET6: 129}

#: two probes of one port would hear each other
_doors: defaultdict[tuple[str, int], threading.Lock] = defaultdict(threading.Lock)


@contextmanager
def _alone(*doors: tuple[str, int]) -> Iterator[None]:
    """No other probe is at one of these (namespace, port) within the block."""
    with ExitStack() as held:
        for door in sorted(set(doors)):
            held.enter_context(_doors[door])
        yield


def udp(
    source: Namespace, target: Namespace, to: str, port: int, *, mark: int = 0, sent_from: str = ""
) -> bool:
    """mark: SO_MARK of the sender."""
    with (
        _alone((target.name, port)),
        target.socket(socket.SOCK_DGRAM, family_of(to)) as receiver,
        source.socket(socket.SOCK_DGRAM, family_of(to)) as sender,
    ):
        receiver.bind((to, port))
        if mark:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("=I", mark))
        if sent_from:
            sender.bind((sent_from, 0))
        return _sent(sender, b"probe", (to, port)) and _readable(receiver)


def udp_answered(source: Namespace, target: Namespace, to: str, port: int, *, uid: int) -> bool:
    """A question by a process of that user, and its answer.  Every thread is that user for a moment."""
    with target.socket(socket.SOCK_DGRAM) as server, source.entered():
        server.bind((to, port))
        os.seteuid(uid)
        try:
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        finally:
            os.seteuid(0)
        with client:
            if not (_sent(client, b"question", (to, port)) and _readable(server)):
                return False
            server.sendto(b"answer", server.recvfrom(100)[1])
            return _readable(client)


def tcp(
    source: Namespace,
    target: Namespace,
    to: str,
    port: int,
    *,
    source_port: int = 0,
    sent_from: str = "",
    heard_at: str = "",
) -> bool:
    """A connection that carries a byte each way.  heard_at: where it arrives, if not at the address."""
    any_address = "::" if ":" in to else "0.0.0.0"
    with (
        _alone((target.name, port), (source.name, source_port)),
        target.socket(socket.SOCK_STREAM, family_of(to)) as listener,
        source.socket(socket.SOCK_STREAM, family_of(to)) as client,
    ):
        for each in (listener, client):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.settimeout(2 * WITHIN_S)
        listener.bind((heard_at or to, port))
        listener.listen(1)
        client.bind((sent_from or any_address, source_port))
        try:
            client.connect((to, port))
            server = listener.accept()[0]
        except (TimeoutError, PermissionError):
            return False
        with server:
            server.settimeout(WITHIN_S)
            client.sendall(b"1")
            server.sendall(server.recv(1))
            return client.recv(1) == b"1"


def ping(source: Namespace, to: str) -> bool:
    """ICMP or ICMPv6 echo."""
    family = family_of(to)
    protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
    with source.entered(), socket.socket(family, socket.SOCK_RAW, protocol) as raw:
        token = os.urandom(8)
        header = struct.pack("!BBHHH", _ECHO_REQUEST[family], 0, 0, 1, 1)
        request = header[:2] + struct.pack("!H", _checksum(header + token)) + header[4:] + token
        if not _sent(raw, request, (to, 0)):
            return False
        while _readable(raw):
            packet = raw.recv(2048)
            message = packet[20:] if family == socket.AF_INET else packet
            if message[0] == _ECHO_REPLY[family] and message[8:] == token:
                return True
        return False


def _sent(sender: socket.socket, data: bytes, to: tuple[str, int]) -> bool:
    try:
        sender.sendto(data, to)
    except PermissionError:  # the gate's own answer to a local sender
        return False
    return True


def _readable(receiver: socket.socket) -> bool:
    return bool(select.select([receiver], [], [], WITHIN_S)[0])


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
