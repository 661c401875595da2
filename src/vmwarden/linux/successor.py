# SPDX-License-Identifier: Apache-2.0
"""Becoming another version of the same program, in the same process: files that are open can stay open."""

import contextlib
import fcntl
import os
import re
import sys
from collections.abc import Iterable
from typing import NoReturn

from vmwarden.errors import ControlFailed

#: names the open file in which the predecessor's word lies, and those that are handed over
_VARIABLE = "VMWARDEN_HANDOVER"
_SEPARATOR = ","
_DESCRIPTOR = re.compile(r"[0-9]{1,9}")
#: it can be read, and changed by nobody (memfd_create(2), fcntl(2))
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def become(word: bytes, *, keeping: Iterable[int]) -> NoReturn:
    """Start this program again, as it is on disk now, with the same arguments.

    word: for the successor.  keeping: open files that it gets.  Raises ControlFailed: it cannot be started.
    """
    script = sys.argv[0]
    # a script that can be run names its interpreter itself: a new version may have another one
    argv = [script, *sys.argv[1:]] if os.access(script, os.X_OK) else [sys.executable, *sys.orig_argv[1:]]
    try:
        memory = os.memfd_create("vmwarden-handover", os.MFD_ALLOW_SEALING)
        os.write(memory, word)
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)
        passed = (memory, *keeping)
        for descriptor in passed:
            os.set_inheritable(descriptor, True)
        named = _SEPARATOR.join(str(descriptor) for descriptor in passed)
        os.execve(argv[0], argv, {**os.environ, _VARIABLE: named})
    except OSError as error:
        raise ControlFailed(f"{argv[0]}: cannot be started again: {error.strerror}") from error


def inherited(limit: int) -> tuple[bytes, tuple[int, ...]]:
    """The predecessor's word, once, and the descriptors that it left; b"" where there was none.

    limit: at most so many bytes.
    """
    numbers = os.environ.pop(_VARIABLE, "").split(_SEPARATOR)
    if not all(_DESCRIPTOR.fullmatch(number) for number in numbers):
        return b"", ()
    memory, *left = (int(number) for number in numbers)
    try:
        sealed = fcntl.fcntl(memory, fcntl.F_GET_SEALS) == _SEALS
        word = os.pread(memory, limit, 0) if sealed else b""
        os.close(memory)
    except OSError:
        return b"", ()
    return word, tuple(left)


def let_go(descriptors: Iterable[int]) -> None:
    """Close what a predecessor left that cannot be used: what it owned goes with it."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
