# SPDX-License-Identifier: Apache-2.0
"""Network devices as the kernel tells of them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Link:
    """One device of this network namespace.

    kind: the driver's word for what is made of software: bridge, vlan, veth, … ; "" for hardware.
    master: index of the bridge or bond that it is a port of; 0 = none.
    lower: index of the device that it stands on, or of a veth's other end; 0 = none.
    elsewhere: that one is in another namespace, where the index counts.
    bus: what the device hangs on, for example "virtio/virtio3" or "pci/0000:00:03.0"; "" = nothing.
    up: switched on.  running: it could carry packets now.
    xdp: ids of the XDP programs that see its packets before anybody else.
    altnames: other names that it has besides.
    """

    index: int
    name: str
    kind: str = ""
    master: int = 0
    lower: int = 0
    elsewhere: bool = False
    bus: str = ""
    loopback: bool = False
    up: bool = False
    running: bool = False
    xdp: tuple[int, ...] = ()
    altnames: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LinkEvent:
    """A device came, changed or went.

    gone: it left this namespace.  moved_to: the id of the namespace that it went to, where the kernel
    tells; None = it is no more, or not told.  moved_index: its index there, 0 = the same.
    announce: something asked every device above to tell its neighbours where it is now, as a VM does that
    was migrated (NOTIFY_PEERS).
    """

    link: Link
    gone: bool = False
    moved_to: int | None = None
    moved_index: int = 0
    announce: bool = False


@dataclass(frozen=True, slots=True)
class LinksHeard:
    """What happened to the devices.  lost: there was more, and it is not known what."""

    events: tuple[LinkEvent, ...] = ()
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Uplink:
    """A device through which packets leave and enter this VM.

    bus: as of a link.  above: names of the bridges, bonds, VLANs and the like that use it, nearest first.
    """

    index: int
    name: str
    bus: str = ""
    above: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GoneUplink:
    """An uplink that is in this namespace no more.

    namespace, index: where it is now, as far as the kernel told; None = not known.
    """

    uplink: Uplink
    namespace: int | None
    index: int
