# SPDX-License-Identifier: Apache-2.0
"""Ways around the gate, as an attacker with the right would make them: XDP and tcx programs, AF_XDP.

All numbers are the kernel's: include/uapi/linux/{bpf,if_xdp,if_link}.h; x86-64's system call.
"""

import ctypes
import mmap
import os
import platform
import socket
import struct
from unittest import SkipTest

from vmwarden.linux.netlink import Netlink, attribute, nested

_BPF = 321
_PROG_LOAD, _LINK_CREATE = 5, 28
_TYPE_SCHED_CLS, _TYPE_XDP = 3, 6
_TCX_EGRESS = 47
XDP_PASS, XDP_TX = 2, 3
_SETLINK = 19
_IFLA_XDP, _IFLA_XDP_FD, _IFLA_XDP_FLAGS, _XDP_SKB_MODE = 43, 1, 3, 2
_AF_XDP, _SOL_XDP = 44, 283
_RING_SIZE, _FRAME = 16, 2048

_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command: int, attributes: bytes) -> int:
    if platform.machine() != "x86_64":
        raise SkipTest("the number of the system call bpf is known here for x86-64 only")
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    made: int = _libc.syscall(_BPF, command, buffer, len(attributes))
    if made < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return made


def program(kind: int, answer: int) -> int:
    """A program that gives one answer to every packet; a descriptor.  r0 = answer; exit"""
    code = struct.pack("=BBhi", 0xB7, 0, 0, answer) + struct.pack("=BBhi", 0x95, 0, 0, 0)
    code_at = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    asked = struct.pack(
        "=IIQQIIQII", kind, 2, ctypes.addressof(code_at), ctypes.addressof(licence), 0, 0, 0, 0, 0
    )
    return _bpf(_PROG_LOAD, asked)


def attach_xdp(index: int, answer: int) -> None:
    """To a device of this namespace, in the stack."""
    made = program(_TYPE_XDP, answer)
    netlink = Netlink(0, what="netlink")
    netlink.ask(
        _SETLINK,
        struct.pack("=BxHiII", 0, 0, index, 0, 0)
        + nested(
            _IFLA_XDP,
            attribute(_IFLA_XDP_FD, struct.pack("=i", made)),
            attribute(_IFLA_XDP_FLAGS, struct.pack("=I", _XDP_SKB_MODE)),
        ),
        what="attaching a program",
    )
    netlink.close()
    os.close(made)


def attach_tcx(index: int) -> int:
    """A program at egress that passes everything on; it stays until the descriptor is closed."""
    made = program(_TYPE_SCHED_CLS, 0)
    try:
        return _bpf(_LINK_CREATE, struct.pack("=IIIIIIQ", made, index, _TCX_EGRESS, 0, 0, 0, 0))
    except OSError as error:
        raise SkipTest(f"no tcx on this kernel: {error}") from error
    finally:
        os.close(made)


class XdpSender:
    """A socket of AF_XDP that can send one frame out of a device of this namespace."""

    def __init__(self, index: int) -> None:
        self._socket = socket.socket(_AF_XDP, socket.SOCK_RAW, 0)
        self._memory = mmap.mmap(-1, _RING_SIZE * _FRAME)
        at = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._option(4, struct.pack("=QQIII4x", at, _RING_SIZE * _FRAME, _FRAME, 0, 0))  # XDP_UMEM_REG
        for ring in (5, 6, 3):  # XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING, XDP_TX_RING
            self._option(ring, struct.pack("=I", _RING_SIZE))
        offsets = struct.unpack("=16Q", self._socket.getsockopt(_SOL_XDP, 1, 128))  # XDP_MMAP_OFFSETS
        self._producer, _, self._descriptors, _ = offsets[4:8]
        self._ring = mmap.mmap(
            self._socket.fileno(),
            self._descriptors + _RING_SIZE * 16,
            flags=mmap.MAP_SHARED | mmap.MAP_POPULATE,
            offset=0x80000000,  # XDP_PGOFF_TX_RING
        )
        address = struct.pack("=HHIII", _AF_XDP, 2, index, 0, 0)  # XDP_COPY
        if _libc.bind(self._socket.fileno(), address, len(address)) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self._sent = 0

    def send(self, frame: bytes) -> None:
        slot = self._sent % _RING_SIZE
        self._memory[slot * _FRAME : slot * _FRAME + len(frame)] = frame
        struct.pack_into("=QII", self._ring, self._descriptors + slot * 16, slot * _FRAME, len(frame), 0)
        self._sent += 1
        struct.pack_into("=I", self._ring, self._producer, self._sent)
        _libc.sendto(self._socket.fileno(), None, 0, socket.MSG_DONTWAIT, None, 0)

    def close(self) -> None:
        self._ring.close()  # a ring that is mapped holds the socket
        self._socket.close()

    def _option(self, name: int, value: bytes) -> None:
        self._socket.setsockopt(_SOL_XDP, name, value)
