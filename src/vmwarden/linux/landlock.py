# SPDX-License-Identifier: Apache-2.0
"""Landlock: a process takes rights from itself for good, without being root.

All numbers are the kernel's: include/uapi/linux/landlock.h.  What a version (ABI) can take away is in
Documentation/userspace-api/landlock.rst; a version newer than those known here takes as much as the newest.
"""

import ctypes
import os
import stat
from collections.abc import Iterable
from typing import NamedTuple

from vmwarden.errors import WorldError

# the numbers of system calls since 5.1 are the same on every architecture that Debian has
_SYS_CREATE_RULESET, _SYS_ADD_RULE, _SYS_RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1 << 0
_RULE_PATH_BENEATH = 1

_EXECUTE = 1 << 0
_WRITE_FILE = 1 << 1
_READ_FILE = 1 << 2
_READ_DIR = 1 << 3
#: EXECUTE to MAKE_SYM: bits 0 to 12
_FS_FIRST = (1 << 13) - 1
_REFER = 1 << 13
_TRUNCATE = 1 << 14
_IOCTL_DEV = 1 << 15
_BIND_TCP, _CONNECT_TCP = 1 << 0, 1 << 1
_SCOPE_ABSTRACT_UNIX_SOCKET, _SCOPE_SIGNAL = 1 << 0, 1 << 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class Handled(NamedTuple):
    """What a ruleset takes away where no rule gives it back: bits for files, for TCP, and for whom outside
    the domain it may reach."""

    files: int
    tcp: int
    scoped: int


class _RulesetAttr(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("tcp", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def abi() -> int:
    """The version of this kernel's Landlock; 0: it has none, it is switched off, or we may not ask."""
    version = _libc.syscall(
        ctypes.c_long(_SYS_CREATE_RULESET),
        ctypes.c_void_p(None),
        ctypes.c_size_t(0),
        ctypes.c_uint32(_CREATE_RULESET_VERSION),
    )
    return max(0, int(version))


def handled(version: int, *, connect: bool = False) -> Handled:
    """All that this version can take away; with connect TCP connections stay."""
    files = _FS_FIRST if version >= 1 else 0
    for since, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV)):
        files |= right if version >= since else 0
    return Handled(
        files=files,
        tcp=(_BIND_TCP if connect else _BIND_TCP | _CONNECT_TCP) if version >= 4 else 0,
        scoped=_SCOPE_ABSTRACT_UNIX_SOCKET | _SCOPE_SIGNAL if version >= 6 else 0,
    )


def unconfined(version: int) -> tuple[str, ...]:
    """What confine leaves to the process on such a kernel, in words."""
    if version < 1:
        return ("files",)
    return tuple(
        what
        for since, what in (
            (3, "truncating files"),
            (4, "TCP"),
            (5, "ioctl on devices"),
            (6, "signals and abstract sockets"),
        )
        if version < since
    )


def note() -> tuple[str, ...]:
    """For an owner who asks what he can rely on; empty where there is nothing to say."""
    return () if abi() else ("no Landlock on this kernel: the watcher is confined by its user and its unit",)


def confine(*, read: Iterable[str], read_write: Iterable[str] = (), connect: bool = False) -> int:
    """From now on this thread, and what it starts, opens only what lies at or below these paths: read to
    read, read_write to read and write what exists already.  It executes nothing, makes and removes nothing,
    and has no TCP, unless with connect: then it may begin connections.  What is open stays open.  A path
    that is not there is left out.

    Returns the version by which it is confined; 0: this kernel has no Landlock, and nothing has changed.
    Needs no_new_privs (linux.privileges.drop_to).  Raises WorldError.
    """
    version = abi()
    if version < 1:
        return 0
    taken = handled(version, connect=connect)
    attr = _RulesetAttr(*taken)
    # older kernels take a longer structure if what they do not know is zero
    ruleset = _checked(
        _libc.syscall(
            ctypes.c_long(_SYS_CREATE_RULESET),
            ctypes.byref(attr),
            ctypes.c_size_t(ctypes.sizeof(attr)),
            ctypes.c_uint32(0),
        )
    )
    try:
        for path in read:
            _allow(ruleset, path, _READ_FILE | _READ_DIR)
        for path in read_write:
            _allow(ruleset, path, _READ_FILE | _WRITE_FILE)
        _checked(_libc.syscall(ctypes.c_long(_SYS_RESTRICT_SELF), ctypes.c_int(ruleset), ctypes.c_uint32(0)))
    finally:
        os.close(ruleset)
    return version


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # whoever looks for it is told so, each time
    try:
        if not stat.S_ISDIR(os.fstat(beneath).st_mode):
            rights &= ~_READ_DIR  # the kernel refuses a right that only a folder can have
        attr = _PathBeneathAttr(allowed=rights, parent=beneath)
        _checked(
            _libc.syscall(
                ctypes.c_long(_SYS_ADD_RULE),
                ctypes.c_int(ruleset),
                ctypes.c_int(_RULE_PATH_BENEATH),
                ctypes.byref(attr),
                ctypes.c_uint32(0),
            )
        )
    finally:
        os.close(beneath)


def _checked(result: int) -> int:
    if result < 0:
        raise WorldError(f"Landlock: {os.strerror(ctypes.get_errno())}")
    return int(result)
