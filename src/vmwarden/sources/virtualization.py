# SPDX-License-Identifier: Apache-2.0
"""Which hypervisor runs this VM: the files behind rules.virtualization."""

from vmwarden.errors import SourceUnavailable
from vmwarden.model.evidence import Evidence, Subject
from vmwarden.model.moment import Moment
from vmwarden.ports.tree import Tree
from vmwarden.rules import claim, virtualization

_DMI = "/sys/class/dmi/id"
_LIMIT = 4096
#: /proc/cpuinfo has about 1.5 kB a CPU, and every CPU says the same
_CPUINFO_LIMIT = 4 * 1024 * 1024


class Virtualization:
    """The hypervisor's name, as the files of this boot show it."""

    name = "virtualization"
    live_only = False

    def read(self, tree: Tree, now: Moment) -> tuple[Evidence, ...]:
        found = virtualization.detect(
            virtualization.Traces(
                xen_type=_text(tree, "/sys/hypervisor/type"),
                sys_vendor=_text(tree, f"{_DMI}/sys_vendor"),
                product_name=_text(tree, f"{_DMI}/product_name"),
                board_vendor=_text(tree, f"{_DMI}/board_vendor"),
                bios_vendor=_text(tree, f"{_DMI}/bios_vendor"),
                clocksources=_text(
                    tree, "/sys/devices/system/clocksource/clocksource0/available_clocksource"
                ),
                cpuinfo=_text(tree, "/proc/cpuinfo", _CPUINFO_LIMIT),
                device_tree=_text(tree, "/proc/device-tree/hypervisor/compatible"),
                fw_cfg=bool(_text(tree, "/sys/firmware/qemu_fw_cfg/rev")),
            )
        )
        if not found.hypervisor:
            piece = claim.unavailable(self.name, Subject.HYPERVISOR, found.because, now, boot_frozen=True)
        else:
            piece = claim.declared(self.name, Subject.HYPERVISOR, found.hypervisor, now, boot_frozen=True)
        return (piece,)

    def statements(self, tree: Tree) -> tuple[str, ...]:
        return ()


def _text(tree: Tree, path: str, limit: int = _LIMIT) -> str:
    try:
        return tree.read(path, limit).decode("utf-8", "replace").strip("\0\n ")
    except SourceUnavailable:
        return ""
