# SPDX-License-Identifier: Apache-2.0
"""TCP segments as no stack would send them, an ear for those that come in, and an uplink for the rules."""

import select
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.integration.gate_frames import IPV4, IPV6
from vmwarden.testing.network import Namespace

SYN, RST, PSH, ACK = 2, 4, 8, 16
_TCP = 6
_SOL_PACKET, _IGNORE_OUTGOING = 263, 23

#: as controls.second_layer makes it for each uplink
UPLINK = "".join(
    f"""
table netdev vmwarden {{
	chain {way}_eth0 {{
		type filter hook {hook} device eth0 priority -500; policy drop;
		meta protocol @lease accept
		goto judge_{way}
	}}
}}
"""
    for way, hook in (("in", "ingress"), ("out", "egress"))
)


def segment(
    source: str, target: str, ports: tuple[int, int], said: int, payload: bytes = b"", options: bytes = b""
) -> bytes:
    """An IPv4 packet of TCP, with its sums right."""
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    length = 20 + len(options) + len(payload)
    head = struct.pack("!HHIIBBHHH", *ports, 1000, 2000, (5 + len(options) // 4) << 4, said, 1024, 0, 0)
    tcp = head + options + payload
    total = internet_sum(ends + struct.pack("!HH", 6, length) + tcp)
    tcp = tcp[:16] + struct.pack("!H", total) + tcp[18:]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0x4000, 64, 6, 0) + ends
    return ip[:10] + struct.pack("!H", internet_sum(ip)) + ip[12:] + tcp


def internet_sum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def raw(where: Namespace, packet: bytes, to: str) -> None:
    """From a raw socket of that namespace; refused or not."""
    with where.entered(), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender:
        try:
            sender.sendto(packet, (to, 0))
        except PermissionError:
            return


@contextmanager
def heard(where: Namespace, device: str = "eth0") -> Iterator[Callable[[], list[bytes]]]:
    """What comes in there as IP from TCP, whole frames: all of them so far."""
    with where.entered():
        ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        ear.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        ear.bind((device, 3))
    ear.setblocking(False)
    frames: list[bytes] = []

    def now() -> list[bytes]:
        while select.select([ear], [], [], 0.05)[0]:
            data = ear.recv(65536)
            kind = int.from_bytes(data[12:14])
            tcp = data[23] == _TCP if kind == IPV4 else kind == IPV6 and data[20] == _TCP
            if tcp:
                frames.append(data)
        return frames

    with ear:
        yield now


def flags(frame: bytes) -> int:
    return frame[14 + (20 if int.from_bytes(frame[12:14]) == IPV4 else 40) + 13]


def bare(frame: bytes) -> bool:
    """A reset that can carry nothing: 20 bytes of TCP, or 32 with time stamps."""
    header = 14 + (20 if int.from_bytes(frame[12:14]) == IPV4 else 40)
    length = (frame[header + 12] >> 4) * 4
    # an Ethernet frame is never shorter than its packet, but may be padded: veth does not
    return flags(frame) in (RST, RST | ACK) and length in (20, 32) and len(frame) == header + length
