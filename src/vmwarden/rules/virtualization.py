# SPDX-License-Identifier: Apache-2.0
"""Which hypervisor runs this VM, without asking the CPU.

Values are those of systemd-detect-virt where it has one: kvm, qemu (emulated, TCG), vmware, microsoft, xen,
amazon, google, oracle (VirtualBox), parallels, bhyve, apple, bochs; vm-other, none.
"""

from typing import NamedTuple

import msgspec

NONE = "none"
OTHER = "vm-other"


class Traces(msgspec.Struct, frozen=True, kw_only=True):
    """What the local files say; "" = absent or unreadable.

    clocksources: /sys/devices/system/clocksource/clocksource0/available_clocksource.
    cpuinfo: /proc/cpuinfo.  device_tree: /proc/device-tree/hypervisor/compatible.
    """

    xen_type: str = ""
    sys_vendor: str = ""
    product_name: str = ""
    board_vendor: str = ""
    bios_vendor: str = ""
    clocksources: str = ""
    cpuinfo: str = ""
    device_tree: str = ""
    fw_cfg: bool = False


class Detected(NamedTuple):
    """hypervisor: "" where the files do not tell.  because: what decided."""

    hypervisor: str
    because: str


#: start of a DMI string, and what it names even where KVM does the work (systemd, src/basic/virt.c)
_OWN_NAME = (
    ("Amazon EC2", "amazon"),
    ("Google Compute Engine", "google"),
    ("innotek GmbH", "oracle"),
    ("VirtualBox", "oracle"),
    ("Parallels", "parallels"),
    ("VMware", "vmware"),
    ("VMW", "vmware"),
    ("BHYVE", "bhyve"),
    ("Apple Virtualization", "apple"),
    ("Bochs", "bochs"),
    ("Xen", "xen"),
    ("Hyper-V", "microsoft"),
)
#: DMI strings of machines made by QEMU; whether KVM or TCG runs them is told elsewhere
_QEMU_NAMES = ("QEMU", "OpenStack", "KubeVirt", "Red Hat")


def detect(traces: Traces) -> Detected:
    """The first trace that decides; docs/reference/sources/virtualization.md has the order and its limits."""
    dmi = (traces.product_name, traces.sys_vendor, traces.board_vendor, traces.bios_vendor)
    if traces.xen_type == "xen":
        return Detected("xen", "/sys/hypervisor/type")
    for start, hypervisor in _OWN_NAME:
        if any(text.startswith(start) for text in dmi):
            return Detected(hypervisor, f"DMI names {start!r}")
    if traces.sys_vendor == "Microsoft Corporation" and traces.product_name == "Virtual Machine":
        return Detected("microsoft", "DMI names Microsoft's virtual machine")
    clocks = traces.clocksources.split()
    if "kvm-clock" in clocks:
        return Detected("kvm", "the clock source kvm-clock is offered")
    if any(clock.startswith("hyperv_clocksource") for clock in clocks):
        return Detected("microsoft", "a Hyper-V clock source is offered")
    if any(text.startswith("KVM") for text in dmi):
        return Detected("kvm", "DMI names 'KVM'")
    for word, hypervisor in (("linux,kvm", "kvm"), ("xen", "xen"), ("vmware", "vmware")):
        if word in traces.device_tree:
            return Detected(hypervisor, f"the device tree names {word!r}")
    if "QEMU TCG CPU" in traces.cpuinfo:
        return Detected("qemu", "/proc/cpuinfo names QEMU's emulated CPU")
    if traces.fw_cfg or any(text.startswith(_QEMU_NAMES) for text in dmi):
        return Detected("qemu", "made by QEMU, without a trace of KVM")
    return _by_flag(traces.cpuinfo)


def _by_flag(cpuinfo: str) -> Detected:
    for line in cpuinfo.splitlines():
        if line.startswith("flags"):
            if "hypervisor" in line.split():
                return Detected(OTHER, "/proc/cpuinfo has the flag hypervisor")
            return Detected(NONE, "/proc/cpuinfo has no flag hypervisor")
    return Detected("", "no local file tells")
