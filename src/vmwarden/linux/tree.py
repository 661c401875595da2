# SPDX-License-Identifier: Apache-2.0
"""Bounded reads below one root, confined by the kernel.

A recorded tree may come from a stranger: its links may point anywhere, its files may be pipes,
devices or endless.  openat2(RESOLVE_IN_ROOT) resolves every link inside the root; what is not a
regular file or a folder is never opened for reading (opening a watchdog device arms it).
"""

import ctypes
import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from vmwarden.errors import SourceUnavailable

# include/uapi/linux/openat2.h; the number is the same on every architecture since Linux 5.6
_SYS_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_IN_ROOT = 0x10
#: openat2 returns EAGAIN when a rename ran beside a ".."; a few tries settle it
_TRIES = 8
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
#: names read from one folder; sysfs classes that we list have far fewer
_NAMES = 4096
_CHUNK = 65536


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


class FileTree:
    """A ports.Tree over a real folder.

    root: the folder that stands for "/".  live: whether it is the running machine's own root.
    openat2: False leaves out the system call, as on a kernel without it; then symbolic links
    are refused altogether.
    Raises SourceUnavailable if root cannot be opened.
    """

    def __init__(self, root: Path, live: bool, *, openat2: bool = True) -> None:
        self._live = live
        self._openat2 = openat2
        self._kept: dict[str, int] = {}
        try:
            self._root = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise SourceUnavailable(f"{root}: {error.strerror}", mend="name a folder that exists") from error

    @property
    def live(self) -> bool:
        return self._live

    def __enter__(self) -> "FileTree":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close what is held open.  Closing twice is no error."""
        for fd in (*self._kept.values(), self._root):
            if fd >= 0:
                os.close(fd)
        self._kept.clear()
        self._root = -1

    def keep(self, paths: Iterable[str]) -> tuple[str, ...]:
        """Open these files now and read them through the same descriptor for ever.

        For files that only root may open: call it before privileges are dropped.  sysfs makes a
        file's content anew on each read from offset 0.  Returns those that could be opened.
        """
        for path in paths:
            if path in self._kept:
                continue
            try:
                self._kept[path] = self._open_file(path)
            except SourceUnavailable:
                continue  # read() will say why, each time it is asked
        return tuple(self._kept)

    def read(self, path: str, limit: int = 65536) -> bytes:
        """At most limit bytes.  Raises SourceUnavailable (absent, denied, not a regular file, too large)."""
        kept = self._kept.get(path)
        if kept is not None:
            try:
                return _read_bounded(kept, path, limit)
            except SourceUnavailable as error:
                if not isinstance(error.__cause__, OSError):
                    raise
                # The driver behind it went away and came back: the old descriptor is dead for good.
                os.close(self._kept.pop(path))
        fd = self._open_file(path)
        try:
            return _read_bounded(fd, path, limit)
        finally:
            os.close(fd)

    def link(self, path: str) -> str:
        """Where a symbolic link points, as it is written.  Raises SourceUnavailable."""
        fd = self._open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return os.readlink("", dir_fd=fd)
        except OSError as error:
            raise SourceUnavailable(f"{path}: not a symbolic link") from error
        finally:
            os.close(fd)

    def list(self, path: str) -> tuple[str, ...]:
        """Names in a folder, sorted; at most 4096.  Raises SourceUnavailable."""
        fd = self._open(path, _READ | os.O_DIRECTORY)
        try:
            names = []
            with os.scandir(fd) as entries:
                for entry in entries:
                    names.append(entry.name)
                    if len(names) > _NAMES:
                        raise SourceUnavailable(f"{path}: more than {_NAMES} names")
        except OSError as error:
            raise SourceUnavailable(f"{path}: {error.strerror}") from error
        finally:
            os.close(fd)
        return tuple(sorted(names))

    def _open_file(self, path: str) -> int:
        # O_PATH looks without opening: a device is recognised before its driver hears of us.
        looked = self._open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            before = os.fstat(looked)
        finally:
            os.close(looked)
        if not stat.S_ISREG(before.st_mode):
            raise SourceUnavailable(f"{path}: {_kind(before.st_mode)}, not a regular file")
        fd = self._open(path, _READ)
        after = os.fstat(fd)
        if (after.st_dev, after.st_ino) != (before.st_dev, before.st_ino) or not stat.S_ISREG(after.st_mode):
            os.close(fd)
            raise SourceUnavailable(f"{path}: was exchanged while it was opened")
        return fd

    def _open(self, path: str, flags: int) -> int:
        if self._root < 0:
            raise SourceUnavailable(f"{path}: the tree is closed")
        if not path.startswith("/") or "\0" in path:
            raise SourceUnavailable(f"{path!r}: not an absolute path")
        try:
            if self._openat2:
                try:
                    return _openat2(self._root, path, flags)
                except OSError as error:
                    if error.errno != errno.ENOSYS:
                        raise
                    self._openat2 = False
            return _walk(self._root, path, flags)
        except OSError as error:
            raise SourceUnavailable(f"{path}: {error.strerror}") from error


def _openat2(root: int, path: str, flags: int) -> int:
    how = _OpenHow(flags=flags, mode=0, resolve=_RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    number = 0
    for _ in range(_TRIES):
        fd = _syscall(
            ctypes.c_long(_SYS_OPENAT2),
            ctypes.c_int(root),
            ctypes.c_char_p(os.fsencode(path)),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
        if fd >= 0:
            return int(fd)
        number = ctypes.get_errno()
        if number not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(number, os.strerror(number))


def _walk(root: int, path: str, flags: int) -> int:
    """Component by component, no links at all: the refusing form for kernels without openat2."""
    names = [name for name in path.split("/") if name not in ("", ".")]
    if ".." in names:
        raise OSError(errno.EXDEV, "'..' is not followed on this kernel")
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    try:
        for name in names[:-1]:
            there = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            os.close(here)
            here = there
        return os.open(names[-1] if names else ".", flags | os.O_NOFOLLOW, dir_fd=here)
    finally:
        os.close(here)


def _read_bounded(fd: int, path: str, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        while size <= limit:
            part = os.pread(fd, min(_CHUNK, limit + 1 - size), size)
            if not part:
                break
            parts.append(part)
            size += len(part)
    except OSError as error:
        raise SourceUnavailable(f"{path}: {error.strerror}") from error
    if size > limit:
        raise SourceUnavailable(f"{path}: more than {limit} bytes")
    return b"".join(parts)


def _kind(mode: int) -> str:
    for test, name in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISLNK, "a symbolic link"),
    ):
        if test(mode):
            return name
    return "something else"
