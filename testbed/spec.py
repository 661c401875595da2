# SPDX-License-Identifier: Apache-2.0
"""What a machine is made of: the nouns from which `testbed.qemu_arguments` makes a command line.

A machine that is restored (`MachineSpec.incoming`) must have the same memory, disks, ports, cards and
vmgenid device as the saved one, in the same order. Free to differ are paths, what the ports lead to,
forwards, fw_cfg, smbios, uuid and the vmgenid value. Of these the guest sees smbios and uuid only after a
reboot, and new or longer fw_cfg files after qemu_fw_cfg was loaded again. What was saved on an
`IsolatedNetwork` can be restored on any network; what was saved on a `UserNetwork` holds that network's
state and fits on such a one only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from uuid import UUID

from testbed.image import Image

MAC_PREFIX = "52:54:00:12:34:"  # QEMU's own block; the last byte counts the cards from 0x56
# Addresses of QEMU's user network: docs "Network emulation", net=10.0.2.0/24.
USER_GUEST = "10.0.2.15/24"
USER_GATEWAY = "10.0.2.2"


class Init(Enum):
    """What runs as process 1 in the guest; the value is its path."""

    RPC = "/usr/lib/testbed/rpc-init.sh"
    """A shell that starts the agent and nothing else: up in some 6 s."""
    SYSTEMD = "/sbin/init"
    """Debian's systemd up to multi-user.target, with sshd."""


@dataclass(frozen=True)
class Disk:
    """A raw disk image. The guest finds it as /dev/disk/by-id/virtio-SERIAL, or in /sys/block/vd*/serial."""

    path: Path
    serial: str
    """At most 20 characters; ``root``, ``upper`` and ``layerN`` are taken."""
    readonly: bool = False
    throwaway: bool = False
    """Writes go to a temporary file of QEMU's and are gone with the machine."""


class PortMode(Enum):
    """Who listens on a port's socket on the host's side."""

    SERVER = "server"
    """QEMU listens and goes on without a client."""
    CONNECT = "connect"
    """QEMU connects, and tries again every second, to somebody who listens."""


@dataclass(frozen=True)
class Port:
    """A virtio serial port, /dev/virtio-ports/NAME in the systemd guest, over a unix socket on the host."""

    name: str
    path: Path
    """At most 107 bytes long, which is what a unix socket's address takes."""
    mode: PortMode = PortMode.SERVER


@dataclass(frozen=True)
class Forward:
    """A port of the host's loopback that leads to one of the guest (``hostfwd``), TCP."""

    host_port: int
    guest_port: int
    host_address: str = "127.0.0.1"


@dataclass(frozen=True)
class GuestForward:
    """An address in the guest's network behind which a program of the host answers each connection."""

    address: str
    """Must lie inside the network's ``net``."""
    port: int
    command: str
    """Program and arguments, started for each connection, which is its standard input and output."""


@dataclass(frozen=True)
class UserNetwork:
    """QEMU's user network, always restricted: no packet leaves it but through the forwards."""

    forwards: tuple[Forward, ...] = ()
    guest_forwards: tuple[GuestForward, ...] = ()
    net: str | None = None
    """Another network than 10.0.2.0/24, for example ``169.254.169.0/24``."""
    host: str | None = None
    """QEMU's own address in it."""
    address: str | None = USER_GUEST
    """What the guest gives its card at boot; None: nothing."""
    gateway: str | None = USER_GATEWAY
    ipv6: bool = False
    mac: str | None = None


@dataclass(frozen=True)
class TapNetwork:
    """A tap device that the test made, in a network namespace that the test made."""

    ifname: str
    netns: str
    """Name as in ``ip netns``; QEMU itself runs in it, so all cards of a machine must name the same."""
    address: str | None = None
    gateway: str | None = None
    mac: str | None = None


@dataclass(frozen=True)
class IsolatedNetwork:
    """A card with carrier whose cable leads nowhere."""

    address: str | None = None
    gateway: str | None = None
    mac: str | None = None


Network = UserNetwork | TapNetwork | IsolatedNetwork


@dataclass(frozen=True)
class Smbios:
    """What the host says of itself in the firmware tables; keys as in QEMU's ``-smbios``."""

    bios: Mapping[str, str] = field(default_factory=dict)
    """Type 0: vendor, version, date, release."""
    system: Mapping[str, str] = field(default_factory=dict)
    """Type 1: manufacturer, product, version, serial, sku, family."""
    board: Mapping[str, str] = field(default_factory=dict)
    """Type 2: manufacturer, product, version, serial, asset, location."""
    chassis: Mapping[str, str] = field(default_factory=dict)
    """Type 3: manufacturer, version, serial, asset, sku."""
    oem_strings: tuple[str, ...] = ()
    """Type 11."""


@dataclass(frozen=True)
class MachineSpec:
    """One virtual machine."""

    image: Image
    init: Init = Init.RPC
    memory_mib: int = 256
    """The systemd guest wants 512."""
    layers: tuple[Path, ...] = ()
    """Read-only squashfs or ext4 images over the base, the last one topmost."""
    upper: Path | None = None
    """Writable ext4 disk that keeps the guest's changes; None: they go to memory."""
    upper_throwaway: bool = False
    disks: tuple[Disk, ...] = ()
    ports: tuple[Port, ...] = ()
    networks: tuple[Network, ...] = ()
    """One virtio card each, eth0 first; empty: no card at all."""
    fw_cfg: Mapping[str, bytes | Path] = field(default_factory=dict)
    """Name (must begin with ``opt/``) to content, or to a file with it."""
    smbios: Smbios = Smbios()
    uuid: UUID | None = None
    rtc_base: str | None = None
    """The clock at start, UTC: ``2035-01-01T00:00:00``; None: the host's. Ignored in a restored machine."""
    vmgenid: UUID | None = None
    """None: no such device."""
    cmdline: tuple[str, ...] = ()
    """More words for the kernel, for example ``systemd.unit=rescue.target``."""
    incoming: Path | str | None = None
    """A file that `Machine.save` wrote, or a migration URI of QEMU's (``unix:/path``, ``defer``)."""
    instruction_ns: int | None = None
    """So long takes each instruction, by the guest's own clock; a power of two. Then the guest does not
    notice what else its host has to do; its time may go faster or slower than the host's. None: as the
    host's does."""
    lifetime: float = 900.0
    """Seconds after which the machine is killed, whatever happens."""
