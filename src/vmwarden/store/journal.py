# SPDX-License-Identifier: Apache-2.0
"""The journal on disk: SQLite, one transaction a record, every record signed over.

docs/reference/journal.md tells what it holds, promises and cannot promise.
"""

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from vmwarden.errors import FileAbsent, FileUnavailable, JournalError, JournalFull, Tampered
from vmwarden.model.journal import Checkpoint, JournalBase, Record
from vmwarden.model.moment import Moment
from vmwarden.model.verdict import Answer, Finding
from vmwarden.rules import canonical, checkpoint, journal_check, record, tree
from vmwarden.store import journal_aside, journal_file, journal_head, journal_load, journal_reserve
from vmwarden.store.journal_paths import JournalPaths

#: records between two checkpoints that are kept
KEEP_EVERY = 64
#: size at which older records are sealed into a segment of their own: some 26,000 records.  Every hash in
#: the open file is computed anew at every start, before the first verdict (benchmarks/journal.py)
SEGMENT_BYTES = 8 * 1024 * 1024
#: sealed segments that stay
KEEP_SEGMENTS = 16
#: the open file may grow to this many times its bound while sealing fails; then the journal is full
_OVERGROWTH = 2
#: pages that an opening and the closing after it may need
_ROOM_PAGES = 64
#: characters of a reason that are kept
_REASON = 1000


@dataclass
class _Live:
    """An open journal, and what has to be known to go on.

    last_kept: size of the last checkpoint that stays.  used, seal_at: bytes.
    """

    db: sqlite3.Connection
    base: JournalBase
    frontier: tree.Frontier
    newest: Checkpoint
    last_kept: int
    head: journal_head.Head
    used: int
    seal_at: int


class _Lost(NamedTuple):
    """The first record of the journal after one that was set aside."""

    kind: str
    body: dict[str, Any]


class SqliteJournal:
    """ports.journal.Journal.  Make it with open_journal; one writer a file, one thread."""

    def __init__(
        self,
        path: Path,
        *,
        signer: Ed25519PrivateKey,
        vm: str,
        keep_every: int,
        segment_bytes: int,
        keep_segments: int,
    ) -> None:
        self._paths = JournalPaths(path)
        self._signer = signer
        self._vm = vm
        self._keep_every = keep_every
        self._segment_bytes = segment_bytes
        self._keep_segments = keep_segments
        self._live: _Live | None = None
        self._lost: _Lost | None = None
        self._findings: list[Finding] = []

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found whenever this journal was opened."""
        return tuple(self._findings)

    def append(self, kind: str, body: dict[str, Any], now: Moment) -> Record:
        """On disk and signed when this returns.

        Raises JournalFull (not written), Tampered (not written; the next append sets the file aside and
        begins a new journal), BugError (rules.record).
        """
        record.make(kind, body, now, seq=0)  # our bug is told also while nothing can be written
        self.open(now)
        try:
            self._seal_when_due(now)
            try:
                return self._write(kind, body, now)
            except journal_file.NoRoom as error:
                if not journal_reserve.release(self._paths.reserve):
                    raise
                self._tell_full(kind, error, now)
                return self._write(kind, body, now)
        except Tampered:
            self.close()
            raise

    def checkpoint(self, now: Moment) -> Checkpoint:
        """The signature over everything; it is kept, and on disk outside the database too."""
        self.open(now)
        live = self._opened()
        live.last_kept = live.newest.size
        try:
            live.head.write(live.newest, wait=True)
        except OSError as error:
            raise journal_file.unwritable(self._paths.head, error) from error
        return live.newest

    def head(self) -> tuple[int, str]:
        """Records written and the root over them; (0, root of nothing) while no journal is open."""
        if self._live is None:
            return 0, tree.EMPTY_ROOT.hex()
        return self._live.newest.size, self._live.newest.root

    def room(self) -> bool:
        """Whether the reserve stands (it is made again when there is room) and the disk has more."""
        if self._live is not None and self._live.used > self._most() - _ROOM_PAGES * journal_file.PAGE_BYTES:
            return False
        return journal_reserve.room(self._paths.reserve)

    def close(self) -> None:
        """End the connection.  Closing twice is no error; the next append opens again."""
        live, self._live = self._live, None
        if live is not None:
            live.head.close()
            live.db.close()

    def open(self, now: Moment) -> None:
        """Open what is there, begin what is not, set aside what is damaged.  Nothing to do when open.

        Raises JournalFull; Tampered if even a new journal does not fit itself.
        """
        if self._live is not None:
            return
        try:
            self._live = self._stand_up(now)
        except journal_file.NoRoom as error:
            if not journal_reserve.release(self._paths.reserve):
                raise
            self._live = self._stand_up(now)
            self._tell_full("the opening of the journal", error, now)
        journal_reserve.make(self._paths.reserve)

    def _stand_up(self, now: Moment) -> _Live:
        if self._lost is None:
            try:
                if journal_load.standing(self._paths):
                    return self._load()
            except journal_load.OtherSigner as error:
                self._lost = self._set_aside(error, key=error.key, vm=checkpoint.vm_of(error.base.origin))
                self._find("journal.other-signer", "a journal signed by this VM's identity", str(error))
            except Tampered as error:
                self._lost = self._set_aside(error, key=self._signer.public_key(), vm=self._vm)
                self._find("journal.corrupt", "a journal that fits itself", str(error))
        self._begin(now)
        return self._load()

    def _load(self) -> _Live:
        key, pages = self._signer.public_key(), self._most() // journal_file.PAGE_BYTES
        db, loaded = journal_load.load(self._paths, key=key, vm=self._vm, pages=pages)
        if loaded.head_damage:
            self._find("journal.head-damaged", "the newest checkpoint", loaded.head_damage)
        try:
            head = journal_head.Head(self._paths.head, loaded.newest)
        except (FileUnavailable, FileAbsent) as error:
            db.close()
            raise JournalFull(str(error)) from error
        return _Live(
            db=db,
            base=loaded.base,
            frontier=loaded.frontier,
            newest=loaded.newest,
            last_kept=loaded.newest.size,
            head=head,
            used=journal_file.live_bytes(db),
            seal_at=self._segment_bytes,
        )

    def _set_aside(self, why: Tampered, *, key: Ed25519PublicKey, vm: str) -> _Lost:
        """Keep what key signed for vm, whatever is left of it.  Raises JournalFull."""
        aside = journal_aside.set_aside(self._paths, key=key, vm=vm)
        newest = aside.newest
        said = {
            "reason": str(why)[:_REASON],
            "file": aside.name,
            "sha256": aside.sha256,
            "hashed_bytes": aside.hashed_bytes,
            "newest": {"size": newest.size, "root": newest.root, "note": newest.note} if newest else None,
        }
        return _Lost(
            "journal.started" if isinstance(why, journal_load.OtherSigner) else "journal.corrupt", said
        )

    def _begin(self, now: Moment) -> None:
        """Make a journal whose first record says how it came to be.  Raises JournalFull."""
        paths = self._paths
        try:
            aside = [path.name for path in paths.aside()]
            # A VM that ever lost a journal must not sign under the old name again.
            restart = os.urandom(8).hex() if aside or self._lost is not None else ""
            base = JournalBase(
                origin=checkpoint.origin(self._vm, restart),
                key=checkpoint.key_line(self._signer.public_key()),
            )
            said: dict[str, Any] = {"origin": base.origin, "key": base.key}
            kind, more = self._lost or _Lost("journal.started", {"aside": aside})
            said |= more
            _, data = record.make(kind, said, now, seq=0)
            leaf = tree.leaf(data)
            signed = checkpoint.sign(base.origin, size=1, root=tree.root([leaf]), key=self._signer)
            journal_file.create(
                paths.new,
                base=canonical.encode(base),
                record=journal_check.StoredRecord(0, data, leaf),
                note=signed.note,
            )
            paths.new.rename(paths.path)
            journal_file.put_on_disk(paths.path.parent)
        except OSError as error:
            raise journal_file.unwritable(paths.path, error) from error
        self._lost = None

    def _opened(self) -> _Live:
        if self._live is None:
            raise JournalFull(f"{self._paths.path}: no journal is open")
        return self._live

    def _most(self) -> int:
        return self._segment_bytes * _OVERGROWTH

    def _tell_full(self, refused: str, why: JournalFull, now: Moment) -> None:
        """Into the room that the reserve gave up."""
        self._write("journal.full", {"refused": refused, "reason": str(why)[:_REASON]}, now)

    def _write(self, kind: str, body: dict[str, Any], now: Moment) -> Record:
        """One record and the signature over everything, in one transaction.  Raises JournalFull, Tampered."""
        live = self._opened()
        try:
            with _Transaction(live.db):
                return self._write_within(live, kind, body, now)
        except journal_file.FAILURES as error:
            raise journal_file.blame(self._paths.path, error) from error

    def _write_within(self, live: _Live, kind: str, body: dict[str, Any], now: Moment) -> Record:
        if journal_file.newest_checkpoint(live.db).note != live.newest.note:
            raise Tampered(
                f"somebody else wrote to the journal after record {live.newest.size - 1}",
                seq=live.newest.size,
            )
        seq = live.frontier.size
        written, data = record.make(kind, body, now, seq=seq)
        leaf = tree.leaf(data)
        frontier = live.frontier.append(leaf)
        newest = checkpoint.sign(live.base.origin, size=seq + 1, root=frontier.root(), key=self._signer)
        live.db.execute("INSERT INTO record VALUES (?, ?, ?)", (seq, data, leaf))
        live.db.execute("INSERT INTO checkpoint VALUES (?, ?)", (newest.size, newest.note))
        if live.last_kept != live.newest.size:
            live.db.execute("DELETE FROM checkpoint WHERE size = ?", (live.newest.size,))
        used = journal_file.live_bytes(live.db)
        live.db.execute("COMMIT")
        live.frontier, live.newest, live.used = frontier, newest, used
        keep = newest.size - live.last_kept >= self._keep_every
        if keep:
            live.last_kept = newest.size
        try:
            live.head.write(newest, wait=keep)
        except OSError:
            pass  # the record is on disk and signed; an older head is a weaker bound, never a wrong one
        return written

    def _seal_when_due(self, now: Moment) -> None:
        """Raises Tampered.  When the machine refuses, records go on in the open file up to its hard bound,
        and the copy is tried again an eighth of a segment later, not with every record."""
        live = self._opened()
        if live.used < live.seal_at or live.frontier.size - live.base.first_seq < 2:
            return
        later = min(live.seal_at + self._segment_bytes // 8, self._most() - self._segment_bytes // 8)
        try:
            if journal_reserve.free(self._paths.path.parent) < live.used + journal_reserve.FREE_BYTES:
                live.seal_at = later
                return
            self._seal(live, now)
        except OSError:
            live.seal_at = later
        except journal_file.FAILURES as error:
            blamed = journal_file.blame(self._paths.path, error)
            if isinstance(blamed, Tampered):
                raise blamed from error
            live.seal_at = later

    def _seal(self, live: _Live, now: Moment) -> None:
        """Copy everything into a segment that is never written again, then go on without it.

        A crash between the two leaves the records twice; the next sealing begins with a larger copy.
        """
        paths, first, size = self._paths, live.base.first_seq, live.frontier.size
        for half_sealed in paths.sealed():
            if half_sealed.name.startswith(paths.sealed_stem(first)):
                half_sealed.unlink()
        target = paths.sealed_name(first, size)
        digest = journal_file.copy(live.db, target)
        older = [path for path in paths.sealed() if path != target]
        dropped = older[: max(0, len(older) + 1 - self._keep_segments)]
        said = {
            "segment": target.name,
            "sha256": digest,
            "first_seq": first,
            "size": size,
            "root": live.newest.root,
            "dropped": [path.name for path in dropped],
        }
        base = JournalBase(
            origin=live.base.origin,
            key=live.base.key,
            first_seq=size,
            frontier=tuple(one.hex() for one in live.frontier.hashes),
        )
        live.last_kept = size  # this checkpoint stays: it anchors the new base
        with _Transaction(live.db):
            live.db.execute("DELETE FROM record")
            live.db.execute("DELETE FROM checkpoint WHERE size <> ?", (size,))
            live.db.execute("UPDATE base SET bytes = ?", (canonical.encode(base),))
            self._write_within(live, "journal.rotated", said, now)
        live.base, live.seal_at = base, self._segment_bytes
        for path in dropped:  # recorded first, deleted after
            path.unlink(missing_ok=True)

    def _find(self, name: str, expected: str, found: str) -> None:
        self._findings.append(_finding(name, expected, found))


class _Transaction:
    """What is not committed at the end is rolled back."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, *_: object) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")


def open_journal(
    path: Path,
    *,
    signer: Ed25519PrivateKey,
    vm: str,
    now: Moment,
    keep_every: int = KEEP_EVERY,
    segment_bytes: int = SEGMENT_BYTES,
    keep_segments: int = KEEP_SEGMENTS,
) -> tuple[SqliteJournal, tuple[Finding, ...]]:
    """The journal of vm at path: begun if there is none, begun anew beside a damaged one.

    signer: the VM's enrolment identity.  keep_every: records between two checkpoints that are kept.
    segment_bytes: bound on the open file, at least 256 kB.  keep_segments: sealed ones that stay, at least 1.

    Raises nothing for what stands on disk.  Findings: journal.corrupt and journal.other-signer (the old
    file is kept aside, the first record names it), journal.head-damaged, journal.full (nothing can be
    written now; every append tries again, and raises JournalFull until it can).
    """
    journal = SqliteJournal(
        path,
        signer=signer,
        vm=vm,
        keep_every=keep_every,
        segment_bytes=segment_bytes,
        keep_segments=keep_segments,
    )
    full: tuple[Finding, ...] = ()
    try:
        journal.open(now)
    except JournalError as error:
        full = (_finding("journal.full", "a journal that can be written", str(error)),)
    return journal, journal.findings + full


def _finding(name: str, expected: str, found: str) -> Finding:
    return Finding(id=name, answer=Answer.UNKNOWN, expected=expected, found=found[:_REASON], source="journal")
