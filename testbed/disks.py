# SPDX-License-Identifier: Apache-2.0
"""Disk images: layers that lie over the base image, and empty disks that a guest may write to."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path

from testbed import commands

_BUILD_LIMIT = 300.0  # seconds; 400 MB takes 3


class FileSystem(StrEnum):
    """What `create_disk` can make."""

    EXT4 = "ext4"


def build_layer(tree: Path, out: Path) -> Path:
    """Pack the directory ``tree`` as a squashfs at ``out`` (replaced atomically) and return ``out``.

    In the guest ``tree`` is the root directory. Everything belongs to root:root; modes and times (to the
    second, so compiled Python stays valid) are kept, but for ``tree`` itself, which becomes 0755. Of a
    directory in several layers the topmost gives the mode. A character device 0/0 hides what lies below.
    """
    commands.require(["mksquashfs"])
    unfinished = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        commands.run(
            # lz4: quick to write here and quick to read under TCG
            [
                "mksquashfs",
                tree,
                unfinished,
                "-noappend",
                "-all-root",
                "-root-mode",
                "0755",
                "-comp",
                "lz4",
                "-no-progress",
                "-quiet",
            ],
            timeout=_BUILD_LIMIT,
        )
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)
    return out


def create_disk(path: Path, size: int, fs: FileSystem | None = None) -> Path:
    """Make a new sparse raw disk of ``size`` bytes at ``path``, formatted if asked, and return ``path``.

    Raises `FileExistsError` if there is something at ``path``. Writable disks for `MachineSpec.upper` need
    `FileSystem.EXT4`.
    """
    with path.open("xb") as file:
        file.truncate(size)
    if fs is FileSystem.EXT4:
        format_ext4(path)
    return path


def format_ext4(path: Path, tree: Path | None = None) -> None:
    """Make an ext4 in the file ``path``, with the content of ``tree`` (owners kept: run as root) if given."""
    commands.require(["mke2fs"])
    content: list[str | Path] = ["-d", tree] if tree else []
    # No journal: a guest that is killed loses seconds of changes either way, and mounting is quicker.
    options = ["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-E", "lazy_itable_init=0"]
    commands.run(["mke2fs", *options, *content, path], timeout=_BUILD_LIMIT)


def copy_sparse(source: Path, target: Path) -> Path:
    """Copy a disk without its holes (sharing blocks where the file system can) and return ``target``."""
    commands.run(["cp", "--sparse=always", "--reflink=auto", source, target], timeout=_BUILD_LIMIT)
    return target
