# SPDX-License-Identifier: Apache-2.0
"""One journal file: its schema, how it is opened, and what SQLite's errors mean."""

import errno
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from vmwarden.errors import FileAbsent, JournalError, JournalFull, Tampered
from vmwarden.rules.journal_check import BASE_BYTES, StoredCheckpoint, StoredRecord
from vmwarden.rules.sha2 import sha256


class NoRoom(JournalFull):
    """Room may be what is missing: giving up the reserve may help, as against the other refusals."""


#: What the module sqlite3 raises.  What a damaged file calls its own tables stands in SQLite's messages, and
#: where that is no text the module fails to say what SQLite said.
FAILURES = (sqlite3.Error, UnicodeDecodeError)

SCHEMA = (
    "CREATE TABLE base (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), bytes BLOB NOT NULL) STRICT",
    "CREATE TABLE record (seq INTEGER PRIMARY KEY, bytes BLOB NOT NULL, leaf BLOB NOT NULL) STRICT",
    "CREATE TABLE checkpoint (size INTEGER PRIMARY KEY, note TEXT NOT NULL) STRICT",
)
PAGE_BYTES = 4096
#: bytes read at a time where a file is hashed
_PIECE = 1 << 16
_REFUSALS = frozenset(
    {
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_INTERRUPT,
    }
)
#: how long to wait for another process' lock; the warden's loop stands still meanwhile
_BUSY_S = 0.5
#: the WAL is copied into the database at this many pages (1 MiB): bounds what a full disk can take away
_WAL_PAGES = 256


def regular(path: Path) -> bool:
    """Whether a journal file stands at path; False if nothing does.

    Raises Tampered if something else does (a folder, a symbolic link, a device), JournalFull if the file
    system does not say.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    except OSError as error:
        raise unwritable(path, error) from error
    if not stat.S_ISREG(mode):
        raise Tampered(f"{path}: is not a regular file")
    return True


def connect(path: Path, *, pages: int) -> sqlite3.Connection:
    """Open for appending: every commit is on disk when it returns.  pages: hard bound on the file.

    Raises sqlite3.Error.
    """
    db = _connect(path, "mode=rw")
    try:
        db.execute("PRAGMA journal_mode=WAL").fetchone()
        db.execute("PRAGMA synchronous=FULL")
        db.execute(f"PRAGMA wal_autocheckpoint={_WAL_PAGES}")
        db.execute(f"PRAGMA journal_size_limit={_WAL_PAGES * PAGE_BYTES}")
        db.execute(f"PRAGMA max_page_count={pages}")
    except FAILURES:
        db.close()
        raise
    return db


def connect_reader(path: Path) -> sqlite3.Connection:
    """Open for reading, beside a warden that goes on writing; nothing in the file is changed.

    Raises FileAbsent, Tampered (not a database), JournalFull (the machine refuses).
    """
    try:
        if not path.exists() and not path.is_symlink():
            raise FileAbsent(f"{path}: no journal there")
        if not path.is_file():
            raise Tampered(f"{path}: is not a regular file")
        db = _connect(path, "mode=ro")
        try:
            db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except sqlite3.OperationalError as error:
            db.close()
            if not _nothing_beside(path, error):
                raise
            db = _connect(path, "mode=ro&immutable=1")
        except FAILURES:
            db.close()
            raise
    except FAILURES as error:
        raise blame(path, error) from error
    except OSError as error:
        raise FileAbsent(f"{path}: {error.strerror}") from error
    return db


def _nothing_beside(path: Path, error: sqlite3.OperationalError) -> bool:
    """Whether the file failed to open only for want of a place for the index of its WAL, on a medium that
    cannot be written, and has no WAL that would be missed."""
    wal = path.with_name(path.name + "-wal")
    refused = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
    return refused and not (wal.exists() and wal.stat().st_size)


def create(path: Path, *, base: bytes, record: StoredRecord, note: str) -> None:
    """Write a journal of one record and put it on disk; path is made anew.  Raises JournalFull."""
    try:
        path.unlink(missing_ok=True)
        for suffix in ("-journal", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        make_empty(path)
        db = _connect(path, "mode=rw")
        try:
            db.execute("PRAGMA synchronous=FULL")
            db.execute("BEGIN IMMEDIATE")
            for statement in SCHEMA:
                db.execute(statement)
            db.execute("INSERT INTO base VALUES (1, ?)", (base,))
            db.execute("INSERT INTO record VALUES (?, ?, ?)", record)
            db.execute("INSERT INTO checkpoint VALUES (?, ?)", (record.seq + 1, note))
            db.execute("COMMIT")
        finally:
            db.close()
    except OSError as error:
        raise unwritable(path, error) from error
    except sqlite3.Error as error:
        raise JournalFull(f"{path}: cannot be made: {error}") from error


def make_empty(path: Path) -> None:
    """An empty file that only this user can read: SQLite gives its own files the same mode."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))


def copy(db: sqlite3.Connection, target: Path) -> str:
    """Write all that db holds into one file without companions, on disk; its SHA-256, hex.

    Raises OSError, sqlite3.Error; then nothing new stands at target.
    """
    unfinished = target.with_name(target.name + ".new")
    unfinished.unlink(missing_ok=True)
    make_empty(unfinished)
    try:
        db.execute("VACUUM INTO ?", (str(unfinished.absolute()),))
        put_on_disk(unfinished)
        whole = sha256()
        with unfinished.open("rb") as file:
            while piece := file.read(_PIECE):
                whole.update(piece)
        unfinished.rename(target)
    except (OSError, *FAILURES):
        unfinished.unlink(missing_ok=True)
        raise
    put_on_disk(target.parent)
    return whole.hexdigest()


def put_on_disk(path: Path) -> None:
    """fsync a file or a folder.  Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def demand_schema(db: sqlite3.Connection) -> None:
    """Raise Tampered unless exactly our tables stand there: a trigger or a view could say anything."""
    found = {
        bytes(row[0] or b"").decode("utf-8", "replace") for row in db.execute("SELECT sql FROM sqlite_schema")
    }
    if found != set(SCHEMA):
        raise Tampered("the file does not have the tables of a journal")


def demand_sound(db: sqlite3.Connection) -> None:
    """Raise Tampered unless SQLite finds its own structures whole."""
    (found,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    if found != b"ok":
        raise Tampered(f"the database is damaged: {bytes(found).decode('utf-8', 'replace')}")


def base_bytes(db: sqlite3.Connection) -> bytes:
    """Raises Tampered, sqlite3.Error."""
    rows = db.execute(f"SELECT substr(bytes, 1, {BASE_BYTES + 1}) FROM base LIMIT 2").fetchall()
    if len(rows) != 1 or not isinstance(rows[0][0], bytes):
        raise Tampered("the journal's base is missing")
    return rows[0][0]


def records(db: sqlite3.Connection, *, first: int = 0) -> Iterator[StoredRecord]:
    """Rows from number first on, as they stand.  Raises Tampered, sqlite3.Error."""
    for seq, data, leaf in db.execute(
        "SELECT seq, bytes, leaf FROM record WHERE seq >= ? ORDER BY seq", (first,)
    ):
        if not (isinstance(seq, int) and isinstance(data, bytes) and isinstance(leaf, bytes)):
            raise Tampered("a record is not of the types that are written")
        yield StoredRecord(seq, data, leaf)


def checkpoints(db: sqlite3.Connection) -> Iterator[StoredCheckpoint]:
    """Rows as they stand, by size.  Raises Tampered, sqlite3.Error."""
    for size, note in db.execute("SELECT size, note FROM checkpoint ORDER BY size"):
        yield _stored(size, note)


def newest_checkpoint(db: sqlite3.Connection) -> StoredCheckpoint:
    """Raises Tampered, sqlite3.Error."""
    row = db.execute("SELECT size, note FROM checkpoint ORDER BY size DESC LIMIT 1").fetchone()
    if row is None:
        raise Tampered("the journal has no checkpoint")
    return _stored(*row)


def live_bytes(db: sqlite3.Connection) -> int:
    """What the file holds, without pages that are free to be used again."""
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    (free,) = db.execute("PRAGMA freelist_count").fetchone()
    return (int(pages) - int(free)) * PAGE_BYTES


def blame(path: Path, error: Exception) -> JournalError:
    """JournalFull where the machine refuses, Tampered where the file is not what we wrote.  error: one of
    FAILURES."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    # A file that ends in the middle of a page is damage, not a failing disk.
    if code == sqlite3.SQLITE_IOERR_SHORT_READ:
        return Tampered(f"{path}: {error}")
    # Space that a file system promised and does not have shows as an input/output error of fsync.
    if code & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return NoRoom(f"{path}: {error}")
    if code & 0xFF in _REFUSALS:
        return JournalFull(f"{path}: {error}")
    return Tampered(f"{path}: {error}")


def unwritable(path: Path, error: OSError) -> JournalFull:
    """The machine refuses."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoRoom(f"{path}: no room")
    return JournalFull(f"{path}: {error.strerror}")


def _connect(path: Path, options: str) -> sqlite3.Connection:
    # isolation_level None: transactions are begun and ended here, never by the module.
    where = quote(os.fsencode(path.absolute()))
    db = sqlite3.connect(f"file:{where}?{options}", uri=True, timeout=_BUSY_S, isolation_level=None)
    # Text as bytes: a damaged file must not raise from within the decoder.
    db.text_factory = bytes
    try:
        db.execute("PRAGMA trusted_schema=OFF")
        db.execute("PRAGMA cell_size_check=ON")
        db.execute("PRAGMA mmap_size=0")
    except FAILURES:
        db.close()
        raise
    return db


def _stored(size: object, note: object) -> StoredCheckpoint:
    if not (isinstance(size, int) and isinstance(note, bytes)):
        raise Tampered("a checkpoint is not of the types that are written")
    try:
        return StoredCheckpoint(size, note.decode())
    except UnicodeDecodeError as error:
        raise Tampered(f"checkpoint over {size} records: not text") from error
