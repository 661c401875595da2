# SPDX-License-Identifier: Apache-2.0
"""Every source, one line each; a new source is not asked before it stands here."""

from vmwarden.ports.source import Source
from vmwarden.sources import dmi, fw_cfg, platform, smbios
from vmwarden.sources.clock import Clock
from vmwarden.sources.rtc import Rtc
from vmwarden.sources.time_zone import TimeZone
from vmwarden.sources.virtualization import Virtualization

SOURCES: tuple[Source, ...] = (
    platform.Platform(),
    Virtualization(),
    dmi.Dmi(),
    smbios.Smbios(),
    fw_cfg.FwCfg(),
    Clock(),
    TimeZone(),
    Rtc(),
)

#: what only root may open: FileTree.keep these before privileges are dropped
ROOT_ONLY: tuple[str, ...] = tuple(
    dict.fromkeys((*platform.ROOT_ONLY, *dmi.ROOT_ONLY, *smbios.ROOT_ONLY, *fw_cfg.ROOT_ONLY))
)

#: below this lies all that any source reads, and the names of channels; the watcher can open nothing else
#: (watcher.start).  /proc/device-tree points into /sys/firmware.
READ: tuple[str, ...] = (
    "/sys/class",
    "/sys/devices",
    "/sys/firmware",
    "/sys/hypervisor",
    "/proc/cmdline",
    "/proc/cpuinfo",
    "/etc/timezone",
    "/etc/vultr",
)

#: what identifies this one VM: a recording that holds it says so
IDENTIFYING: tuple[str, ...] = (*dmi.ROOT_ONLY, *smbios.ROOT_ONLY)
