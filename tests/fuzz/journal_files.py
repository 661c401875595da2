# SPDX-License-Identifier: Apache-2.0
"""Targets: the files of the journal."""

import json
import os
import shutil
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

from tests.fuzz.engine import Target
from tests.fuzz.state_files import layout
from vmwarden.errors import JournalError, JournalFull, Tampered, UntrustedInput, WorldError
from vmwarden.model.journal import JournalBase
from vmwarden.rules import canonical, checkpoint, journal_check, tree
from vmwarden.rules.journal_check import StoredRecord
from vmwarden.store import journal_head, journal_reader
from vmwarden.store.journal import open_journal
from vmwarden.testing.owners import private_key
from vmwarden.testing.state import NOW, VM

KEY = private_key("identity")
#: the least that open_journal takes, so that a segment is sealed soon
_SEGMENT_BYTES = 256 * 1024


def _room() -> Path:
    return layout().state / "journals"


@cache
def _genuine(*, closed: bool = False) -> dict[str, bytes]:
    """Files of a journal by name, with a sealed segment.  While it is written a WAL stands there too, and
    hides most of the database; closed: there is none."""
    room = _room()
    shutil.rmtree(room, ignore_errors=True)
    room.mkdir(mode=0o700)
    journal, findings = _opened(room)
    assert not findings
    size = 0
    while not any(".sealed-" in path.name for path in room.iterdir()):
        size += 1
        body = {"event": "link.changed", "detail": "x" * 3_000, "strong": bool(size % 2)}
        journal.append("event", body, NOW)
    for number in range(40):
        journal.append("event", {"event": "e", "detail": str(number) * 200, "strong": False}, NOW)
    journal.checkpoint(NOW)
    if closed:
        journal.close()
    found = {path.name: path.read_bytes() for path in room.iterdir() if not path.name.endswith(".reserve")}
    journal.close()
    return found


def _opened(room: Path):  # type: ignore[no-untyped-def]
    return open_journal(
        room / "journal.db", signer=KEY, vm=VM, now=NOW, segment_bytes=_SEGMENT_BYTES, keep_segments=2
    )


def _name(suffix: str) -> str:
    if suffix != ".sealed":
        return f"journal.db{suffix}"
    return next(name for name in _genuine() if ".sealed-" in name)


def _whole_and_broken(suffix: str) -> Sequence[bytes]:
    whole = _genuine(closed=not suffix)[_name(suffix)]
    return [whole, whole, whole, bytes(len(whole))]


def _file(suffix: str, data: bytes) -> None:
    """Another warden finds it so."""
    _put(_genuine(closed=not suffix) | {_name(suffix): data})


def _beside(data: bytes) -> None:
    """A file of any name lies beside the journal."""
    name = os.fsdecode(data.replace(b"\0", b"").replace(b"/", b"")[:200])
    _put(_genuine() | {name or "x": b"x"} if name not in (".", "..") else _genuine())


def _put(files: dict[str, bytes]) -> None:
    room = _room()
    shutil.rmtree(room, ignore_errors=True)
    room.mkdir(mode=0o700)
    for name, whole in files.items():
        (room / name).write_bytes(whole)
        (room / name).chmod(0o600)
    path = room / "journal.db"
    _read(path)
    journal, _ = _opened(room)
    try:
        for number in range(3):
            journal.append("event", {"event": "e", "detail": str(number), "strong": False}, NOW)
        journal.checkpoint(NOW)
    except JournalError:
        pass
    journal.room()
    journal.head()
    journal.close()
    _read(path)


def _read(path: Path) -> None:
    for read in (journal_reader.verify, lambda path: sum(1 for _ in journal_reader.export(path))):
        try:
            read(path)
        except (JournalError, UntrustedInput, WorldError):
            continue


@cache
def _exported() -> bytes:
    room = _room()
    _file("", _genuine()["journal.db"])
    small = room / "small.db"
    journal, _ = open_journal(small, signer=KEY, vm=VM, now=NOW)
    for number in range(3):
        journal.append("event", {"event": "e", "detail": str(number), "strong": False}, NOW)
    journal.checkpoint(NOW)
    journal.close()
    return b"".join(journal_reader.export(small))


def _export(data: bytes) -> None:
    path = _room() / "export.jsonl"
    _room().mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(data)
    newest = journal_reader.verify(path)[-1].newest
    # one that was cut back to an earlier checkpoint is whole; only a note from outside tells it
    signed = [json.loads(line) for line in _exported().splitlines() if b'"type":"checkpoint"' in line]
    if newest.note not in [one["checkpoint"]["note"] for one in signed]:
        raise AssertionError("a changed export is verified")


def _head(data: bytes) -> None:
    found = journal_head.highest(data, key=KEY.public_key(), name=checkpoint.origin(VM))
    assert found is None or found.note.encode() in _genuine()[_name(".head")]


def _notes() -> Sequence[bytes]:
    own = checkpoint.sign(checkpoint.origin(VM), size=2, root=tree.EMPTY_ROOT, key=KEY)
    other = checkpoint.sign(checkpoint.origin("payments-2"), size=4711, root=tree.EMPTY_ROOT, key=KEY)
    witness = own.note + "— witness.example AAAAAAAA" + "A" * 83 + "=\n"
    return [own.note.encode(), other.note.encode(), witness.encode()]


def _note(data: bytes) -> None:
    note = data.decode("utf-8", "replace")
    for read in (checkpoint.size_of, checkpoint.root_of):
        try:
            read(note)
        except UntrustedInput:
            continue
    checkpoint.verify_stored(note, key=KEY.public_key(), name=checkpoint.origin(VM))
    if data not in _notes():
        raise AssertionError("a changed note is verified")


def _bases() -> Sequence[bytes]:
    key = checkpoint.key_line(KEY.public_key())
    hashes = tuple(bytes([n] * 32).hex() for n in range(3))
    return [
        canonical.encode(JournalBase(origin=checkpoint.origin(VM), key=key)),
        canonical.encode(
            JournalBase(origin=checkpoint.origin(VM, "0" * 16), key=key, first_seq=7, frontier=hashes)
        ),
    ]


def _base(data: bytes) -> None:
    journal_check.read_base(data)


def _record(data: bytes) -> None:
    journal_check.read_record(StoredRecord(3, data, tree.leaf(data)), seq=3)


def _records() -> Sequence[bytes]:
    return [
        line.partition(b'"record":')[2][:-1].partition(b',"type":')[0]
        for line in _exported().split(b"\n")
        if b'"type":"record"' in line
    ]


_REFUSED = (Tampered, JournalFull, UntrustedInput, WorldError)

TARGETS = (
    *(
        Target(
            name=f"journal.db{suffix}",
            seeds=partial(_whole_and_broken, suffix),
            run=partial(_file, suffix),
            counts=(8, 1_000),
            within_s=1.0,
        )
        for suffix in ("", "-wal", "-shm", ".head", ".sealed")
    ),
    Target(
        name="journal-names",
        seeds=lambda: [*(name.encode() for name in _genuine()), b"journal.db.aside-1", b"journal.db.new-wal"],
        run=_beside,
        counts=(8, 800),
        within_s=1.0,
    ),
    Target(name="journal-head", seeds=lambda: [_genuine()[_name(".head")]], run=_head, raises=_REFUSED),
    Target(
        name="journal-export", seeds=lambda: [_exported()], run=_export, raises=_REFUSED, counts=(200, 60_000)
    ),
    Target(name="journal-note", seeds=_notes, run=_note, raises=_REFUSED),
    Target(name="journal-base", seeds=_bases, run=_base, raises=_REFUSED, form="json"),
    Target(name="journal-record", seeds=_records, run=_record, raises=_REFUSED, form="json"),
)
