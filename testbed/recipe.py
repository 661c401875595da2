# SPDX-License-Identifier: Apache-2.0
"""What goes into an image: the one place to change, and its fingerprint, which names the cache directory."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

BAKED = Path(__file__).parent / "baked"

# Count up when the code that builds changes what it builds; files and lists are in the fingerprint anyhow.
RECIPE_VERSION = 1
FINGERPRINT_DIGITS = 16


class Kernel(StrEnum):
    """Flavour of Debian's kernel."""

    CLOUD = "cloud"
    GENERIC = "generic"

    @property
    def package(self) -> str:
        """The package that depends on the newest one of this flavour."""
        return "linux-image-amd64" if self is Kernel.GENERIC else f"linux-image-{self}-amd64"


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what an image holds."""

    suite: str = "bookworm"
    kernel: Kernel = Kernel.CLOUD
    packages: tuple[str, ...] = (
        "cryptsetup-bin",
        "dbus",
        "e2fsprogs",
        "iproute2",
        "kmod",
        "nftables",
        "openssh-server",
        "procps",
        "python3",
        "systemd",
        "systemd-sysv",
        "tzdata",
        "udev",
    )
    # Never unpacked: nobody reads a manual in a test.
    excluded_paths: tuple[str, ...] = (
        "/usr/share/doc/*",
        "/usr/share/info/*",
        "/usr/share/lintian/*",
        "/usr/share/locale/*",
        "/usr/share/man/*",
    )
    # Loaded by the initial RAM disk, in both guests: the disks, the agent's port, the network card (so that
    # it exists before anything that must come before it is configured), and fw_cfg, which no hot-plug event
    # of the trimmed udev below would load.
    early_modules: tuple[str, ...] = (
        "virtio_pci",
        "virtio_blk",
        "crc32c_generic",  # ext4 asks for it by what it does, which no table of modules tells
        "ext4",
        "squashfs",
        "overlay",
        "virtio_console",
        "virtio_net",
        "virtio_rng",
        "qemu_fw_cfg",
    )
    # Loaded by the fast guest before it is saved, so that no restored test pays for it.
    fast_modules: tuple[str, ...] = (
        "nf_tables",
        "nfnetlink",
        "nf_conntrack",
        "nft_ct",
        "nft_limit",
        "nft_reject_inet",
        "nft_reject_netdev",
        "nft_fib_inet",
        "nft_fib_netdev",
        "nft_log",
        "nf_log_syslog",
        "nft_quota",
        "nft_chain_nat",
        "nft_dup_netdev",
        "nf_conntrack_netlink",
        "dm-crypt",
        "aesni-intel",
        "xts",
        "cbc",
        "essiv",
        "sha256_generic",
        "algif_skcipher",
        "algif_hash",
        "af_packet_diag",
        "tcp_diag",
        "udp_diag",
        "inet_diag",
        "veth",
        "dummy",
        "bridge",
        "bonding",
        "macvlan",
        "8021q",
        "sch_ingress",
        "cls_u32",
        "act_mirred",
        "tun",
        "loop",
    )
    # Not loaded by udev: hardware of the board that no test looks at.
    blocked_modules: tuple[str, ...] = (
        "i2c_i801",
        "lpc_ich",
        "iTCO_wdt",
        "pcspkr",
        "psmouse",
        "serio_raw",
        "evdev",
    )
    # Units that cost the systemd guest seconds under TCG and that no test looks at.
    masked_units: tuple[str, ...] = (
        "apt-daily-upgrade.timer",
        "apt-daily.timer",
        "dpkg-db-backup.timer",
        "e2scrub_all.timer",
        "e2scrub_reap.service",
        "fstrim.timer",
        "getty@tty1.service",
        "kmod-static-nodes.service",
        "ldconfig.service",
        "modprobe@configfs.service",
        "modprobe@drm.service",
        "modprobe@efi_pstore.service",
        "modprobe@fuse.service",
        "systemd-binfmt.service",
        "systemd-firstboot.service",
        "systemd-hwdb-update.service",
        "systemd-journal-catalog-update.service",
        "systemd-journal-flush.service",
        "systemd-logind.service",
        "systemd-machine-id-commit.service",
        "systemd-pcrphase-sysinit.service",
        "systemd-pcrphase.service",
        "systemd-pstore.service",
        "systemd-random-seed.service",
        "systemd-remount-fs.service",
        "systemd-update-done.service",
        "systemd-update-utmp-runlevel.service",
        "systemd-update-utmp.service",
        "systemd-user-sessions.service",
        "dev-hugepages.mount",
        "dev-mqueue.mount",
        "proc-sys-fs-binfmt_misc.automount",
        "sys-fs-fuse-connections.mount",
        "sys-kernel-config.mount",
        "sys-kernel-debug.mount",
        "sys-kernel-tracing.mount",
    )
    # Kinds of device whose events udev replays at boot; all others are left to come by themselves.
    coldplugged: tuple[str, ...] = ("block", "net", "misc", "virtio-ports", "rtc", "tty")

    def fingerprint(self) -> str:
        """Hexadecimal prefix of a SHA-256 over the lists, the version and the files baked in."""
        digest = hashlib.sha256()
        digest.update(json.dumps([RECIPE_VERSION, asdict(self)], sort_keys=True).encode())
        for path in sorted(BAKED.iterdir()):
            if path.is_file():
                content = path.read_bytes()
                digest.update(f"{path.name}\0{len(content)}\0".encode())
                digest.update(content)
        return digest.hexdigest()[:FINGERPRINT_DIGITS]
