# SPDX-License-Identifier: Apache-2.0
"""One writer at a time, also among processes."""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vmwarden.errors import FileAbsent, FileUnavailable

#: between two tries; what is done under the lock takes a few milliseconds
_PAUSE_S = 0.01


@contextmanager
def exclusive(path: Path, *, wait_s: float) -> Iterator[None]:
    """Hold the lock file at path; the kernel lets go of it when the process ends, however it ends.

    Raises FileAbsent if the folder is missing, FileUnavailable if it cannot be opened or somebody else
    holds it for longer than wait_s.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileAbsent(f"{path.parent}: no such folder") from error
    except OSError as error:
        raise FileUnavailable(f"{path}: cannot open it: {error.strerror}", mend="run as root") from error
    try:
        _acquire(descriptor, path, time.monotonic() + wait_s)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, until: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise FileUnavailable(f"{path}: cannot lock it: {error.strerror}") from error
            if time.monotonic() >= until:
                raise FileUnavailable(
                    f"{path}: somebody else is changing the state", mend="try again in a moment"
                ) from error
        time.sleep(_PAUSE_S)
