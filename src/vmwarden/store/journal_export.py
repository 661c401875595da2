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
    """Whether the file at path begins as an export does; False also where there is none."""
    try:
        with path.open("rb") as file:
            return file.read(1) == b"{"
    except OSError:
        return False


def base_line(base: JournalBase) -> bytes:
    """First line of an export."""
    return canonical.encode(BaseLine(base=base)) + b"\n"


def lines(records: Iterable[StoredRecord], checkpoints: Iterable[StoredCheckpoint]) -> Iterator[bytes]:
    """Of rows that were verified.  Checkpoints that end with none of the records are left out."""
    kept = {one.size: one.note for one in checkpoints}
    for row in records:
        record = canonical.decode(row.data, Record, limit=RECORD_BYTES, what=f"record {row.seq}")
        yield canonical.encode(RecordLine(leaf=row.leaf.hex(), record=record)) + b"\n"
        note = kept.get(row.seq + 1)
        if note is not None:
            # The root stands in the note; written again so that a reader needs no base64.
            root = checkpoint.root_of(note)
            signed = Checkpoint(size=row.seq + 1, root=root, note=note)
            yield canonical.encode(CheckpointLine(checkpoint=signed)) + b"\n"


def read(path: Path) -> tuple[bytes, tuple[StoredRecord, ...], tuple[StoredCheckpoint, ...]]:
    """Base, records and checkpoints as they stand in the file.

    Raises Tampered (it is not what was exported), FileAbsent, FileUnavailable.
    """
    base: bytes | None = None
    records: list[StoredRecord] = []
    checkpoints: list[StoredCheckpoint] = []
    try:
        data = read_bounded(path, EXPORT_BYTES)
        if not data.endswith(b"\n"):
            raise Malformed(f"{path}: cut off in the middle of a line")
        for number, line in enumerate(data[:-1].split(b"\n"), 1):
            what = f"line {number}"
            match _line(line, what):
                case BaseLine(base=found) if number == 1:
                    base = canonical.encode(found)
                case RecordLine(leaf=leaf, record=record) if number > 1:
                    stored = StoredRecord(record.seq, canonical.encode(record), bytes.fromhex(leaf))
                    records.append(stored)
                case CheckpointLine(checkpoint=signed) if number > 1:
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
