# SPDX-License-Identifier: Apache-2.0
"""Read a journal: the open file beside its warden, sealed segments, exports."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from vmwarden.errors import FileAbsent, FileUnavailable, JournalFull, Malformed, Tampered, UntrustedInput
from vmwarden.linux.files import read_bounded
from vmwarden.rules import checkpoint, journal_check
from vmwarden.rules.journal_check import Checked, StoredCheckpoint, StoredRecord
from vmwarden.store import journal_export, journal_file, journal_head
from vmwarden.store.journal_paths import JournalPaths

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Contents:
    """Everything in one file, as it stands, believed in nothing."""

    base: bytes
    records: tuple[StoredRecord, ...]
    checkpoints: tuple[StoredCheckpoint, ...]


def read(path: Path) -> Contents:
    """Of a journal database, a sealed segment or an export.

    Raises FileAbsent, FileUnavailable, Tampered.
    """
    if journal_export.is_export(path):
        base, records, checkpoints = journal_export.read(path)
        return Contents(base=base, records=records, checkpoints=checkpoints)
    try:
        db = journal_file.connect_reader(path)
    except JournalFull as error:
        raise FileUnavailable(f"cannot be read: {error}") from error
    try:
        # One transaction: a warden that seals a segment meanwhile changes nothing of what we see.
        db.execute("BEGIN")
        journal_file.demand_schema(db)
        journal_file.demand_sound(db)
        return Contents(
            base=journal_file.base_bytes(db),
            records=tuple(journal_file.records(db)),
            checkpoints=tuple(journal_file.checkpoints(db)),
        )
    except journal_file.FAILURES as error:
        blamed = journal_file.blame(path, error)
        if isinstance(blamed, JournalFull):
            raise FileUnavailable(f"{path}: cannot be read: {error}") from error
        raise blamed from error
    finally:
        db.close()


def segments(path: Path, *, before: int) -> tuple[Path, ...]:
    """The sealed segments of the journal at path with records before number `before`, oldest first.

    A segment that begins later is what a crash in the middle of sealing left: its records still stand in
    the open file.  Raises FileUnavailable.
    """
    paths = JournalPaths(path)
    try:
        return tuple(one for one in paths.sealed() if paths.first_of(one) < before)
    except OSError as error:
        raise FileUnavailable(f"{path}: {error.strerror}") from error


def verify(
    path: Path, *, key: Ed25519PublicKey | None = None, against: Sequence[str] = ()
) -> tuple[Checked, ...]:
    """Verify the file at path, with the sealed segments and the head beside it if there are any.

    key: as journal_check.check.  against: notes from outside; each is held against the segment that ends
    at or after it.  Returns what was verified, oldest first.

    Raises Tampered, and what read and journal_check.check raise.
    """
    # The head is read before the file that it bounds: a warden may go on writing both.
    head = _head_bytes(path)
    newest = read(path)
    base, _, own_key = _named(path, lambda: journal_check.read_base(newest.base))
    waiting = sorted(against, key=checkpoint.size_of)
    verified: list[Checked] = []
    for one in segments(path, before=base.first_seq):
        contents = read(one)
        end = contents.records[-1].seq + 1 if contents.records else 0
        here = [note for note in waiting if checkpoint.size_of(note) <= end]
        waiting = waiting[len(here) :]
        verified.append(_check(one, contents, verified, key=key, against=here))
    noted = _named(path, lambda: journal_head.highest(head, key=own_key, name=base.origin))
    if noted is not None and noted.size >= base.first_seq:
        waiting.append(noted.note)
    verified.append(_check(path, newest, verified, key=key, against=waiting))
    return tuple(verified)


def _check(
    path: Path,
    contents: Contents,
    before: Sequence[Checked],
    *,
    key: Ed25519PublicKey | None,
    against: Sequence[str],
) -> Checked:
    def checked() -> Checked:
        result = journal_check.check(
            contents.base, contents.records, contents.checkpoints, key=key, against=against
        )
        if before:
            journal_check.demand_follows(before[-1], result.base)
        return result

    return _named(path, checked)


def _named(path: Path, call: Callable[[], T]) -> T:
    """Tampered says in which file."""
    try:
        return call()
    except Tampered as error:
        raise Tampered(f"{path.name}: {error}", seq=error.seq) from error
    except Malformed as error:
        raise Tampered(f"{path.name}: {error}") from error


def _head_bytes(path: Path) -> bytes:
    try:
        return read_bounded(JournalPaths(path).head, journal_head.BYTES)
    except FileAbsent:
        return b""
    except UntrustedInput as error:
        raise Tampered(f"{path.name}: its head: {error}") from error


def export(path: Path) -> Iterator[bytes]:
    """The journal at path and its sealed segments as lines.  Each file is verified before its first line.

    Raises as verify does; what was yielded before is then not the whole journal.
    """
    newest = read(path)
    base = _named(path, lambda: journal_check.read_base(newest.base))[0]
    verified: list[Checked] = []
    for one in (*segments(path, before=base.first_seq), path):
        contents = newest if one == path else read(one)
        checked = _check(one, contents, verified, key=None, against=())
        if not verified:
            yield from journal_export.begin(checked.base, contents.checkpoints)
        verified.append(checked)
        yield from journal_export.lines(contents.records, contents.checkpoints)
