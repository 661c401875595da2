# SPDX-License-Identifier: Apache-2.0
"""Making the Debian tree that both guests boot from, and the kernel and initial RAM disk to go with it."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

from testbed import commands, kernel_modules
from testbed.cpio import Archive
from testbed.failures import BedError
from testbed.recipe import BAKED, Recipe

# A Debian mirror for sites that cannot reach the default one of mmdebstrap.
MIRROR_VARIABLE = "VMWARDEN_TESTBED_MIRROR"
_DEBOOTSTRAP_LIMIT = 900.0  # seconds; takes 55 on two quiet cores with a near mirror
_SMALL_LIMIT = 120.0
_KERNEL_DIRECTORY = "testbed-kernel"

# Runs inside mmdebstrap, which knows where packages come from. The kernel is unpacked, not installed: an
# installed one would bring initramfs-tools and half a minute of building an image that nobody boots.
_FETCH_KERNEL = f"""set -eu
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
package=$(apt-cache show --no-all-versions "$TESTBED_KERNEL" |
  sed -n 's/^Depends: \\(linux-image-[^ ,]*\\).*/\\1/p')
mkdir "$1/{_KERNEL_DIRECTORY}"
cd "$1/{_KERNEL_DIRECTORY}"
apt-get -o APT::Sandbox::User=root download "$package"
dpkg-deb -x ./*.deb .
rm ./*.deb
"""

_SSHD_CONFIG = """HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PrintMotd no
"""


def debootstrap(recipe: Recipe, tree: Path) -> None:
    """Fill ``tree`` with Debian and, in a directory of its own, the unpacked kernel package."""
    commands.require(["mmdebstrap", "apt-get", "dpkg-deb"])
    if os.geteuid() != 0:
        raise BedError(
            "building the image keeps owners of files, so it needs root; mend: sudo python3 -m testbed.image"
        )
    mirror = [word for word in (os.environ.get(MIRROR_VARIABLE),) if word]
    commands.run(
        [
            "mmdebstrap",
            "--mode=root",
            "--variant=minbase",
            "--format=directory",
            f"--include={','.join(recipe.packages)}",
            *(f"--dpkgopt=path-exclude={pattern}" for pattern in recipe.excluded_paths),
            f"--customize-hook={_FETCH_KERNEL}",
            recipe.suite,
            tree,
            *mirror,
        ],
        timeout=_DEBOOTSTRAP_LIMIT,
        env={"TESTBED_KERNEL": recipe.kernel.package},
    )


def take_kernel(tree: Path, out: Path) -> Path:
    """Copy the kernel to ``out``, move its modules to where the guest looks; return their directory."""
    unpacked = tree / _KERNEL_DIRECTORY
    kernels = sorted((unpacked / "boot").glob("vmlinuz-*"))
    if len(kernels) != 1:
        raise BedError(f"the kernel package holds {len(kernels)} kernels; one was expected")
    release = kernels[0].name.removeprefix("vmlinuz-")
    shutil.copyfile(kernels[0], out)
    modules = tree / "usr/lib/modules" / release
    modules.parent.mkdir(parents=True, exist_ok=True)
    (unpacked / "lib/modules" / release).rename(modules)
    shutil.rmtree(unpacked)
    commands.run(["chroot", tree, "depmod", release], timeout=_SMALL_LIMIT)
    return modules


def build_initrd(recipe: Recipe, modules: Path, out: Path) -> None:
    """Write the initial RAM disk: the host's static busybox, the early modules and one script."""
    busybox = shutil.which("busybox", path=commands.search_path())
    if busybox is None:
        raise BedError("not installed: busybox; mend: apt-get install busybox-static")
    archive = Archive()
    for name in ("bin", "lib", "proc", "sys", "dev", "base", "rw", "new"):
        archive.directory(name)
    archive.file("bin/busybox", Path(busybox).read_bytes(), 0o755)
    archive.file("init", (BAKED / "initrd-init.sh").read_bytes(), 0o755)
    order = kernel_modules.load_order(modules, recipe.early_modules)
    for path in order:
        archive.file(f"lib/{path.name}", (modules / path).read_bytes())
    archive.file("modules", "".join(f"{path.name}\n" for path in order).encode())
    out.write_bytes(archive.to_bytes())


def bake(recipe: Recipe, tree: Path) -> None:
    """Put the test bed's own files and settings into ``tree``."""
    own = tree / "usr/lib/testbed"
    own.mkdir()
    for name in ("guest_agent.py", "rpc-init.sh", "modules.sh", "network.sh"):
        shutil.copyfile(BAKED / name, own / name)
        (own / name).chmod(0o755)
    _write(own / "modules.list", "".join(f"{name}\n" for name in recipe.fast_modules))
    _write(tree / "etc/hostname", "testbed\n")
    _write(tree / "etc/hosts", "127.0.0.1 localhost testbed\n::1 localhost\n")
    _write(tree / "etc/resolv.conf", "")
    _write(tree / "etc/fstab", "")
    # Made here: systemd without one believes that this is the first boot and goes through all presets.
    _write(tree / "etc/machine-id", f"{uuid.uuid4().hex}\n")
    _write(
        tree / "etc/modprobe.d/testbed.conf",
        "".join(f"blacklist {name}\n" for name in recipe.blocked_modules),
    )
    _bake_root_login(tree)
    _bake_units(recipe, tree)


def compile_python(tree: Path) -> None:
    """Compile all Python of the guest, by the guest's own Python: under TCG an import without would crawl."""
    commands.run(
        [
            "chroot",
            tree,
            "/usr/bin/python3",
            "-m",
            "compileall",
            "-q",
            "-j2",
            "/usr/lib/python3",
            "/usr/lib/python3.11",
        ],
        timeout=_SMALL_LIMIT,
    )


def _bake_root_login(tree: Path) -> None:
    """Root without a password on the console, by key over ssh; one host key, made now."""
    shadow = tree / "etc/shadow"
    lines = shadow.read_text().splitlines()
    _write(
        shadow,
        "".join(
            "root::" + line.split(":", 2)[2] + "\n" if line.startswith("root:") else line + "\n"
            for line in lines
        ),
        0o640,
    )
    ssh = tree / "etc/ssh"
    for key in ssh.glob("ssh_host_*"):
        key.unlink()
    make_key = [
        "ssh-keygen",
        "-q",
        "-t",
        "ed25519",
        "-N",
        "",
        "-C",
        "testbed",
        "-f",
        "/etc/ssh/ssh_host_ed25519_key",
    ]
    commands.run(["chroot", tree, *make_key], timeout=_SMALL_LIMIT)
    _write(ssh / "sshd_config.d/testbed.conf", _SSHD_CONFIG)


def _bake_units(recipe: Recipe, tree: Path) -> None:
    system = tree / "etc/systemd/system"
    for name in recipe.masked_units:
        mask = system / name
        mask.unlink(missing_ok=True)
        mask.symlink_to("/dev/null")
    for name, wanted_by in (
        ("testbed-agent.service", ("sysinit.target.wants", "rescue.target.wants", "emergency.target.wants")),
        ("testbed-network.service", ("multi-user.target.wants", "network-online.target.requires")),
    ):
        shutil.copyfile(BAKED / name, system / name)
        for directory in wanted_by:
            (system / directory).mkdir(exist_ok=True)
            (system / directory / name).symlink_to(f"/etc/systemd/system/{name}")
    default = system / "default.target"
    default.unlink(missing_ok=True)
    default.symlink_to("/lib/systemd/system/multi-user.target")
    subsystems = " ".join(f"--subsystem-match={name}" for name in recipe.coldplugged)
    _write(
        system / "systemd-udev-trigger.service.d/testbed.conf",
        f"[Service]\nExecStart=\nExecStart=udevadm trigger --type=devices --action=add {subsystems}\n",
    )
    _write(
        tree / "etc/systemd/journald.conf.d/testbed.conf",
        "[Journal]\nStorage=volatile\nAudit=no\n",
    )


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # resolv.conf may be a link that leads out of the tree
    path.write_text(text)
    path.chmod(mode)
