# SPDX-License-Identifier: Apache-2.0
"""Writing the "newc" archive that a Linux kernel takes as its initial RAM disk.

Format: Documentation/driver-api/early-userspace/buffer-format.rst in the kernel's source. Written here
because it is forty lines and spares the host the program cpio.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field

_MAGIC = b"070701"
_ALIGN = 4
_TRAILER = "TRAILER!!!"


@dataclass
class Archive:
    """Collects files in memory. All belong to root and have time 0, so equal input gives equal bytes."""

    _parts: list[bytes] = field(default_factory=list)
    _next_inode: int = 1

    def directory(self, name: str) -> None:
        """Add an empty directory (parents first)."""
        self._add(name, stat.S_IFDIR | 0o755, b"")

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """Add a regular file; its directory must have been added before."""
        self._add(name, stat.S_IFREG | mode, data)

    def symlink(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def to_bytes(self) -> bytes:
        """The finished archive."""
        return b"".join([*self._parts, _entry(0, _TRAILER, 0, b"")])

    def _add(self, name: str, mode: int, data: bytes) -> None:
        self._parts.append(_entry(self._next_inode, name, mode, data))
        self._next_inode += 1


def _entry(inode: int, name: str, mode: int, data: bytes) -> bytes:
    raw_name = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    # ino, mode, uid, gid, nlink, mtime, size, dev major/minor, rdev major/minor, name size, checksum
    numbers = (inode, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(raw_name), 0)
    head = _MAGIC + b"".join(b"%08X" % number for number in numbers) + raw_name
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % _ALIGN)
