# SPDX-License-Identifier: Apache-2.0
"""Connections that this VM's own sockets have, as the kernel tells of them."""

from dataclasses import dataclass
from typing import Literal

import msgspec

FlowProtocol = Literal["tcp", "udp"]


# a Struct, because ten thousand of them are made within a turn of the warden
class Flow(msgspec.Struct, frozen=True, gc=False):
    """One connected socket.

    local, remote: addresses in network byte order, 4 bytes or 16.  An IPv4 address in an IPv6 socket is 4.
    uid: whose the socket is; 0 also for one that its process has closed already.
    """

    protocol: FlowProtocol
    local: bytes
    local_port: int
    remote: bytes
    remote_port: int
    uid: int


@dataclass(frozen=True, slots=True)
class TcpTable:
    """Established TCP connections, and the ports on which something listens for more."""

    established: tuple[Flow, ...]
    listening: frozenset[int]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the ending of flows has come, since it was begun.

    ended: flows.  kept: those of the last whole look that the closed gate keeps.  refused: the kernel has no
    way to end them.  done: nothing is left to be ended.
    """

    ended: int = 0
    kept: int = 0
    refused: int = 0
    done: bool = False
