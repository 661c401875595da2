# SPDX-License-Identifier: Apache-2.0
"""What is local to this network namespace: packets to it never leave.

Read from the routes of type local, not from the addresses of devices: a whole network may be local (AnyIP).
All numbers are the kernel's: include/uapi/linux/rtnetlink.h.
"""

import errno
import socket
import struct
from ipaddress import IPv4Network, IPv6Network, ip_network

from vmwarden.linux.netlink import Netlink, NetlinkRefused, attributes

_NETLINK_ROUTE = 0
_NEWROUTE, _GETROUTE = 24, 26
#: struct rtmsg: family, prefix lengths, TOS, table, protocol, scope, type, flags
_RTMSG = struct.Struct("=BBBBBBBBI")
_TABLE_LOCAL, _TYPE_LOCAL = 255, 2
_DESTINATION = 1  # RTA_DST
_ADDRESS_BYTES: dict[int, int] = {socket.AF_INET: 4, socket.AF_INET6: 16}


def own_addresses() -> tuple[IPv4Network | IPv6Network, ...]:
    """Networks, most of them of one address.  Raises NetlinkRefused, ControlFailed.

    Only the table "local" is asked for: a VM that routes has others with a million entries.
    """
    netlink = Netlink(_NETLINK_ROUTE, what="netlink to the routes", strict=True)
    try:
        return tuple(network for family in _ADDRESS_BYTES for network in _local(netlink, family))
    finally:
        netlink.close()


def _local(netlink: Netlink, family: int) -> list[IPv4Network | IPv6Network]:
    asked = _RTMSG.pack(family, 0, 0, 0, _TABLE_LOCAL, 0, 0, _TYPE_LOCAL, 0)
    try:
        routes = netlink.dump(_GETROUTE, asked, what="reading the local routes")
    except NetlinkRefused as refused:
        if refused.number in (errno.ENOENT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP):
            return []  # no address was ever given, or no IPv6
        raise
    found: list[IPv4Network | IPv6Network] = []
    for reply in routes:
        if reply.kind != _NEWROUTE or len(reply.payload) < _RTMSG.size:
            continue
        fields = _RTMSG.unpack_from(reply.payload)
        length, kind = fields[1], fields[7]
        destination = dict(attributes(reply.payload[_RTMSG.size :])).get(_DESTINATION, b"")
        whole = len(destination) == _ADDRESS_BYTES[family]
        if kind == _TYPE_LOCAL and whole and length <= 8 * len(destination):
            found.append(ip_network((destination, length), strict=False))
    return found
