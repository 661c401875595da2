# SPDX-License-Identifier: Apache-2.0
"""QEMU's command line for a `MachineSpec`. Pure, but for the files that fw_cfg bytes are written to."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from testbed.failures import BedError
from testbed.spec import (
    MAC_PREFIX,
    Disk,
    IsolatedNetwork,
    MachineSpec,
    Network,
    Port,
    PortMode,
    Smbios,
    TapNetwork,
    UserNetwork,
)

QEMU = "qemu-system-x86_64"
AGENT_PORT = "org.vmwarden.testbed"
AGENT_SOCKET = "agent"  # names of sockets and files in the machine's own directory
QMP_SOCKET = "qmp"
CONSOLE_SOCKET = "console"
CONSOLE_LOG = "console.log"

_FIRST_MAC = 0x56
_SOCKET_PATH_LIMIT = 107  # sun_path holds 108 bytes with its end mark: unix(7)
_SERIAL_LIMIT = 20  # VIRTIO_BLK_ID_BYTES
_TRANSLATION_CACHE_MIB = 128
# Together they halve a boot under TCG: no self tests, no calibration, no mitigations that emulation makes
# dear. panic=-1 with -no-reboot: a guest that panics ends QEMU instead of hanging until a limit.
_KERNEL_WORDS = (
    "console=ttyS0",
    "quiet",
    "panic=-1",
    "nokaslr",
    "cryptomgr.notests",
    "tsc=reliable",
    "no_timer_check",
    "mitigations=off",
    "random.trust_cpu=on",
    "net.ifnames=0",
    "systemd.getty_auto=no",
    "systemd.show_status=no",
    "fsck.mode=skip",
)


def command_line(spec: MachineSpec, directory: Path) -> list[str]:
    """The words to run, QEMU's first or ``ip netns exec``; sockets and logs lie in ``directory``."""
    _check(spec)
    image = spec.image
    words = [
        *_in_namespace(spec.networks),
        # QEMU dies with the thread that started it: see testbed.machine.
        *("setpriv", "--pdeathsig", "KILL", "--"),
        *(QEMU, "-nodefaults", "-no-user-config", "-display", "none"),
        *("-machine", "q35"),
        *_acceleration(spec.instruction_ns),
        *("-smp", "1", "-m", str(spec.memory_mib)),
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", _kernel_line(spec)),
        "-no-reboot",
        *("-qmp", f"unix:{_socket(directory / QMP_SOCKET)},server=on,wait=off"),
        *_console(directory),
    ]
    disks = [
        Disk(image.root, "root", readonly=True),
        *(Disk(path, f"layer{number}", readonly=True) for number, path in enumerate(spec.layers)),
        *((Disk(spec.upper, "upper", throwaway=spec.upper_throwaway),) if spec.upper else ()),
        *spec.disks,
    ]
    for number, disk in enumerate(disks):
        words += _disk(number, disk)
    words += ["-device", "virtio-serial-pci"]
    for number, port in enumerate([Port(AGENT_PORT, directory / AGENT_SOCKET), *spec.ports]):
        words += _port(number, port)
    for number, network in enumerate(spec.networks):
        words += _network(number, network)
    words += ["-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng"]
    words += _fw_cfg(spec.fw_cfg, directory)
    words += _smbios(spec.smbios)
    if spec.uuid:
        words += ["-uuid", str(spec.uuid)]
    if spec.vmgenid:
        words += ["-device", f"vmgenid,guid={spec.vmgenid}"]
    if spec.rtc_base:
        words += ["-rtc", f"base={spec.rtc_base}"]
    if spec.incoming is not None:
        source = spec.incoming
        uri = source if isinstance(source, str) else f"exec:cat {shlex.quote(str(source))}"
        words += ["-incoming", uri]
    return words


def _check(spec: MachineSpec) -> None:
    if spec.instruction_ns is not None and spec.instruction_ns.bit_count() != 1:
        raise BedError(f"{spec.instruction_ns} ns an instruction; mend: a power of two")
    for disk in spec.disks:
        if (
            len(disk.serial) > _SERIAL_LIMIT
            or disk.serial in ("root", "upper")
            or disk.serial.startswith("layer")
        ):
            raise BedError(f"disk serial {disk.serial!r} is too long or taken; mend: another name")
    for name in spec.fw_cfg:
        if not name.startswith("opt/"):
            raise BedError(f"fw_cfg name {name!r} must begin with opt/: the rest of the names is QEMU's")
    for path in (*spec.layers, *(disk.path for disk in spec.disks), *((spec.upper,) if spec.upper else ())):
        if not path.exists():
            raise BedError(f"there is no disk image {path}; mend: build_layer() or create_disk() first")


def _kernel_line(spec: MachineSpec) -> str:
    words = [*_KERNEL_WORDS, f"init={spec.init.value}", f"testbed.layers={len(spec.layers)}"]
    if spec.upper:
        words.append("testbed.upper=1")
    for number, network in enumerate(spec.networks):
        if network.address:
            gateway = f",{network.gateway}" if network.gateway else ""
            words.append(f"testbed.net=eth{number},{network.address}{gateway}")
    return " ".join([*words, *spec.cmdline])


def _acceleration(instruction_ns: int | None) -> list[str]:
    # Never KVM: where /dev/kvm opens in a cloud's VM, guests may hang. Nehalem has no AVX that would have
    # to be emulated; with AES added, dm-crypt is twice as fast (17 -> 35 MB/s).
    threads, counted = "multi", []
    if instruction_ns is not None:
        threads, counted = (
            "single",
            ["-icount", f"shift={instruction_ns.bit_length() - 1},sleep=on,align=off"],
        )
    return [
        *("-accel", f"tcg,thread={threads},tb-size={_TRANSLATION_CACHE_MIB}", "-cpu", "Nehalem,+aes"),
        *counted,
    ]


def _in_namespace(networks: tuple[Network, ...]) -> list[str]:
    namespaces = {network.netns for network in networks if isinstance(network, TapNetwork)}
    if len(namespaces) > 1:
        raise BedError(f"cards in several namespaces: {sorted(namespaces)}; QEMU can run in one only")
    return [word for name in namespaces for word in ("ip", "netns", "exec", name)]


def _console(directory: Path) -> list[str]:
    log = _value(directory / CONSOLE_LOG)
    where = f"path={_socket(directory / CONSOLE_SOCKET)},server=on,wait=off"
    return [
        *("-chardev", f"socket,id=console,{where},logfile={log},logappend=on"),
        *("-serial", "chardev:console"),
    ]


def _disk(number: int, disk: Disk) -> list[str]:
    # Unsafe means: the host's power may not fail. The guest's may.
    mode = "readonly=on" if disk.readonly else f"cache=unsafe,snapshot={'on' if disk.throwaway else 'off'}"
    return [
        *("-drive", f"if=none,id=disk{number},file={_value(disk.path)},format=raw,{mode}"),
        *("-device", f"virtio-blk-pci,drive=disk{number},serial={disk.serial}"),
    ]


def _port(number: int, port: Port) -> list[str]:
    how = "server=on,wait=off" if port.mode is PortMode.SERVER else "reconnect=1"
    return [
        *("-chardev", f"socket,id=port{number},path={_socket(port.path)},{how}"),
        *("-device", f"virtserialport,chardev=port{number},name={port.name},nr={number + 1}"),
    ]


def _network(number: int, network: Network) -> list[str]:
    mac = network.mac or f"{MAC_PREFIX}{_FIRST_MAC + number:02x}"
    if isinstance(network, UserNetwork):
        backend = _user_network(number, network)
    elif isinstance(network, IsolatedNetwork):
        backend = f"hubport,id=net{number},hubid={number}"
    else:
        # vnet_hdr=off: the card then offers the guest what it does on any network; a snapshot fits all
        backend = f"tap,id=net{number},ifname={network.ifname},script=no,downscript=no,vnet_hdr=off"
    # romfile: no boot ROM to load and run
    return ["-netdev", backend, "-device", f"virtio-net-pci,netdev=net{number},mac={mac},romfile="]


def _user_network(number: int, network: UserNetwork) -> str:
    parts = [f"user,id=net{number},restrict=on,ipv6={'on' if network.ipv6 else 'off'}"]
    if network.net:
        parts.append(f"net={network.net}")
    if network.host:
        parts.append(f"host={network.host}")
    for forward in network.forwards:
        if not forward.host_address.startswith("127."):
            raise BedError(f"{forward.host_address} is not the host's loopback; mend: 127.0.0.1")
        parts.append(f"hostfwd=tcp:{forward.host_address}:{forward.host_port}-:{forward.guest_port}")
    for inner in network.guest_forwards:
        command = _value(inner.command)
        parts.append(f"guestfwd=tcp:{inner.address}:{inner.port}-cmd:{command}")
    return ",".join(parts)


def _fw_cfg(entries: Mapping[str, bytes | Path], directory: Path) -> list[str]:
    words: list[str] = []
    for number, (name, content) in enumerate(entries.items()):
        path = content if isinstance(content, Path) else directory / f"fw_cfg-{number}"
        if isinstance(content, bytes):
            path.write_bytes(content)
        words += ["-fw_cfg", f"name={_value(name)},file={_value(path)}"]
    return words


def _smbios(smbios: Smbios) -> list[str]:
    words: list[str] = []
    for kind, fields in ((0, smbios.bios), (1, smbios.system), (2, smbios.board), (3, smbios.chassis)):
        if fields:
            words += ["-smbios", ",".join([f"type={kind}", *(f"{k}={_value(v)}" for k, v in fields.items())])]
    if smbios.oem_strings:
        values = [f"value={_value(text)}" for text in smbios.oem_strings]
        words += ["-smbios", ",".join(["type=11", *values])]
    return words


def _socket(path: Path) -> str:
    if len(str(path).encode()) > _SOCKET_PATH_LIMIT:
        raise BedError(
            f"too long for a unix socket ({_SOCKET_PATH_LIMIT} bytes): {path}; mend: a shorter directory"
        )
    return _value(path)


def _value(text: str | Path) -> str:
    """Quoted for an option of QEMU's, where a comma ends a value unless doubled."""
    return str(text).replace(",", ",,")
