# SPDX-License-Identifier: Apache-2.0
"""Network devices over rtnetlink: what there is, what changes, what filters their queues; switching off.

Standard library only.  All numbers are the kernel's: include/uapi/linux/{rtnetlink,if_link,if,pkt_sched}.h.
"""

import errno
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

from vmwarden.linux.netlink import (
    EventsLost,
    Netlink,
    NetlinkRefused,
    attribute,
    attributes,
    name,
    nested,
    replies,
    text,
)
from vmwarden.model.link import Link, LinkEvent

NETLINK_ROUTE = 0

_NEWLINK, _DELLINK, _GETLINK, _SETLINK = 16, 17, 18, 19
_NEWQDISC, _GETQDISC = 36, 38
_NEWTFILTER, _GETTFILTER = 44, 46
_NEWLINKPROP, _DELLINKPROP = 108, 109
_GROUP_LINK = 1 << 0  # RTMGRP_LINK

_IFINFO = struct.Struct("=BxHiII")  # family, device type, index, flags, change mask
_TCMSG = struct.Struct("=BxxxiIII")  # family, index, handle, parent, info
_U32 = struct.Struct("=I")
_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8
_OPERSTATE_UP = 6

# enum of include/uapi/linux/if_link.h
_IFNAME, _LINK, _MASTER, _OPERSTATE, _LINKINFO = 3, 5, 10, 16, 18
_EXT_MASK, _LINK_NETNSID, _XDP, _EVENT, _NEW_NETNSID = 29, 37, 43, 44, 45
_NEW_IFINDEX, _PROP_LIST, _ALT_IFNAME = 49, 52, 53
_PARENT_DEV_NAME, _PARENT_DEV_BUS_NAME = 56, 57
_INFO_KIND = 1
#: IFLA_XDP_PROG_ID, and those attached by the driver, by the stack, in hardware
_XDP_PROGRAMS = frozenset((4, 5, 6, 7))
_SKIP_STATISTICS = 1 << 3  # RTEXT_FILTER_SKIP_STATS
_EVENT_NOTIFY_PEERS = 4

_TCA_KIND, _TCA_OPTIONS = 1, 2
#: TC_H_CLSACT with TC_H_MIN_INGRESS and TC_H_MIN_EGRESS; a qdisc of kind ingress has the first only
CLSACT_INGRESS, CLSACT_EGRESS = 0xFFFF_FFF2, 0xFFFF_FFF3
_TO_DIRECTION = {CLSACT_INGRESS: "ingress", CLSACT_EGRESS: "egress"}


@dataclass(frozen=True, slots=True)
class Filter:
    """A program or filter of tc before or behind a device's queue.

    direction: ingress or egress.  kind: bpf, flower, u32, matchall, …  redirects: it can send packets to
    another device: it has the action mirred, or it is a program, of which nobody can tell.
    """

    index: int
    direction: str
    kind: str
    redirects: bool


class Links:
    """The devices of the network namespace in which this is made."""

    def __init__(self) -> None:
        """Raises ControlFailed."""
        self._netlink = Netlink(NETLINK_ROUTE, what="netlink to the network devices")

    def close(self) -> None:
        self._netlink.close()

    def all(self) -> tuple[Link, ...]:
        """Every device.  Raises NetlinkRefused, ControlFailed."""
        asked = _IFINFO.pack(0, 0, 0, 0, 0) + attribute(_EXT_MASK, _U32.pack(_SKIP_STATISTICS))
        found = self._netlink.dump(_GETLINK, asked, what="reading the network devices")
        return tuple(
            _link(reply.payload)
            for reply in found
            if reply.kind == _NEWLINK and len(reply.payload) >= _IFINFO.size
        )

    def switch_off(self, index: int) -> None:
        """Take a device of this namespace down.  Raises NetlinkRefused, ControlFailed."""
        asked = _IFINFO.pack(0, 0, index, 0, _IFF_UP)
        self._netlink.ask(_SETLINK, asked, what=f"switching off device {index}")

    def switch_on(self, index: int) -> None:
        """Take a device of this namespace up.  Raises NetlinkRefused, ControlFailed."""
        asked = _IFINFO.pack(0, 0, index, _IFF_UP, _IFF_UP)
        self._netlink.ask(_SETLINK, asked, what=f"switching on device {index}")

    def add_altname(self, index: int, altname: str) -> None:
        """Give a device another name besides (Linux 5.5).  Raises NetlinkRefused (EEXIST), ControlFailed."""
        self._altname(_NEWLINKPROP, index, altname)

    def remove_altname(self, index: int, altname: str) -> None:
        """Raises NetlinkRefused, ControlFailed."""
        self._altname(_DELLINKPROP, index, altname)

    def _altname(self, kind: int, index: int, altname: str) -> None:
        asked = _IFINFO.pack(0, 0, index, 0, 0) + nested(_PROP_LIST, text(_ALT_IFNAME, altname))
        self._netlink.ask(kind, asked, what=f"marking device {index}")

    def filters(self) -> tuple[Filter, ...]:
        """Every filter of a clsact or ingress qdisc.  Programs attached by tcx are not among them.

        Raises NetlinkRefused, ControlFailed.
        """
        asked = _TCMSG.pack(0, 0, 0, 0, 0)
        found: list[Filter] = []
        for reply in self._netlink.dump(_GETQDISC, asked, what="reading the queues"):
            if reply.kind != _NEWQDISC or len(reply.payload) < _TCMSG.size:
                continue
            index = _TCMSG.unpack_from(reply.payload)[1]
            kind = _text(dict(attributes(reply.payload[_TCMSG.size :])).get(_TCA_KIND, b""))
            if kind in ("clsact", "ingress"):
                found += self._filters_of(index)
        return tuple(found)

    def _filters_of(self, index: int) -> Iterator[Filter]:
        for parent, direction in _TO_DIRECTION.items():
            asked = _TCMSG.pack(0, index, 0, parent, 0)
            try:
                dumped = self._netlink.dump(_GETTFILTER, asked, what=f"reading the filters of device {index}")
            except NetlinkRefused as refused:
                # the device or its queue has gone meanwhile; a kernel without classifiers has no filters
                if refused.number in (errno.ENODEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT):
                    continue
                raise
            seen: set[str] = set()
            for reply in dumped:
                if reply.kind != _NEWTFILTER or len(reply.payload) < _TCMSG.size:
                    continue
                fields = dict(attributes(reply.payload[_TCMSG.size :]))
                kind = _text(fields.get(_TCA_KIND, b""))
                redirects = kind == "bpf" or b"mirred\0" in fields.get(_TCA_OPTIONS, b"")
                # u32 tells of its tables besides, without options worth naming: one of a kind is enough
                if kind + str(redirects) not in seen:
                    seen.add(kind + str(redirects))
                    yield Filter(index, direction, kind, redirects)


class LinkEvents:
    """What happens to the devices, from when this is made."""

    def __init__(self) -> None:
        """Raises ControlFailed."""
        self._netlink = Netlink(
            NETLINK_ROUTE, what="netlink to the network devices' events", groups=_GROUP_LINK
        )

    def fileno(self) -> int:
        """Readable when something happened."""
        return self._netlink.fileno()

    def close(self) -> None:
        self._netlink.close()

    def read(self) -> tuple[LinkEvent, ...]:
        """All that has happened since the last time.

        Raises EventsLost: some of it is not known; what comes afterwards is.  ControlFailed.
        """
        events: list[LinkEvent] = []
        while datagram := self._netlink.heard():
            for reply in replies(datagram):
                if reply.kind in (_NEWLINK, _DELLINK) and len(reply.payload) >= _IFINFO.size:
                    events.append(_event(reply.payload, gone=reply.kind == _DELLINK))
        return tuple(events)

    def wait(self, seconds: float) -> tuple[LinkEvent, ...]:
        """As read, but waits for the first that long.  () = nothing happened."""
        deadline = time.monotonic() + seconds
        while not (events := self.read()) and time.monotonic() < deadline:
            self._netlink.wait(deadline - time.monotonic())
        return events


def _event(payload: bytes, *, gone: bool) -> LinkEvent:
    fields = dict(attributes(payload[_IFINFO.size :]))
    moved_to = fields.get(_NEW_NETNSID, b"")
    return LinkEvent(
        link=_link(payload),
        gone=gone and not _family(payload),
        moved_to=_signed(moved_to) if gone and len(moved_to) == 4 else None,
        moved_index=_number(fields.get(_NEW_IFINDEX, b"")),
        announce=_number(fields.get(_EVENT, b"")) == _EVENT_NOTIFY_PEERS,
    )


def _family(payload: bytes) -> int:
    # a bridge tells of the port that has left it with the family AF_BRIDGE: the device is still there
    family: int = _IFINFO.unpack_from(payload)[0]
    return family


def _link(payload: bytes) -> Link:
    _, _, index, flags, _ = _IFINFO.unpack_from(payload)
    fields = dict(attributes(payload[_IFINFO.size :]))
    bus, parent = _text(fields.get(_PARENT_DEV_BUS_NAME, b"")), _text(fields.get(_PARENT_DEV_NAME, b""))
    return Link(
        index=index,
        name=_text(fields.get(_IFNAME, b"")),
        kind=_text(dict(attributes(fields.get(_LINKINFO, b""))).get(_INFO_KIND, b"")),
        master=_number(fields.get(_MASTER, b"")),
        lower=_number(fields.get(_LINK, b"")),
        elsewhere=_LINK_NETNSID in fields,
        bus=f"{bus}/{parent}" if bus or parent else "",
        loopback=bool(flags & _IFF_LOOPBACK),
        up=bool(flags & _IFF_UP),
        running=fields.get(_OPERSTATE, b"") == bytes([_OPERSTATE_UP]),
        altnames=tuple(
            _text(value) for kind, value in attributes(fields.get(_PROP_LIST, b"")) if kind == _ALT_IFNAME
        ),
        xdp=tuple(
            sorted(
                {_number(value) for kind, value in attributes(fields.get(_XDP, b"")) if kind in _XDP_PROGRAMS}
            )
        ),
    )


def _text(value: bytes) -> str:
    # a device's name is any bytes but / : and blanks
    return name(value)


def _number(value: bytes) -> int:
    number: int = _U32.unpack(value)[0] if len(value) == _U32.size else 0
    return number


def _signed(value: bytes) -> int:
    number: int = struct.unpack("=i", value)[0]
    return number


__all__ = ["EventsLost", "Filter", "LinkEvents", "Links"]
