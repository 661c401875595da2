# SPDX-License-Identifier: Apache-2.0
"""The connected sockets of this network namespace, and ending them (NETLINK_SOCK_DIAG).

Sockets in other namespaces, a container's for example, are out of its reach.  All numbers are the kernel's:
include/uapi/linux/{sock_diag,inet_diag}.h, include/net/tcp_states.h.
"""

import errno
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vmwarden.errors import ControlFailed
from vmwarden.linux.netlink import (
    ANSWER_WITHIN_S,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLMSG_DONE,
    NLMSG_ERROR,
    Netlink,
    NetlinkRefused,
    replies,
    verdict,
)
from vmwarden.model.flow import Flow, FlowProtocol, TcpTable

NETLINK_SOCK_DIAG = 4

_BY_FAMILY, _DESTROY = 20, 21  # SOCK_DIAG_BY_FAMILY, SOCK_DESTROY
#: struct inet_diag_req_v2: family, protocol, attributes wanted, states, then struct inet_diag_sockid
_REQUEST = struct.Struct("=BBBxI48s")
#: struct inet_diag_msg: family, state, the same inet_diag_sockid; expires, queues; uid, inode
_MESSAGE = struct.Struct("=BBxx48s12xII")
#: of inet_diag_sockid: ports and addresses; device and cookie follow
_ID = struct.Struct("!HH16s16s")
_NO_ID = bytes(48)
#: ::ffff:0:0/96, an IPv4 address in an IPv6 socket (RFC 4291)
_MAPPED = bytes(10) + b"\xff\xff"

_ESTABLISHED, _TIME_WAIT, _CLOSE, _LISTEN = 1, 6, 7, 10
#: Bits of the states in which a TCP socket is a flow.  Not those that listen or were closed, nor TIME_WAIT:
#: there is no flow any more, only the memory of one.  Unknown bits are ignored by older kernels.
_TCP_FLOWS = 0xFFF & ~(1 << _LISTEN | 1 << _CLOSE | 1 << _TIME_WAIT)
#: a UDP socket is "established" as long as it is connected
_UDP_FLOWS = 1 << _ESTABLISHED

_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_PROTOCOLS: dict[FlowProtocol, int] = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}
_MEND = "load the modules tcp_diag and udp_diag"
#: It ended by itself, or its place has been taken by another since the look (the cookie differs).
_GONE = frozenset((errno.ENOENT, errno.ESTALE))


@dataclass(frozen=True, slots=True)
class Handle:
    """A socket of a flow as the kernel names it, with its cookie: no other can be meant."""

    flow: Flow
    family: int
    name: bytes


@dataclass(frozen=True, slots=True)
class Destroyed:
    """Of a batch: sockets that were ended, that had gone by themselves, that the kernel cannot end."""

    ended: int
    gone: int
    refused: int


class SockDiag:
    """The sockets of the network namespace in which this is made.  One thread."""

    def __init__(self) -> None:
        """Raises ControlFailed: no such netlink here."""
        what = "netlink to the table of sockets"
        self._looking = Netlink(NETLINK_SOCK_DIAG, what=what, mend=_MEND)
        # another socket, because a look may be under way while sockets are ended
        self._ending = Netlink(NETLINK_SOCK_DIAG, what=what, mend=_MEND)

    def close(self) -> None:
        self._looking.close()
        self._ending.close()

    def can_destroy(self) -> bool:
        """Whether this kernel can end sockets (CONFIG_INET_DIAG_DESTROY).  Touches none.

        Raises ControlFailed.
        """
        nobody = _REQUEST.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, 0, _NO_ID)
        try:
            self._ending.ask(_DESTROY, nobody, what="ending a socket that is not there")
        except NetlinkRefused as refused:
            if refused.number == errno.ENOENT:
                return True
            if refused.number == errno.EOPNOTSUPP:
                return False
            raise
        raise ControlFailed("the kernel says that it has ended a socket that is not there")

    def shown(self) -> tuple[FlowProtocol, ...]:
        """The protocols whose sockets this kernel shows: each may be a module of its own.

        Raises ControlFailed.
        """
        found: list[FlowProtocol] = []
        for protocol in _PROTOCOLS:
            try:
                for _ in self._look(socket.AF_INET, protocol, 0):
                    pass
            except NetlinkRefused as refused:
                if refused.number != errno.ENOENT:
                    raise
                continue
            found.append(protocol)
        return tuple(found)

    def flows(self, protocol: FlowProtocol) -> Iterator[tuple[Handle, ...]]:
        """Every flow, a few hundred at a time: each step is one system call, and the kernel keeps the place.

        One look at a time: the iterator before must have been exhausted.  What begins meanwhile may be
        missed.  Raises NetlinkRefused (ENOENT: the kernel does not show this protocol), ControlFailed.
        """
        states = _TCP_FLOWS if protocol == "tcp" else _UDP_FLOWS
        for family in _FAMILIES:
            for batch in self._look(family, protocol, states):
                yield tuple(handle for _, handle in batch)

    def tcp(self) -> TcpTable:
        """What is established and what listens.  Raises NetlinkRefused, ControlFailed."""
        established: list[Flow] = []
        listening: set[int] = set()
        for family in _FAMILIES:
            for batch in self._look(family, "tcp", 1 << _ESTABLISHED | 1 << _LISTEN):
                for state, handle in batch:
                    if state == _LISTEN:
                        listening.add(handle.flow.local_port)
                    else:
                        established.append(handle.flow)
        return TcpTable(tuple(established), frozenset(listening))

    def destroy(self, handles: Sequence[Handle]) -> Destroyed:
        """End these; a TCP peer is sent a RST if the gate lets it out, and the program gets ECONNABORTED.

        One system call for all, answered when all are ended.  Raises NetlinkRefused (the right is missing:
        CAP_NET_ADMIN), ControlFailed.
        """
        if not handles:
            return Destroyed(0, 0, 0)
        what = "ending sockets"
        netlink = self._ending
        netlink.forget_late_answers()
        first = netlink.sequence + 1
        # only the last is asked to be acknowledged; a refusal is answered unasked
        last = len(handles) - 1
        netlink.send(
            b"".join(
                netlink.packed(_DESTROY, NLM_F_ACK if number == last else 0, _request(handle))
                for number, handle in enumerate(handles)
            ),
            what,
        )
        gone = refused = 0
        deadline = time.monotonic() + ANSWER_WITHIN_S
        answered = False
        while not answered:
            for reply in replies(netlink.receive(deadline, what)):
                if reply.kind != NLMSG_ERROR or not first <= reply.sequence <= netlink.sequence:
                    continue
                answered = answered or reply.sequence == netlink.sequence
                number, said = verdict(reply)
                if number in _GONE:
                    gone += 1
                elif number == errno.EOPNOTSUPP:
                    refused += 1
                elif number:
                    raise NetlinkRefused(number, what, said)
        return Destroyed(len(handles) - gone - refused, gone, refused)

    def _look(self, family: int, protocol: FlowProtocol, states: int) -> Iterator[list[tuple[int, Handle]]]:
        """Batches of (state, socket)."""
        what = f"reading the {protocol} sockets"
        netlink = self._looking
        netlink.forget_late_answers()
        request = _REQUEST.pack(family, _PROTOCOLS[protocol], 0, states, _NO_ID)
        netlink.send(netlink.packed(_BY_FAMILY, NLM_F_DUMP, request), what)
        while True:
            batch: list[tuple[int, Handle]] = []
            done = False
            for reply in replies(netlink.receive(time.monotonic() + ANSWER_WITHIN_S, what)):
                if reply.sequence != netlink.sequence:
                    continue
                if reply.kind == NLMSG_ERROR:
                    number, said = verdict(reply)
                    raise NetlinkRefused(number, what, said)
                if reply.kind == NLMSG_DONE:
                    done = True
                elif len(reply.payload) >= _MESSAGE.size:
                    batch.append(_read(reply.payload, protocol))
            yield batch
            if done:
                return


def _request(handle: Handle) -> bytes:
    return _REQUEST.pack(handle.family, _PROTOCOLS[handle.flow.protocol], 0, 0, handle.name)


def _read(payload: bytes, protocol: FlowProtocol) -> tuple[int, Handle]:
    family, state, name, uid, _ = _MESSAGE.unpack_from(payload)
    local_port, remote_port, local, remote = _ID.unpack_from(name)
    flow = Flow(protocol, _address(family, local), local_port, _address(family, remote), remote_port, uid)
    return state, Handle(flow, family, name)


def _address(family: int, data: bytes) -> bytes:
    if family == socket.AF_INET:
        return data[:4]
    return data[12:] if data.startswith(_MAPPED) else data
