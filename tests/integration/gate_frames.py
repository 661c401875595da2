# SPDX-License-Identifier: Apache-2.0
"""Frames as nobody's IP stack would send them, and an ear at a wire."""

import select
import socket
import struct
import time
from dataclasses import dataclass

from vmwarden.testing.network import Namespace

IPV4, IPV6, ARP, TAGGED, UNKNOWN = 0x0800, 0x86DD, 0x0806, 0x8100, 0x88B5
_SOL_PACKET, _QDISC_BYPASS = 263, 20
_ALL = 3  # ETH_P_ALL
#: a frame that passes is there within a millisecond; the rest is for a loaded machine
HEARD_WITHIN_S = 0.12
_PORTS = (9000, 443)


@dataclass(frozen=True, slots=True)
class Ends:
    """Of a flow, as the frame says."""

    source_mac: bytes
    target_mac: bytes
    source: str
    target: str
    source6: str
    target6: str


@dataclass(frozen=True, slots=True)
class Frame:
    """label: what the sender tells the kernel that it is."""

    label: int
    data: bytes


class Ear:
    """Hears every frame that comes in at a device."""

    def __init__(self, where: Namespace, device: str = "eth0") -> None:
        with where.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
            self._socket.bind((device, _ALL))

    def heard(self, token: bytes, within_s: float = HEARD_WITHIN_S) -> bool:
        """Whether a frame with the token came in since this was made."""
        deadline = time.monotonic() + within_s
        while (left := deadline - time.monotonic()) > 0 and select.select([self._socket], [], [], left)[0]:
            data, address = self._socket.recvfrom(65536)
            if token in data and address[2] != socket.PACKET_OUTGOING:
                return True
        return False

    def __enter__(self) -> "Ear":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def mac(where: Namespace, device: str = "eth0") -> bytes:
    with where.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as asked:
        asked.bind((device, 0))
        address: bytes = asked.getsockname()[4]
        return address


def send(where: Namespace, frame: Frame, *, device: str = "eth0", bypass: bool = False) -> None:
    """From a packet socket.  Refused silently or with an error: both are no frame."""
    with where.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
        if bypass:
            sender.setsockopt(_SOL_PACKET, _QDISC_BYPASS, 1)
        try:
            sender.sendto(frame.data, (device, frame.label))
        except OSError:
            return


def crafted(ends: Ends, token: bytes, *, ports: tuple[int, int] = _PORTS) -> dict[str, Frame]:
    """Each carries the token and, where it can, what would pass by port were it not hidden or misnamed.

    ports: source and target of what looks like a flow of manage.
    """
    from_to = struct.pack("!HH", *ports)
    lease = struct.pack("!HHHH", 67, 68, 8 + len(token), 0) + token
    segment = from_to + struct.pack("!IIHHHH", 1, 1, 0x5010, 1024, 0, 0) + token
    datagram = struct.pack("!HHHH", 9000, 9000, 8 + len(token), 0) + token
    discovery = struct.pack("!BBHI", 135, 0, 0, 0) + socket.inet_pton(socket.AF_INET6, ends.target6) + token
    options = bytes((60, 0, 1, 4, 0, 0, 0, 0)) + bytes((17, 0, 1, 4, 0, 0, 0, 0))
    four = ends.source_mac, ends.target_mac, ends.source, ends.target
    six = ends.source_mac, ends.target_mac, ends.source6, ends.target6
    manage = _ipv4(*four, protocol=6, body=segment)
    return {
        "IPv4, UDP": Frame(IPV4, _ipv4(*four, protocol=17, body=datagram)),
        "IPv4 with options": Frame(IPV4, _ipv4(*four, protocol=17, body=datagram, options=b"\x94\x04\0\0")),
        "IPv4, first fragment": Frame(IPV4, _ipv4(*four, protocol=17, body=datagram, fragment=0x2000)),
        "IPv4, later fragment that looks like manage": Frame(
            IPV4, _ipv4(*four, protocol=6, body=segment, fragment=100)
        ),
        "IPv4, later fragment that looks like DHCP": Frame(
            IPV4, _ipv4(*four, protocol=17, body=lease, fragment=100)
        ),
        "IPv4, unknown protocol": Frame(IPV4, _ipv4(*four, protocol=253, body=segment)),
        "IPv6, UDP behind extension headers": Frame(IPV6, _ipv6(*six, following=0, body=options + datagram)),
        "IPv6, first fragment": Frame(
            IPV6, _ipv6(*six, following=44, body=struct.pack("!BBHI", 17, 0, 1, 7) + datagram)
        ),
        "IPv6, later fragment that looks like manage": Frame(
            IPV6, _ipv6(*six, following=44, body=struct.pack("!BBHI", 6, 0, 100 << 3, 7) + segment)
        ),
        "IPv6, later fragment that looks like neighbour discovery": Frame(
            IPV6, _ipv6(*six, following=44, body=struct.pack("!BBHI", 58, 0, 100 << 3, 7) + discovery)
        ),
        "IPv6, neighbour discovery from beyond the link": Frame(
            IPV6, _ipv6(*six, following=58, body=discovery, hops=64)
        ),
        "IPv6, no next header": Frame(IPV6, _ipv6(*six, following=59, body=segment)),
        "IPv6, unknown next header": Frame(IPV6, _ipv6(*six, following=253, body=segment)),
        "802.1Q, IPv4": Frame(
            TAGGED,
            ends.target_mac
            + ends.source_mac
            + struct.pack("!HHH", TAGGED, 5, IPV4)
            + _ipv4(*four, protocol=17, body=datagram)[14:],
        ),
        "another EtherType": Frame(UNKNOWN, _ethernet(*four[:2], UNKNOWN, manage[14:])),
        "another EtherType, called IPv4, that looks like manage": Frame(
            IPV4, _ethernet(*four[:2], UNKNOWN, manage[14:])
        ),
        "IPv4, called ARP": Frame(ARP, manage.replace(from_to, struct.pack("!HH", 9000, 9000))),
    }


def resets(ends: Ends, token: bytes) -> dict[str, Frame]:
    """Of TCP.  token: 8 bytes; the bare one has room for them in its sequence numbers only."""
    four = ends.source_mac, ends.target_mac, ends.source, ends.target
    bare = struct.pack("!HH", 9000, 9000) + token + struct.pack("!HHHH", 0x5014, 0, 0, 0)
    filled = struct.pack("!HHIIHHHH", 9000, 9000, 1, 1, 0x5014, 0, 0, 0) + token
    return {
        "TCP reset": Frame(IPV4, _ipv4(*four, protocol=6, body=bare)),
        "TCP reset that carries data": Frame(IPV4, _ipv4(*four, protocol=6, body=filled)),
    }


def _ethernet(source: bytes, target: bytes, kind: int, body: bytes) -> bytes:
    return target + source + struct.pack("!H", kind) + body


def _ipv4(
    source_mac: bytes,
    target_mac: bytes,
    source: str,
    target: str,
    *,
    protocol: int,
    body: bytes,
    fragment: int = 0,
    options: bytes = b"",
) -> bytes:
    length = 20 + len(options)
    header = struct.pack(
        "!BBHHHBBH4s4s",
        0x40 | length // 4,
        0,
        length + len(body),
        1,
        fragment,
        64,
        protocol,
        0,
        socket.inet_aton(source),
        socket.inet_aton(target),
    )
    header += options
    total = sum(struct.unpack(f"!{length // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    header = header[:10] + struct.pack("!H", ~total & 0xFFFF) + header[12:]
    return _ethernet(source_mac, target_mac, IPV4, header + body)


def _ipv6(
    source_mac: bytes,
    target_mac: bytes,
    source: str,
    target: str,
    *,
    following: int,
    body: bytes,
    hops: int = 255,
) -> bytes:
    header = struct.pack(
        "!IHBB16s16s",
        6 << 28,
        len(body),
        following,
        hops,
        socket.inet_pton(socket.AF_INET6, source),
        socket.inet_pton(socket.AF_INET6, target),
    )
    return _ethernet(source_mac, target_mac, IPV6, header + body)
