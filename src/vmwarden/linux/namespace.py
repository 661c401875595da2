# SPDX-License-Identifier: Apache-2.0
"""Network namespaces by name, as `ip netns` keeps them."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vmwarden.errors import ControlFailed

#: where `ip netns add` binds the names
NAMES = Path("/run/netns")
CLONE_NEWNET = 0x4000_0000

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def entered(name: str) -> Iterator[None]:
    """This thread is in namespace name within the block, and so are sockets, threads and children made there.

    Raises ControlFailed: no such namespace, or no right (CAP_SYS_ADMIN).
    """
    back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            there = os.open(NAMES / name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise ControlFailed(f"network namespace {name}: {error.strerror}") from error
        try:
            _enter(there, name)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _enter(back, "that this thread came from")
    finally:
        os.close(back)


def _enter(descriptor: int, name: str) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise ControlFailed(f"network namespace {name}: {os.strerror(ctypes.get_errno())}")
