# SPDX-License-Identifier: Apache-2.0
"""Every error that leaves a function of vmwarden, by who is to blame.

WardenError
  UntrustedInput     somebody else's data is bad (exit 65)
    Malformed          not what it says it is: bytes, schema, canonical form
    TooLarge           beyond the bound of its kind
    BadSignature       not signed, signed by too few, by an unknown key, or over other bytes
    WrongAudience      made for another VM, generation or nonce
    Expired            outside its period of validity
    Rollback           older than what this VM has already seen
  WorldError         the machine, the host or the pipe did not do its part (exit 69)
    SourceUnavailable  a source of evidence has nothing to say, with the reason
    ChannelDown        the way to the host is closed
    CommandFailed      a process of another program failed
    ControlFailed      the VM could not be made to do something to itself
    FileAbsent         a file that is looked for is not there
    FileUnavailable    a file is there, or should be, and cannot be read or written
  JournalError       the record
    Tampered           what is written is not what was written (exit 65)
    JournalFull        no room to write: openings are refused, closings go on
  UsageError         the caller asked for what does not exist (exit 64)
  BugError           ours (exit 70); never catch it
"""

from collections.abc import Sequence
from typing import NamedTuple


class Problem(NamedTuple):
    """One mistake in one place, with its mend.  line and column count from 1; 0 = not known."""

    message: str
    mend: str = ""
    file: str = ""
    line: int = 0
    column: int = 0
    path: str = ""

    def __str__(self) -> str:
        where = self.file
        if self.line:
            where += f":{self.line}:{self.column}"
        parts = [p for p in (where, self.path, self.message) if p]
        return ": ".join(parts) + (f" (mend: {self.mend})" if self.mend else "")


class WardenError(Exception):
    """Root of the tree.  Raise a leaf."""


class UntrustedInput(WardenError):
    """Data of somebody else is bad.  problems holds every mistake found, not only the first."""

    def __init__(self, message: str, *, mend: str = "", problems: Sequence[Problem] = ()) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems) or (Problem(message, mend),)
        super().__init__(message)


class Malformed(UntrustedInput):
    """The bytes are not what they claim to be."""


class TooLarge(UntrustedInput):
    """The bytes are more than their kind may have."""


class BadSignature(UntrustedInput):
    """Not signed by those who have to."""


class WrongAudience(UntrustedInput):
    """Made for somebody else, or for another question."""


class Expired(UntrustedInput):
    """Outside its period of validity."""


class Rollback(UntrustedInput):
    """Older than what was already in force."""


class WorldError(WardenError):
    """The machine or the pipe did not do its part.  mend says what the reader may do about it."""

    def __init__(self, message: str, *, mend: str = "") -> None:
        self.mend = mend
        super().__init__(message)


class SourceUnavailable(WorldError):
    """A source has nothing to say."""


class ChannelDown(WorldError):
    """The way to the host is closed."""


class CommandFailed(WorldError):
    """Another program failed."""


class ControlFailed(WorldError):
    """The VM could not be made to do something to itself."""


class FileAbsent(WorldError):
    """Nothing stands at that path.  Often no mistake at all: nothing was written yet."""


class FileUnavailable(WorldError):
    """The file system refuses: denied, read-only, full, failing."""


class JournalError(WardenError):
    """The record is in trouble."""


class Tampered(JournalError):
    """What stands in the journal is not what was written.

    seq: the first record that is wrong; None = no single one.
    """

    def __init__(self, message: str, *, seq: int | None = None) -> None:
        self.seq = seq
        super().__init__(message)


class JournalFull(JournalError):
    """Nothing can be written: no room, a read-only or failing disk, another writer."""


class UsageError(WardenError):
    """The caller asked for what does not exist."""


class BugError(WardenError):
    """Ours.  Never caught, except to report it."""
