# SPDX-License-Identifier: Apache-2.0
"""Folders that only root uses: made, and files removed from them, durably."""

import os
from pathlib import Path

from vmwarden.errors import FileUnavailable


def make_private(folder: Path) -> None:
    """Make folder with mode 0700, its parents with 0755; one that is there is left as it is.

    Raises FileUnavailable.
    """
    try:
        folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise FileUnavailable(f"{folder}: cannot make it: {error.strerror}", mend="run as root") from error


def remove(path: Path) -> bool:
    """Remove a file or symbolic link; gone from disk when this returns.  False if nothing was there.

    Raises FileUnavailable, also for a folder at path.
    """
    try:
        path.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise FileUnavailable(f"{path}: cannot remove it: {error.strerror}") from error
    _sync(path.parent)
    return True


def stands(path: Path) -> bool:
    """Whether anything is there, a broken symbolic link included.  Raises FileUnavailable if nobody can tell:
    a damaged file system must not look like an empty one."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise FileUnavailable(f"{path}: cannot look at it: {error.strerror}") from error
    return True


def files_in(folder: Path) -> tuple[Path, ...]:
    """Everything in folder that is no folder itself, sorted, links too.  Raises FileUnavailable."""
    try:
        return tuple(sorted(path for path in folder.iterdir() if path.is_symlink() or not path.is_dir()))
    except OSError as error:
        raise FileUnavailable(f"{folder}: cannot list it: {error.strerror}") from error


def _sync(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise FileUnavailable(f"{folder}: cannot put it on disk: {error.strerror}") from error
