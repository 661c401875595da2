# SPDX-License-Identifier: Apache-2.0
"""Which BPF programs hang on a device by tcx: those that tc does not list.

All numbers are the kernel's: include/uapi/linux/bpf.h.
"""

import ctypes
import errno
import os
import platform

from vmwarden.errors import ControlFailed

#: __NR_bpf; where the number is not known nothing is asked, and the answer says so
_SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361}
_PROG_QUERY = 16
#: BPF_TCX_INGRESS, BPF_TCX_EGRESS (Linux 6.6)
_TCX = {"ingress": 46, "egress": 47}
#: what a kernel says that has no tcx
_NO_TCX = frozenset((errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS))

_libc = ctypes.CDLL(None, use_errno=True)


class _Query(ctypes.Structure):
    """union bpf_attr, query: by device, without asking for the programs' ids."""

    _fields_ = (
        ("target", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("query_flags", ctypes.c_uint32),
        ("attach_flags", ctypes.c_uint32),
        ("prog_ids", ctypes.c_uint64),
        ("count", ctypes.c_uint32),
        ("padding", ctypes.c_uint32),
        ("prog_attach_flags", ctypes.c_uint64),
        ("link_ids", ctypes.c_uint64),
        ("link_attach_flags", ctypes.c_uint64),
        ("revision", ctypes.c_uint64),
    )


def tcx(index: int) -> dict[str, int]:
    """How many programs a device of this namespace has, by direction (ingress, egress); none: left out.

    A kernel without tcx, or without BPF, has none.  Raises ControlFailed: it may not be asked
    (CAP_NET_ADMIN), or on this machine nobody knows how.
    """
    number = _SYSCALL.get(platform.machine())
    if number is None:
        raise ControlFailed(f"BPF programs: not known how to ask on {platform.machine()}")
    found: dict[str, int] = {}
    for direction, kind in _TCX.items():
        query = _Query(target=index, attach_type=kind)
        if _libc.syscall(number, _PROG_QUERY, ctypes.byref(query), ctypes.sizeof(query)) == 0:
            if query.count:
                found[direction] = query.count
            continue
        failed = ctypes.get_errno()
        if failed not in _NO_TCX and failed not in (errno.ENOENT, errno.ENODEV):
            raise ControlFailed(f"BPF programs of device {index}: {os.strerror(failed)}")
    return found
