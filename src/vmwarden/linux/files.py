# SPDX-License-Identifier: Apache-2.0
"""Small files, read and written so that neither a crash nor a neighbour changes what they mean.

Folders on the way to a file may be symbolic links; the file itself may not.
"""

import errno
import os
import stat
from pathlib import Path

from vmwarden.errors import FileAbsent, FileUnavailable, Malformed, TooLarge

_CHUNK = 65536


def read_bounded(path: Path, limit: int, *, private: bool = False) -> bytes:
    """The whole of a regular file of at most limit bytes.

    private: demand what owned_privately demands, of the very file that is read.

    Raises FileAbsent if nothing stands there (or a folder on the way is missing); FileUnavailable if
    it cannot be opened or read; Malformed if it is not a regular file, is a symbolic link, or is not
    private; TooLarge beyond limit.  Never waits on a pipe or a device.
    """
    descriptor = _open_regular(path)
    try:
        if private:
            _demand_private(path, os.fstat(descriptor), secret=False)
        parts: list[bytes] = []
        size = 0
        while size <= limit:
            part = os.read(descriptor, min(_CHUNK, limit + 1 - size))
            if not part:
                return b"".join(parts)
            parts.append(part)
            size += len(part)
    except OSError as error:
        raise _unavailable(path, "read", error) from error
    finally:
        os.close(descriptor)
    raise TooLarge(f"{path}: more than {limit} bytes")


def write_atomically(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace the file by one with these bytes and exactly this mode, on disk when this returns.

    A reader, and a machine that lost power, sees the old bytes or the new, nothing between.  A symbolic
    link at path is replaced, never followed.  Raises FileAbsent if the folder is missing, FileUnavailable
    for every other refusal (a folder at path, a full or read-only disk); the old file is then as it was.
    """
    temporary = f".{path.name}.{os.urandom(8).hex()}.new"
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise FileAbsent(f"{path.parent}: no such folder") from error
    except OSError as error:
        raise _unavailable(path, "write", error) from error
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o600, dir_fd=folder)
        try:
            _write_whole(descriptor, data, mode)
            os.replace(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError:
            os.unlink(temporary, dir_fd=folder)
            raise
        os.fsync(folder)
    except OSError as error:
        raise _unavailable(path, "write", error) from error
    finally:
        os.close(folder)


def owned_privately(path: Path, *, secret: bool = False) -> None:
    """Return if only this user and root can change the regular file at path; raise otherwise.

    Checked: it belongs to this process' user or to root and nobody else may write it, and so for its
    folder (a sticky folder is accepted: nobody else can replace our file in it).
    secret: nobody else may read it either.

    Raises FileAbsent, FileUnavailable, Malformed (with the mend).
    """
    descriptor = _open_regular(path)
    try:
        _demand_private(path, os.fstat(descriptor), secret=secret)
    except OSError as error:
        raise _unavailable(path, "inspect", error) from error
    finally:
        os.close(descriptor)


def _open_regular(path: Path) -> int:
    # O_NONBLOCK: opening a FIFO nobody writes to would wait for ever; it has no effect on regular files.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileAbsent(f"{path}: not there") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Malformed(f"{path}: is a symbolic link", mend="put the file itself there") from error
        if error.errno == errno.ENXIO:
            raise Malformed(f"{path}: is not a regular file") from error
        raise _unavailable(path, "open", error) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Malformed(f"{path}: is not a regular file")
    return descriptor


def _demand_private(path: Path, file: os.stat_result, *, secret: bool) -> None:
    ours = {0, os.geteuid()}
    if file.st_uid not in ours:
        raise Malformed(f"{path}: belongs to user {file.st_uid}", mend=f"chown root {path}")
    if file.st_mode & 0o022:
        raise Malformed(f"{path}: others may write it", mend=f"chmod go-w {path}")
    if secret and file.st_mode & 0o044:
        raise Malformed(f"{path}: others may read it", mend=f"chmod go= {path}")
    folder = path.parent.stat()
    if folder.st_uid not in ours:
        raise Malformed(f"{path.parent}: belongs to user {folder.st_uid}", mend=f"chown root {path.parent}")
    if folder.st_mode & 0o022 and not folder.st_mode & stat.S_ISVTX:
        raise Malformed(f"{path.parent}: others may write it", mend=f"chmod go-w {path.parent}")


def _write_whole(descriptor: int, data: bytes, mode: int) -> None:
    """Write, set mode (the umask does not count), put on disk, close."""
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unavailable(path: Path, what: str, error: OSError) -> FileUnavailable:
    return FileUnavailable(f"{path}: cannot {what} it: {error.strerror}")
