# SPDX-License-Identifier: Apache-2.0
"""Giving up what is not needed, and staying runnable under pressure."""

import ctypes
import os
import pwd

from vmwarden.errors import UsageError, WorldError

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
# linux/capability.h: version 3 is that of 64 bits, in two halves
_CAPABILITY_VERSION_3 = 0x20080522
_CAPABILITIES = 64
# linux/mman.h
_MCL_CURRENT = 1
_MCL_FUTURE = 2
_MCL_ONFAULT = 4  # lock what is used, not all that is mapped: shared libraries stay small

_libc = ctypes.CDLL(None, use_errno=True)


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilityHalf(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def drop_to(user: str) -> None:
    """Become user for good: groups, ids, no capability, no new privileges, no core dumps.

    Who is not root keeps his ids: systemd may have started us as user with a few capabilities.
    Raises UsageError for an unknown user, WorldError.
    """
    if os.getuid() == 0:
        _empty_bounding_set()
        try:
            entry = pwd.getpwnam(user)
        except KeyError as error:
            raise UsageError(f"there is no user {user!r}: create it, or name one with --user") from error
        try:
            os.setgroups([])
            os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
            os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
        except OSError as error:
            raise WorldError(f"cannot become {user}: {error.strerror}") from error
    _drop_capabilities()
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_DUMPABLE, 0)


def die_with_parent(parent: int) -> None:
    """SIGKILL when the parent ends: a watcher without its warden keeps the channel from the next one.

    Call it after drop_to: becoming another user clears the signal (prctl(2)).  parent: its process id, read
    at the start; where it has ended meanwhile, SystemExit is raised.
    """
    _prctl(_PR_SET_PDEATHSIG, 9)
    if os.getppid() != parent:
        raise SystemExit(0)


def stay_runnable() -> tuple[str, ...]:
    """Lock memory and raise priority against starvation.  Returns what could not be had, in words."""
    missing = []
    if _libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) != 0:
        missing.append(f"memory not locked: {os.strerror(ctypes.get_errno())}")
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    except OSError as error:
        missing.append(f"priority not raised: {error.strerror}")
    return tuple(missing)


def uid_of(user: str) -> int | None:
    """The uid of user, None if there is no such user."""
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def _empty_bounding_set() -> None:
    """So that no program that we start gets a capability by being root's.  It takes CAP_SETPCAP; where that
    is missing somebody has bounded us already."""
    for capability in range(_CAPABILITIES):
        if _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            return  # not allowed, or beyond the last one that this kernel knows


def _drop_capabilities() -> None:
    """None is left, the ambient ones neither: those are kept within the permitted."""
    header = _CapabilityHeader(version=_CAPABILITY_VERSION_3, pid=0)
    none = (_CapabilityHalf * 2)()
    if _libc.capset(ctypes.byref(header), ctypes.byref(none)) != 0:
        raise WorldError(f"cannot give up capabilities: {os.strerror(ctypes.get_errno())}")


def _prctl(option: int, argument: int) -> None:
    if _libc.prctl(option, argument, 0, 0, 0) != 0:
        raise WorldError(f"prctl {option}: {os.strerror(ctypes.get_errno())}")
