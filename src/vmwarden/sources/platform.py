# SPDX-License-Identifier: Apache-2.0
"""Which platform this is: the files behind rules.platform."""

from vmwarden.errors import Malformed, SourceUnavailable
from vmwarden.model.evidence import Evidence, Subject
from vmwarden.model.moment import Moment
from vmwarden.ports.tree import Tree
from vmwarden.rules import claim, platform

_DMI = "/sys/class/dmi/id"
_PORTS = "/sys/class/virtio-ports"
_LIMIT = 4096
#: a VM has a handful of ports
_PORT_COUNT = 32
#: mode 0400
ROOT_ONLY = (f"{_DMI}/product_serial", f"{_DMI}/product_uuid")


class Platform:
    """Identification only: says nothing of where the platform runs this VM."""

    name = "platform"
    live_only = False

    def read(self, tree: Tree, now: Moment) -> tuple[Evidence, ...]:
        found = identify(tree)
        if found.platform == platform.UNKNOWN:
            return (claim.unavailable(self.name, Subject.PLATFORM, found.because, now, boot_frozen=True),)
        return (claim.declared(self.name, Subject.PLATFORM, found.platform, now, boot_frozen=True),)

    def statements(self, tree: Tree) -> tuple[str, ...]:
        return ()


def identify(tree: Tree) -> platform.Identified:
    """The platform and the reason.  Total: what cannot be read counts as absent."""
    return platform.identify(
        platform.Signs(
            sys_vendor=_text(tree, f"{_DMI}/sys_vendor"),
            product_name=_text(tree, f"{_DMI}/product_name"),
            product_serial=_text(tree, f"{_DMI}/product_serial"),
            product_uuid=_text(tree, f"{_DMI}/product_uuid"),
            chassis_asset_tag=_text(tree, f"{_DMI}/chassis_asset_tag"),
            board_asset_tag=_text(tree, f"{_DMI}/board_asset_tag"),
            bios_vendor=_text(tree, f"{_DMI}/bios_vendor"),
            bios_version=_text(tree, f"{_DMI}/bios_version"),
            cmdline=_bytes(tree, "/proc/cmdline").decode("utf-8", "replace"),
            xen_type=_text(tree, "/sys/hypervisor/type"),
            xen_uuid=_text(tree, "/sys/hypervisor/uuid"),
            ports=_ports(tree),
            fw_cfg=_there(tree, "/sys/firmware/qemu_fw_cfg/rev"),
            vultr_file=_there(tree, "/etc/vultr"),
        )
    )


def _bytes(tree: Tree, path: str) -> bytes:
    try:
        return tree.read(path, _LIMIT)
    except SourceUnavailable:
        return b""


def _text(tree: Tree, path: str) -> str:
    try:
        return claim.printable(_bytes(tree, path), path)
    except Malformed:
        return ""


def _there(tree: Tree, path: str) -> bool:
    try:
        tree.read(path, _LIMIT)
    except SourceUnavailable:
        return False
    return True


def _ports(tree: Tree) -> tuple[str, ...]:
    try:
        ports = tree.list(_PORTS)
    except SourceUnavailable:
        return ()
    return tuple(_text(tree, f"{_PORTS}/{port}/name") for port in ports[:_PORT_COUNT])
