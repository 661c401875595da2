# SPDX-License-Identifier: Apache-2.0
"""Room for the last records.

A file of real blocks beside the journal.  When the disk is full it is given up, so that "the journal is
full" and the closings that follow can still be written.
"""

import os
from pathlib import Path

#: some sixty transactions of three or four pages each
RESERVE_BYTES = 1_048_576
#: what has to be free besides: the WAL grows to 1 MiB before it is used again, and others write too
FREE_BYTES = 2_097_152


def make(path: Path) -> bool:
    """Whether the reserve stands, made now if it has to be."""
    try:
        if path.lstat().st_size == RESERVE_BYTES:
            return True
        path.unlink()
    except FileNotFoundError:
        pass
    except OSError:
        return False
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        return False
    try:
        os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
    except OSError:
        release(path)
        return False
    finally:
        os.close(descriptor)
    return True


def release(path: Path) -> bool:
    """Give it up.  False if there was nothing to give."""
    try:
        path.unlink()
    except OSError:
        return False
    return True


def room(path: Path) -> bool:
    """Whether the reserve stands and there is room besides, on a disk that can be written."""
    try:
        if free(path.parent) < FREE_BYTES:
            return False
    except OSError:
        return False
    return make(path)


def free(folder: Path) -> int:
    """Bytes that can still be written there; 0 on a read-only file system.  Raises OSError."""
    disk = os.statvfs(folder)
    return 0 if disk.f_flag & os.ST_RDONLY else disk.f_bavail * disk.f_frsize
