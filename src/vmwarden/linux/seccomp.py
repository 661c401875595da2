# SPDX-License-Identifier: Apache-2.0
"""From here on: compute, and read and write what is open.  No files, no network, no processes.

All numbers are the kernel's: include/uapi/linux/{prctl,seccomp,bpf_common,audit}.h and the tables of system
calls of the two machines.
"""

import ctypes
import os
import struct

from vmwarden.errors import ControlFailed

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_KILL_PROCESS, _ALLOW = 0x8000_0000, 0x7FFF_0000
# BPF: load a word of struct seccomp_data, jump if equal / if any bit is set, return
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_AT_NUMBER, _AT_MACHINE, _AT_PROTECTION = 0, 4, 32  # nr, arch, the low half of args[2]
_PROT_EXEC = 4

#: what Python and OpenSSL need to compute once all is loaded: memory, locks, randomness, time, the end
_X86_64 = {
    "read": 0, "write": 1, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13,
    "rt_sigprocmask": 14, "rt_sigreturn": 15, "sched_yield": 24, "mremap": 25, "madvise": 28, "getpid": 39,
    "exit": 60, "gettimeofday": 96, "time": 201, "futex": 202, "restart_syscall": 219, "clock_gettime": 228,
    "exit_group": 231, "getrandom": 318,
}  # fmt: skip
_AARCH64 = {
    "read": 63, "write": 64, "exit": 93, "exit_group": 94, "futex": 98, "clock_gettime": 113,
    "sched_yield": 124, "restart_syscall": 128, "rt_sigaction": 134, "rt_sigprocmask": 135,
    "rt_sigreturn": 139, "gettimeofday": 169, "getpid": 172, "brk": 214, "munmap": 215, "mremap": 216,
    "mmap": 222, "mprotect": 226, "madvise": 233, "getrandom": 278,
}  # fmt: skip
#: AUDIT_ARCH_* and the numbers
_MACHINES = {"x86_64": (0xC000_003E, _X86_64), "aarch64": (0xC000_00B7, _AARCH64)}
#: whose third argument is a protection; nothing becomes code any more
_MAPPING = ("mmap", "mprotect")

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def compute_only() -> None:
    """For the rest of this process, which is killed at any other system call.  Raises ControlFailed."""
    machine = os.uname().machine
    known = _MACHINES.get(machine)
    if known is None:
        raise ControlFailed(f"no sandbox is known on {machine}")
    program = _filter(*known)
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = _Program(len(program) // 8, ctypes.addressof(buffer))
    none = ctypes.c_ulong(0)
    for option, argument, pointer in (
        (_PR_SET_NO_NEW_PRIVS, 1, none),
        (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(fprog)),
    ):
        if _libc.prctl(option, ctypes.c_ulong(argument), pointer, none, none) != 0:
            raise ControlFailed(f"no sandbox: prctl {option}: {os.strerror(ctypes.get_errno())}")


def _filter(machine: int, calls: dict[str, int]) -> bytes:
    """Another machine's call (x32 has bit 30 in its numbers), or one not in calls: killed."""
    mapping = [number for name, number in calls.items() if name in _MAPPING]
    plain = [number for name, number in calls.items() if name not in _MAPPING]
    code = [
        (_LOAD, 0, 0, _AT_MACHINE),
        (_EQUAL, 1, 0, machine),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _AT_NUMBER),
    ]
    for number in plain:
        code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    for number in mapping:
        code += [
            (_EQUAL, 0, 4, number),
            (_LOAD, 0, 0, _AT_PROTECTION),
            (_ANY_BIT, 0, 1, _PROT_EXEC),
            (_RETURN, 0, 0, _KILL_PROCESS),
            (_RETURN, 0, 0, _ALLOW),
        ]
    code.append((_RETURN, 0, 0, _KILL_PROCESS))
    return b"".join(struct.pack("=HBBI", *step) for step in code)
