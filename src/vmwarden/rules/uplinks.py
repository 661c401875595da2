# SPDX-License-Identifier: Apache-2.0
"""Which devices are uplinks: through which packets leave and enter this VM, whatever is built on them.

An uplink is hardware, or what the host shows as such.  The kernel tells hardware by two things: a device
that it hangs on (virtio, PCI, VMBus, Xen bus, USB, …), and no kind, since kinds belong to what is made of
software.  A device is an uplink when it

- hangs on a bus, also if it has a kind as well, or
- has no kind and is not loopback: an old driver that names no bus must not make a hole, or
- stands for hardware, as the caller says.

So bridges, bonds, VLANs, macvlans, tunnels, WireGuard and taps are none: their packets come through the
hardware below, and there they are judged.  All ports of a bond are uplinks, and both parts of a NIC that
has a virtual function beside it.  veth is none either: its other end is in this VM.  In a test namespace,
and where the warden guards a container instead of a VM, some veth is the way out, and only the caller can
know which.
"""

from collections.abc import Callable, Iterable

from vmwarden.model.link import Link, Uplink


def no_stand_in(_: Link) -> bool:
    """In a VM nothing that is made of software stands for hardware."""
    return False


def uplinks(links: Iterable[Link], *, stands_in: Callable[[Link], bool] = no_stand_in) -> tuple[Uplink, ...]:
    """By index.  stands_in: whether a device that is made of software counts as hardware."""
    known = {link.index: link for link in links}
    return tuple(
        Uplink(link.index, link.name, link.bus, _above(link, known))
        for _, link in sorted(known.items())
        if _is_hardware(link) or stands_in(link)
    )


def _is_hardware(link: Link) -> bool:
    return bool(link.bus) or not (link.kind or link.loopback)


def _above(link: Link, known: dict[int, Link]) -> tuple[str, ...]:
    """Walks up by masters and by what stands on a device; each device once."""
    found: list[str] = []
    waiting, seen = [link], {link.index}
    while waiting:
        below = waiting.pop(0)
        for each in known.values():
            stands_on_it = each.lower == below.index and not each.elsewhere and each.kind != "veth"
            if each.index not in seen and (stands_on_it or each.index == below.master):
                seen.add(each.index)
                found.append(each.name)
                waiting.append(each)
    return tuple(found)
