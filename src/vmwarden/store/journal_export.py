# SPDX-License-Identifier: Apache-2.0
"""A journal as lines of JSON: all that is needed to verify it elsewhere, without the VM and without SQLite.

The first line is the base, then every record, each followed by the checkpoint that ends with it, if one was
kept.  Every line is canonical and ends with a line feed.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vmwarden.errors import Malformed, Tampered, UntrustedInput
from vmwarden.linux.files import read_bounded
from vmwarden.model.journal import RECORD_BYTES, Checkpoint, Hash, JournalBase, Record
from vmwarden.model.wire import Wire
from vmwarden.rules import canonical, checkpoint
from vmwarden.rules.journal_check import BASE_BYTES, StoredCheckpoint, StoredRecord

#: bound on an export that is read: all segments that stay are below half of it
EXPORT_BYTES = 512 * 1024 * 1024
_LINE_BYTES = max(RECORD_BYTES, 2 * checkpoint.NOTE_BYTES, BASE_BYTES) + 256


class BaseLine(Wire, frozen=True, kw_only=True, tag="base"):
    """First line."""

    base: JournalBase


class RecordLine(Wire, frozen=True, kw_only=True, tag="record"):
    """leaf: the hash of record."""

    leaf: Hash
    record: Record


class CheckpointLine(Wire, frozen=True, kw_only=True, tag="checkpoint"):
    """Over everything above it."""

    checkpoint: Checkpoint


def is_export(path: Path) -> bool:
    """Whether a regular file at path begins as an export does."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(1) == b"{"
    except OSError:
        return False


def begin(base: JournalBase, checkpoints: Iterable[StoredCheckpoint]) -> Iterator[bytes]:
    """The first lines: the base, and the checkpoint over what came before it, if anything did."""
    yield canonical.encode(BaseLine(base=base)) + b"\n"
    for one in checkpoints:
        if one.size == base.first_seq:
            yield _checkpoint_line(one)


def lines(records: Iterable[StoredRecord], checkpoints: Iterable[StoredCheckpoint]) -> Iterator[bytes]:
    """Of rows that were verified, each record with the checkpoint that ends with it."""
    kept = {one.size: one for one in checkpoints}
    for row in records:
        record = canonical.decode(row.data, Record, limit=RECORD_BYTES, what=f"record {row.seq}")
        yield canonical.encode(RecordLine(leaf=row.leaf.hex(), record=record)) + b"\n"
        if row.seq + 1 in kept:
            yield _checkpoint_line(kept[row.seq + 1])


def read(path: Path) -> tuple[bytes, tuple[StoredRecord, ...], tuple[StoredCheckpoint, ...]]:
    """Base, records and checkpoints as they stand in the file.

    Raises Tampered (it is not what was exported), FileAbsent, FileUnavailable.
    """
    base: bytes | None = None
    records: list[StoredRecord] = []
    checkpoints: list[StoredCheckpoint] = []
    size = 0
    try:
        data = read_bounded(path, EXPORT_BYTES)
        if not data.endswith(b"\n"):
            raise Malformed(f"{path}: cut off in the middle of a line")
        for number, line in enumerate(data[:-1].split(b"\n"), 1):
            what = f"line {number}"
            match _line(line, what):
                case BaseLine(base=found) if number == 1:
                    base, size = canonical.encode(found), found.first_seq
                case RecordLine(leaf=leaf, record=record) if number > 1:
                    stored = StoredRecord(record.seq, canonical.encode(record), bytes.fromhex(leaf))
                    records.append(stored)
                    size += 1
                case CheckpointLine(checkpoint=signed) if number > 1 and signed.size == size:
                    if checkpoint.root_of(signed.note) != signed.root:
                        raise Malformed(f"{what}: the root is not the one in the note")
                    checkpoints.append(StoredCheckpoint(signed.size, signed.note))
                case _:
                    raise Malformed(f"{what}: does not belong there")
    except UntrustedInput as error:
        raise Tampered(str(error), seq=records[-1].seq + 1 if records else None) from error
    if base is None:
        raise Tampered(f"{path}: empty")
    return base, tuple(records), tuple(checkpoints)


def _line(data: bytes, what: str) -> BaseLine | RecordLine | CheckpointLine:
    kind: Any = BaseLine | RecordLine | CheckpointLine  # a union is no type[T]; msgspec takes it
    found: BaseLine | RecordLine | CheckpointLine = canonical.decode(data, kind, limit=_LINE_BYTES, what=what)
    return found


def _checkpoint_line(stored: StoredCheckpoint) -> bytes:
    # The root stands in the note; written once more so that a reader of the lines needs no base64.
    signed = Checkpoint(size=stored.size, root=checkpoint.root_of(stored.note), note=stored.note)
    return canonical.encode(CheckpointLine(checkpoint=signed)) + b"\n"
