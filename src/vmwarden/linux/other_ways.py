# SPDX-License-Identifier: Apache-2.0
"""What of this machine's devices carries data and is no network device that the gate could stand at, as /sys
tells.  For people: who has such a device in his VM should know it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from vmwarden.errors import ControlFailed
from vmwarden.linux import sockets_in_use
from vmwarden.linux.netlink import name

#: by number of the virtio specification, chapter 5
_VIRTIO = {"0x0003": "virtio console", "0x0009": "9p", "0x0013": "vsock", "0x001a": "virtiofs"}
_VIRTIO_NETWORK = "0x0001"
#: begins the class of a PCI device: a network controller
_PCI_NETWORK = "0x02"
#: of QEMU's ivshmem, (vendor, device)
_SHARED_MEMORY = ("0x1af4", "0x1110")
#: drivers that give a device to a program, or to a guest of this VM
_GIVEN_AWAY = frozenset(("vfio-pci", "uio_pci_generic", "igb_uio"))
#: its network device is its child, listed by itself
_VIRTIO_PCI = "virtio-pci"
#: of a serial port without hardware
_NO_PORT = "0"


def other_ways(
    system: Path = Path("/sys"), has_af_xdp: Callable[[], bool] = sockets_in_use.has_af_xdp
) -> tuple[str, ...]:
    """A few words each.  What cannot be read is left out, but for /sys as a whole: that is said."""
    if not (system / "class/net").is_dir():
        return (f"not known: {system} does not tell of devices",)
    return (
        *_af_xdp(has_af_xdp),
        *_virtio(system / "bus/virtio/devices"),
        *_pci(system / "bus/pci/devices"),
        *(f"RDMA {_name(each)}" for each in _listed(system / "class/infiniband")),
        *(
            f"serial line {_name(each)}"
            for each in _listed(system / "class/tty")
            if each.name.startswith("ttyS") and _word(each / "type") not in ("", _NO_PORT)
        ),
    )


def _af_xdp(there: Callable[[], bool]) -> Iterator[str]:
    try:
        if there():
            yield "AF_XDP sockets"
    except ControlFailed as error:
        yield f"not known: whether there is AF_XDP ({error})"


def _virtio(devices: Path) -> Iterator[str]:
    for each in _listed(devices):
        number = _word(each / "device")
        if number in _VIRTIO:
            yield f"{_VIRTIO[number]} {_name(each)}"
        elif number == _VIRTIO_NETWORK and _driver(each) and not _listed(each / "net"):
            yield _elsewhere(each)


def _pci(devices: Path) -> Iterator[str]:
    for each in _listed(devices):
        driver = _driver(each)
        if (_word(each / "vendor"), _word(each / "device")) == _SHARED_MEMORY:
            yield f"shared memory {_name(each)}"
        elif _word(each / "class").startswith(_PCI_NETWORK) and driver not in ("", _VIRTIO_PCI):
            if driver in _GIVEN_AWAY:
                yield f"network card {_name(each)}: {driver} gives it to a program or a nested guest"
            elif not _listed(each / "net"):
                yield _elsewhere(each)


def _elsewhere(device: Path) -> str:
    return f"network card {_name(device)}: it has no device in this network namespace"


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _name(device: Path) -> str:
    # root may rename some, to any bytes
    return name(os.fsencode(device.name))


def _word(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _driver(device: Path) -> str:
    try:
        return (device / "driver").readlink().name
    except OSError:
        return ""
