# SPDX-License-Identifier: Apache-2.0
"""The newest checkpoint once more, outside the database.

A database cut back to an earlier state of itself is whole; so is one whose write-ahead log lost its end,
which SQLite drops without a word.  The head remembers how far the journal had come.

Two slots are written in turn, so that a power cut in the middle of one leaves the other.  Only checkpoints
that are kept wait for the disk: an older head after a power cut is a weaker bound, never a wrong one,
because a record is on disk before the head that covers it is written.
"""

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from vmwarden.errors import FileAbsent, Malformed, UntrustedInput
from vmwarden.linux.files import read_bounded, write_atomically
from vmwarden.model.journal import Checkpoint
from vmwarden.rules import checkpoint

#: two origins of at most 97 bytes, size, root, signature and separators are below 380 bytes
SLOT_BYTES = 512
_SLOTS = 2
BYTES = SLOT_BYTES * _SLOTS


def read(path: Path, *, key: Ed25519PublicKey, name: str) -> Checkpoint | None:
    """The highest checkpoint that stands there; None if there is no head.

    Raises Malformed and TooLarge if something else stands there, FileUnavailable.
    """
    try:
        return highest(read_bounded(path, BYTES), key=key, name=name)
    except FileAbsent:
        return None


def highest(data: bytes, *, key: Ed25519PublicKey, name: str) -> Checkpoint | None:
    """The highest checkpoint in the bytes of a head; None if nothing was written yet.

    Raises Malformed if something was written that key did not sign for the log called name.
    """
    found: list[Checkpoint] = []
    written = False
    for start in range(0, len(data), SLOT_BYTES):
        slot = data[start : start + SLOT_BYTES].rstrip(b"\0")
        written = written or bool(slot)
        try:
            found.append(checkpoint.verify_stored(slot.decode(), key=key, name=name))
        except (UntrustedInput, UnicodeDecodeError):
            continue  # one slot may be torn by a power cut: the other one counts
    if written and not found:
        raise Malformed("the head holds no checkpoint of this journal")
    return max(found, key=lambda one: one.size, default=None)


class Head:
    """Open for writing.  newest: what is to stand there now.  Raises FileUnavailable, FileAbsent, OSError."""

    def __init__(self, path: Path, newest: Checkpoint) -> None:
        self._slot = 0
        write_atomically(path, _slot(newest).ljust(BYTES, b"\0"))
        self._file = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def write(self, newest: Checkpoint, *, wait: bool) -> None:
        """wait: return when it is on disk.  Raises OSError."""
        self._slot = (self._slot + 1) % _SLOTS
        os.pwrite(self._file, _slot(newest), self._slot * SLOT_BYTES)
        if wait:
            os.fdatasync(self._file)

    def close(self) -> None:
        os.close(self._file)


def _slot(newest: Checkpoint) -> bytes:
    return newest.note.encode().ljust(SLOT_BYTES, b"\0")
