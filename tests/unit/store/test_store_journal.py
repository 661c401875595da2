# SPDX-License-Identifier: Apache-2.0
"""store.journal: what stands on disk, what is done about damage, and that nothing grows without bound."""

import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vmwarden.errors import FileAbsent, FileUnavailable, JournalError, JournalFull, Tampered, UntrustedInput
from vmwarden.model.journal import Record
from vmwarden.model.moment import Moment
from vmwarden.model.verdict import Finding
from vmwarden.rules import canonical, checkpoint, journal_check
from vmwarden.store import journal_aside, journal_head, journal_reader, journal_reserve
from vmwarden.store.journal import SqliteJournal, open_journal
from vmwarden.store.journal_paths import JournalPaths

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
OTHER = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
NAME = checkpoint.origin("web-1")
NOW = Moment(boot_ms=5, utc_ms=1_790_000_000_000, boot_id="b")


def opened(
    path: Path, *, signer: Ed25519PrivateKey = KEY, vm: str = "web-1", **bounds: int
) -> tuple[SqliteJournal, tuple[Finding, ...]]:
    return open_journal(path, signer=signer, vm=vm, now=NOW, **bounds)


#: with records of DETAIL characters some 70 fill a segment
SMALL_SEGMENT = 300_000
DETAIL = 3000


def many(path: Path, count: int, *, keep_segments: int = 8) -> SqliteJournal:
    """A journal of several segments."""
    journal, findings = opened(path, segment_bytes=SMALL_SEGMENT, keep_segments=keep_segments)
    assert findings == ()
    for n in range(count):
        journal.append("event", {"kind": "test", "detail": f"{n}".rjust(DETAIL)}, NOW)
    return journal


def written(path: Path, count: int = 20, **bounds: int) -> SqliteJournal:
    journal, findings = open_journal(path, signer=KEY, vm="web-1", now=NOW, **bounds)
    assert findings == ()
    for n in range(count):
        journal.append("event", {"kind": "test", "detail": f"number {n}"}, NOW)
    return journal


def closed(path: Path, count: int = 20, **bounds: int) -> tuple[int, str]:
    journal = written(path, count, **bounds)
    head = journal.head()
    journal.close()
    return head


def ids(findings: tuple[Finding, ...]) -> list[str]:
    return [one.id for one in findings]


def bodies(path: Path) -> list[Record]:
    rows = journal_reader.read(path).records
    return [journal_check.read_record(row, seq=row.seq) for row in rows]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


# -- what stands on disk ------------------------------------------------------------------------


def test_it_goes_on_where_it_ended(path: Path) -> None:
    head = closed(path)
    journal, findings = opened(path)
    assert findings == ()
    assert journal.head() == head
    assert journal.append("event", {}, NOW).seq == 21
    (checked,) = journal_reader.verify(path, key=KEY.public_key())
    assert checked.size == 22
    assert bodies(path)[0].body == {"origin": NAME, "key": checkpoint.key_line(KEY.public_key()), "aside": []}


def test_what_append_returned_survives_the_death_of_the_process(path: Path, tmp_path: Path) -> None:
    journal = written(path)
    copies = tmp_path / "after"
    copies.mkdir()
    for one in tmp_path.glob("journal.db*"):
        shutil.copy(one, copies)  # a process that dies closes nothing: the WAL is still there
    assert (copies / "journal.db-wal").stat().st_size > 0
    again, findings = opened(copies / "journal.db")
    assert findings == ()
    assert again.head() == journal.head()


def test_only_this_user_can_read_any_of_it(path: Path, tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        journal = many(path, 200)
        assert {one.stat().st_mode & 0o777 for one in tmp_path.iterdir()} == {0o600}
        assert len(JournalPaths(path).sealed()) >= 2
        journal.close()
        path.chmod(0o666)
        opened(path, segment_bytes=SMALL_SEGMENT)
        assert path.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(old)


def test_checkpoints_are_kept_when_asked_for_and_every_so_many_records(path: Path) -> None:
    journal, _ = opened(path, keep_every=10)
    for n in range(34):
        journal.append("event", {}, NOW)
        if n == 3:
            asked = journal.checkpoint(NOW)
    sizes = [one.size for one in journal_reader.read(path).checkpoints]
    # 1: the first; 5: asked for; every ten from there on; 35: over everything, as after every record
    assert sizes == [1, 5, 15, 25, 35]
    assert asked.note in [one.note for one in journal_reader.read(path).checkpoints]
    journal.close()
    again, _ = opened(path, keep_every=10)
    again.append("event", {}, NOW)
    assert [one.size for one in journal_reader.read(path).checkpoints] == [*sizes, 36]


def test_readers_go_beside_the_writer_and_change_nothing(path: Path) -> None:
    journal = written(path, 5)
    db = sqlite3.connect(path)
    db.execute("BEGIN")
    assert db.execute("SELECT count(*) FROM record").fetchone() == (6,)
    journal.append("event", {}, NOW)  # does not wait for the reader
    assert db.execute("SELECT count(*) FROM record").fetchone() == (6,)
    db.close()
    assert journal_reader.verify(path)[0].size == 7


def test_somebody_else_who_writes_is_noticed_with_the_next_record(path: Path) -> None:
    journal = written(path, 5)
    second, findings = opened(path)
    assert findings == ()
    second.append("event", {"from": "the second"}, NOW)
    with pytest.raises(Tampered, match="somebody else wrote"):
        journal.append("event", {}, NOW)
    # both had the key: the next append opens what stands there, which is whole
    assert journal.append("event", {}, NOW).seq == 7


def test_a_lock_that_stays_is_a_refusal_not_a_hang(path: Path) -> None:
    journal = written(path, 5)
    db = sqlite3.connect(path)
    db.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalFull, match="locked"):
        journal.append("event", {}, NOW)
    db.execute("ROLLBACK")
    assert journal.append("event", {}, NOW).seq == 6
    assert JournalPaths(path).reserve.exists()  # room was not what was missing


# -- damage -------------------------------------------------------------------------------------


def cut(path: Path, size: int) -> None:
    os.truncate(path, size)


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def sql(path: Path, *statements: str) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        db.execute(statement)
    db.close()


def replace_by(path: Path, other: Callable[[Path], object]) -> None:
    path.unlink()
    other(path)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "header": lambda path: overwrite(path, 0, b"x" * 16),
    "header page size": lambda path: overwrite(path, 16, b"\x03\x03"),
    "schema page": lambda path: overwrite(path, 100, b"\xff" * 200),
    "every page but the first": lambda path: overwrite(
        path, 4096, random.Random(1).randbytes(path.stat().st_size - 4096)
    ),
    "cut in a page": lambda path: cut(path, path.stat().st_size - 1000),
    "cut at a page": lambda path: cut(path, 4096),
    "cut to nothing": lambda path: cut(path, 0),
    "no database": lambda path: path.write_bytes(b"hello" * 1000),
    "another database": lambda path: replace_by(path, lambda new: sql(new, "CREATE TABLE x (y)")),
    "a database of zeros": lambda path: path.write_bytes(bytes(8192)),
    "a trigger": lambda path: sql(
        path, "CREATE TRIGGER t AFTER INSERT ON record BEGIN DELETE FROM checkpoint; END"
    ),
    "a table too few": lambda path: sql(path, "DROP TABLE checkpoint"),
    "no base": lambda path: sql(path, "DELETE FROM base"),
    "no checkpoint": lambda path: sql(path, "DELETE FROM checkpoint"),
    "no records": lambda path: sql(path, "DELETE FROM record"),
    "a record dropped": lambda path: sql(path, "DELETE FROM record WHERE seq = 7"),
    "the last record dropped": lambda path: sql(path, "DELETE FROM record WHERE seq = 20"),
    "cut back whole": lambda path: sql(
        path, "DELETE FROM record WHERE seq > 0", "DELETE FROM checkpoint WHERE size > 1"
    ),
    "a leaf bent": lambda path: sql(path, "UPDATE record SET leaf = zeroblob(32) WHERE seq = 3"),
    "a leaf of another size": lambda path: sql(path, "UPDATE record SET leaf = x'00' WHERE seq = 3"),
    "a late record bent": lambda path: sql(path, "UPDATE record SET bytes = x'7b7d' WHERE seq = 15"),
    "a note that is not text": lambda path: sql(path, "UPDATE checkpoint SET note = CAST(x'ff' AS TEXT)"),
    "records that go on, unsigned": lambda path: sql(
        path, "INSERT INTO record SELECT seq + 1, bytes, leaf FROM record WHERE seq = 20"
    ),
    "a folder": lambda path: replace_by(path, Path.mkdir),
    "a link": lambda path: replace_by(path, lambda new: new.symlink_to("/etc/hostname")),
    "a link to nowhere": lambda path: replace_by(path, lambda new: new.symlink_to("nowhere")),
    "a pipe": lambda path: replace_by(path, os.mkfifo),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damage_is_kept_aside_named_and_survived(path: Path, how: str) -> None:
    size, root = closed(path)
    DAMAGE[how](path)
    regular = path.is_file() and not path.is_symlink()
    digest = sha256(path.read_bytes()).hexdigest() if regular else ""
    with pytest.raises((Tampered, FileAbsent)):
        journal_reader.verify(path)

    journal, findings = opened(path)
    assert ids(findings) == ["journal.corrupt"]
    first = bodies(path)[0]
    assert first.kind == "journal.corrupt"
    assert first.body["file"] == "journal.db.aside-1"
    assert first.body["sha256"] == digest
    assert first.body["reason"] == findings[0].found
    # the newest checkpoint survives outside the database
    newest = first.body["newest"]
    assert (newest["size"], newest["root"]) == (size, root)
    assert checkpoint.verify_stored(newest["note"], key=KEY.public_key(), name=NAME).size == size
    kept = path.with_name("journal.db.aside-1")
    if regular:
        assert sha256(kept.read_bytes()).hexdigest() == digest
    assert kept.is_symlink() or kept.exists() or how == "gone"
    # a log never signs two pasts under one name
    assert first.body["origin"] != NAME
    assert checkpoint.vm_of(first.body["origin"]) == "web-1"

    assert journal.append("event", {}, NOW).seq == 1
    assert journal.room()
    assert journal_reader.verify(path, key=KEY.public_key())[0].size == 2
    journal.close()
    assert ids(opened(path)[1]) == []


def test_what_was_linked_to_is_left_alone(path: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    path.symlink_to(victim)
    assert ids(opened(path)[1]) == ["journal.corrupt"]
    assert victim.read_bytes() == b"precious"
    assert path.with_name("journal.db.aside-1").readlink() == victim


def test_a_write_ahead_log_that_lost_its_end(path: Path, tmp_path: Path) -> None:
    """SQLite drops the transactions without a word; the head beside the file remembers them."""
    writer = written(path, 20)  # whoever closes it takes the log away
    wal = path.with_name("journal.db-wal").read_bytes()
    for n, size in enumerate(range(0, len(wal), 5 * 4096 + 123)):
        copy = tmp_path / f"copy{n}"
        copy.mkdir()
        for one in tmp_path.glob("journal.db*"):
            if not one.name.endswith("-shm"):
                shutil.copy(one, copy)
        cut(copy / "journal.db-wal", size)
        journal, findings = opened(copy / "journal.db")
        assert ids(findings) == ["journal.corrupt"]
        assert bodies(copy / "journal.db")[0].body["newest"]["size"] == 21
        journal.close()
    writer.close()


def test_a_stale_write_ahead_log_is_harmless(path: Path, tmp_path: Path) -> None:
    """Left by another database, with an index of it: neither is applied to this journal."""
    head = closed(path)
    other = tmp_path / "other.db"
    journal = written(other, 200)
    for suffix in ("-wal", "-shm"):
        shutil.copy(f"{other}{suffix}", f"{path}{suffix}")
    journal.close()
    again, findings = opened(path)
    assert again.head() == head or ids(findings) == ["journal.corrupt"]
    assert journal_reader.verify(path)


@pytest.mark.parametrize("junk", [b"", b"junk" * 5000, bytes(32768)])
def test_junk_beside_a_closed_journal_is_harmless(path: Path, junk: bytes) -> None:
    head = closed(path)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).write_bytes(junk)
    again, findings = opened(path)
    assert (again.head(), findings) == (head, ())


def test_remains_without_the_file(path: Path) -> None:
    path.with_name("journal.db-wal").write_bytes(b"left over")
    journal, findings = opened(path)
    assert ids(findings) == ["journal.corrupt"]
    assert path.with_name("journal.db.aside-1-wal").read_bytes() == b"left over"
    assert bodies(path)[0].body["newest"] is None
    assert journal.head()[0] == 1


def test_a_crash_while_the_first_journal_is_made(path: Path) -> None:
    for left in (".new", ".new-journal", ".new-wal"):
        path.with_name(path.name + left).write_bytes(b"half")
    journal, findings = opened(path)
    assert findings == ()
    assert journal.head()[0] == 1


def test_a_crash_after_a_journal_was_set_aside_and_before_the_next_began(path: Path) -> None:
    closed(path)
    path.rename(path.with_name("journal.db.aside-1"))
    path.with_name("journal.db.head").rename(path.with_name("journal.db.aside-1.head"))
    _, findings = opened(path)
    assert findings == ()
    first = bodies(path)[0]
    assert first.kind == "journal.started"
    assert first.body["aside"] == ["journal.db.aside-1"]
    assert first.body["origin"] != NAME


@pytest.mark.parametrize("how", ["bent", "gone", "link", "other key", "long"])
def test_damage_of_the_head_alone_says_nothing_against_the_journal(path: Path, how: str) -> None:
    head = closed(path)
    beside = JournalPaths(path).head
    if how == "bent":
        beside.write_bytes(beside.read_bytes().replace(b"web-1", b"web-2"))
    elif how == "long":
        beside.write_bytes(bytes(5000))
    elif how == "other key":
        note = checkpoint.sign(NAME, size=99, root=bytes(32), key=OTHER).note
        beside.write_bytes(note.encode().ljust(1024, b"\0"))
    else:
        beside.unlink()
        if how == "link":
            beside.symlink_to(path)
    journal, findings = opened(path)
    assert ids(findings) == ([] if how == "gone" else ["journal.head-damaged"])
    assert journal.head() == head
    journal.append("event", {}, NOW)
    journal.close()
    assert opened(path)[1] == ()


def test_a_torn_slot_of_the_head_leaves_the_other(path: Path) -> None:
    closed(path)
    beside = JournalPaths(path).head
    data = beside.read_bytes()
    notes = [
        data[n : n + journal_head.SLOT_BYTES].rstrip(b"\0").decode() for n in (0, journal_head.SLOT_BYTES)
    ]
    assert sorted(checkpoint.size_of(note) for note in notes) == [20, 21]
    for torn in (0, journal_head.SLOT_BYTES):
        beside.write_bytes(data[: torn + 100] + b"torn" + data[torn + 104 :])
        left = journal_head.read(beside, key=KEY.public_key(), name=NAME)
        assert left is not None
        assert left.size in (20, 21)


def test_a_renewed_identity_begins_a_new_journal_without_alarm_of_damage(path: Path) -> None:
    closed(path)
    journal, findings = opened(path, signer=OTHER)
    assert ids(findings) == ["journal.other-signer"]
    first = bodies(path)[0]
    assert (first.kind, first.body["file"]) == ("journal.started", "journal.db.aside-1")
    assert first.body["newest"]["size"] == 21
    kept = path.with_name("journal.db.aside-1")
    assert journal_reader.verify(kept, key=KEY.public_key())[0].size == 21
    assert journal_reader.verify(path, key=OTHER.public_key())[0].size == 1
    with pytest.raises(Tampered, match="another key"):
        journal_reader.verify(path, key=KEY.public_key())
    journal.close()
    assert ids(opened(path, signer=OTHER, vm="web-2")[1]) == ["journal.other-signer"]


def test_damage_while_it_is_open(path: Path) -> None:
    journal = written(path)
    sql(path, "UPDATE checkpoint SET note = 'mine'")
    with pytest.raises(Tampered):
        journal.append("event", {}, NOW)
    assert journal.append("event", {"after": "damage"}, NOW).seq == 1
    assert bodies(path)[0].kind == "journal.corrupt"
    assert ids(journal.findings) == ["journal.corrupt"]


def test_a_disk_that_damages_every_journal_does_not_fill_itself_with_them(path: Path) -> None:
    for n in range(journal_aside.MOST_ASIDE):
        path.with_name(f"journal.db.aside-{n + 1}").write_bytes(b"x")
    path.write_bytes(b"damaged")
    journal, findings = opened(path)
    assert ids(findings) == ["journal.full"]
    assert path.read_bytes() == b"damaged"
    with pytest.raises(JournalFull, match="stand aside"):
        journal.append("event", {}, NOW)
    path.with_name("journal.db.aside-1").unlink()
    assert journal.append("event", {}, NOW).seq == 1


def test_notes_in_a_damaged_file_count_only_if_they_are_ours(path: Path) -> None:
    closed(path)
    JournalPaths(path).head.unlink()
    forged = checkpoint.sign(NAME, size=10**6, root=bytes(32), key=OTHER).note.encode()
    data = bytearray(path.read_bytes())
    data[0:16] = b"x" * 16
    path.write_bytes(bytes(data) + forged * 3)
    opened(path)
    assert bodies(path)[0].body["newest"]["size"] == 21


# -- bounds -------------------------------------------------------------------------------------


def test_older_records_are_sealed_and_the_oldest_segments_leave(path: Path, tmp_path: Path) -> None:
    journal = many(path, 400, keep_segments=2)
    size, root = journal.head()
    segments = JournalPaths(path).sealed()
    assert len(segments) == 2
    assert sum(one.stat().st_size for one in tmp_path.iterdir()) < 4 * 400_000 + 2 * 1_100_000
    verified = journal_reader.verify(path, key=KEY.public_key())
    assert verified[-1].size == size
    assert verified[-1].newest.root == root
    first = verified[0].base.first_seq
    assert 0 < first < size - 150
    seqs = [record.seq for one in (*segments, path) for record in bodies(one)]
    assert seqs == list(range(first, size))
    rotated = [record for record in bodies(path) if record.kind == "journal.rotated"]
    assert rotated[0].body["segment"] == segments[-1].name
    assert rotated[0].body["sha256"] == sha256(segments[-1].read_bytes()).hexdigest()
    assert rotated[0].body["dropped"]
    journal.close()
    again, findings = opened(path, segment_bytes=SMALL_SEGMENT, keep_segments=2)
    assert (again.head(), findings) == ((size, root), ())


def test_segments_are_verified_with_the_journal(path: Path) -> None:
    many(path, 300).close()
    first, second, third = JournalPaths(path).sealed()[-3:]
    outside = [one.note for one in journal_reader.read(second).checkpoints]
    assert journal_reader.verify(path, against=outside[1:3])
    swapped = second.read_bytes()
    sql(second, "UPDATE record SET bytes = x'7b7d' WHERE seq = (SELECT max(seq) FROM record)")
    with pytest.raises(Tampered) as caught:
        journal_reader.verify(path)
    assert second.name in str(caught.value)
    assert caught.value.seq == JournalPaths(path).first_of(third) - 1
    second.unlink()
    with pytest.raises(Tampered, match="are missing"):
        journal_reader.verify(path)
    second.write_bytes(swapped)
    assert len(journal_reader.verify(path)) >= 4
    first.unlink()
    assert journal_reader.verify(third)[0].size == JournalPaths(path).first_of(third) + len(bodies(third))


def test_a_crash_between_sealing_and_going_on(path: Path) -> None:
    """The copy stands there, the records too: both are whole, and the copy is made again."""
    many(path, 60).close()
    shutil.copy(path, JournalPaths(path).sealed_name(0, 50))
    journal, findings = opened(path, segment_bytes=SMALL_SEGMENT)
    assert findings == ()
    assert len(journal_reader.verify(path)) == 1  # a segment of records that still stand here is no past
    while journal.append("event", {"detail": "x" * DETAIL}, NOW).seq < 200:
        pass
    assert len(JournalPaths(path).sealed()) >= 2
    assert JournalPaths(path).sealed_name(0, 50) not in JournalPaths(path).sealed()
    assert journal_reader.verify(path)[-1].size == 201


def test_sealed_segments_of_a_lost_journal_go_with_it(path: Path) -> None:
    many(path, 200).close()
    names = [one.name for one in JournalPaths(path).sealed()]
    path.write_bytes(b"damaged")
    opened(path)
    assert JournalPaths(path).sealed() == ()
    for name in names:
        assert path.with_name(name.replace("journal.db", "journal.db.aside-1")).exists()


def test_when_sealing_fails_records_go_on_until_the_hard_bound(path: Path) -> None:
    bound = SMALL_SEGMENT
    journal, _ = opened(path, segment_bytes=bound)
    for size in range(1, 250):
        # a folder where the copy has to go: it refuses, as a failing disk would
        target = JournalPaths(path).sealed_name(0, size)
        target.with_name(target.name + ".new").mkdir()
    with pytest.raises(JournalFull):
        for _ in range(249):
            journal.append("event", {"detail": "x" * DETAIL}, NOW)
    size = journal.head()[0]
    assert 1.8 * bound < 4096 * (size - 1) <= 2 * bound  # one page a record of this size
    assert not journal.room()
    assert len(journal_reader.verify(path)) == 1
    for folder in path.parent.glob("journal.db.sealed-*"):
        folder.rmdir()
    assert journal.append("event", {"detail": "there is room again"}, NOW).seq == size + 1
    assert journal.room()
    assert [one.size for one in journal_reader.verify(path)] == [size, size + 2]


def test_everything_is_all_that_purge_has_to_remove(path: Path, tmp_path: Path) -> None:
    many(path, 200).close()
    path.write_bytes(b"damaged")
    written_again, _ = opened(path)
    written_again.append("event", {}, NOW)
    (tmp_path / "other.file").write_bytes(b"")
    for one in JournalPaths(path).everything():
        one.unlink()
    assert [one.name for one in tmp_path.iterdir()] == ["other.file"]


# -- no room ------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "none" / "journal.db"
    journal, findings = opened(path)
    assert ids(findings) == ["journal.full"]
    assert not journal.room()
    assert journal.head()[0] == 0
    with pytest.raises(JournalFull):
        journal.append("event", {}, NOW)
    with pytest.raises(JournalFull):
        journal.checkpoint(NOW)
    path.parent.mkdir()
    assert journal.append("event", {}, NOW).seq == 1  # tries again by itself
    assert journal.room()


def test_the_reserve_is_real_and_made_again(tmp_path: Path) -> None:
    path = tmp_path / "reserve"
    assert journal_reserve.room(path)
    assert path.stat().st_blocks * 512 >= journal_reserve.RESERVE_BYTES
    assert journal_reserve.release(path)
    assert not journal_reserve.release(path)
    path.write_bytes(b"short")
    assert journal_reserve.make(path)
    assert path.stat().st_size == journal_reserve.RESERVE_BYTES
    assert not journal_reserve.room(tmp_path / "no" / "folder")


# -- raw bytes ----------------------------------------------------------------------------------


def logical(path: Path) -> Any:
    contents = journal_reader.read(path)
    return contents.base, contents.records, contents.checkpoints


@pytest.mark.parametrize(
    ("name", "least"), [("journal.db", 25), ("journal.db-wal", 25), ("journal.db.head", 0)]
)
def test_any_flip_in_the_files_is_found_or_changes_nothing(
    path: Path, tmp_path: Path, name: str, least: int
) -> None:
    """A sample.  Bytes that hold nothing (free space in pages, counters of SQLite, frames of the WAL that
    were copied already, one of the two slots of the head) may change unseen; then every row is what it
    was."""
    journal = written(path, 60)
    if name != "journal.db-wal":
        journal.close()
    else:
        sql(path, "PRAGMA wal_checkpoint(PASSIVE)")
        for n in range(30):
            journal.append("event", {"detail": f"only in the WAL {n}"}, NOW)
    good = logical(path)
    files = {one.name: one.read_bytes() for one in tmp_path.iterdir() if not one.name.endswith("-shm")}
    journal.close()
    rng = random.Random(20261123)
    found = unchanged = 0
    for n in range(120):
        folder = tmp_path / f"flip{n}"
        folder.mkdir()
        for one, data in files.items():
            (folder / one).write_bytes(data)
        at = rng.randrange(len(files[name]))
        bent = bytes([files[name][at] ^ 1 << rng.randrange(8)])
        overwrite(folder / name, at, bent)
        try:
            journal_reader.verify(folder / "journal.db", key=KEY.public_key())
            assert logical(folder / "journal.db") == good, (
                f"flip at {at} of {name} changed what is read, unseen"
            )
            unchanged += 1
        except Tampered:
            found += 1
        shutil.rmtree(folder)
    assert found >= least
    assert unchanged > 0


def test_any_flip_is_also_survived_by_the_warden(path: Path, tmp_path: Path) -> None:
    closed(path, 60)
    data = path.read_bytes()
    rng = random.Random(7)
    for n in range(30):
        folder = tmp_path / f"flip{n}"
        folder.mkdir()
        copy = folder / "journal.db"
        at = rng.randrange(len(data))
        copy.write_bytes(data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :])
        journal, findings = opened(copy)
        assert ids(findings) in ([], ["journal.corrupt"])
        journal.append("event", {}, NOW)
        journal.close()
        shutil.rmtree(folder)


@pytest.mark.parametrize("seed", range(20))
def test_any_bytes_are_refused_not_fatal(path: Path, seed: int) -> None:
    rng = random.Random(seed)
    start = rng.choice([b"", b"SQLite format 3\0", b"{", b'{"base":{},"type":"base"}\n'])
    path.write_bytes(start + rng.randbytes(rng.choice([0, 10, 84, 4096, 20000])))
    with pytest.raises(Tampered):
        journal_reader.verify(path)
    assert ids(opened(path)[1]) == ["journal.corrupt"]


# -- exports ------------------------------------------------------------------------------------


def exported(path: Path, target: Path) -> Path:
    target.write_bytes(b"".join(journal_reader.export(path)))
    return target


def test_an_export_is_verified_without_the_vm(path: Path, tmp_path: Path) -> None:
    journal = many(path, 200)
    export = exported(path, tmp_path / "export.jsonl")
    outside, (size, _) = journal.checkpoint(NOW).note, journal.head()
    journal.close()
    for one in JournalPaths(path).everything():
        one.unlink()
    (checked,) = journal_reader.verify(export, key=KEY.public_key(), against=[outside])
    assert (checked.size, checked.base.first_seq) == (size, 0)
    journal2 = tmp_path / "again.jsonl"
    assert exported(export, journal2).read_bytes() == export.read_bytes()


def test_any_flip_drop_swap_or_cut_in_an_export_is_found(path: Path, tmp_path: Path) -> None:
    journal = written(path, 40)
    outside = journal.checkpoint(NOW).note
    data = exported(path, tmp_path / "export.jsonl").read_bytes()
    bad = tmp_path / "bad.jsonl"

    def refused(changed: bytes) -> None:
        bad.write_bytes(changed)
        with pytest.raises((Tampered, UntrustedInput)):
            journal_reader.verify(bad, key=KEY.public_key(), against=[outside])

    rng = random.Random(3)
    for _ in range(400):
        at = rng.randrange(len(data))
        refused(data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :])
    lines = data.splitlines(keepends=True)
    for n in range(len(lines)):
        kept_checkpoint = b'"type":"checkpoint"' in lines[n] and n != len(lines) - 1
        if not kept_checkpoint:  # one checkpoint less over records that later ones cover hides nothing
            refused(b"".join(lines[:n] + lines[n + 1 :]))
        refused(b"".join([*lines[: n + 1], *lines[n:]]))
        refused(b"".join(lines[:n]))
        if n:
            refused(b"".join([*lines[: n - 1], lines[n], lines[n - 1], *lines[n + 1 :]]))


# -- reading ------------------------------------------------------------------------------------


def test_readers_say_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileAbsent):
        journal_reader.read(tmp_path / "none.db")
    with pytest.raises((FileUnavailable, FileAbsent)):
        journal_reader.segments(tmp_path / "no" / "folder.db", before=1)


def test_reading_leaves_no_trace_of_a_sealed_segment(path: Path, tmp_path: Path) -> None:
    many(path, 200).close()
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir() if "sealed" in one.name}
    journal_reader.verify(JournalPaths(path).sealed()[0])
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir() if "sealed" in one.name} == before


def test_a_finding_is_one_that_findings_can_carry(path: Path) -> None:
    path.write_bytes(b"x")
    _, findings = opened(path)
    assert canonical.decode(canonical.encode(findings[0]), Finding, limit=2000, what="it") == findings[0]
    assert isinstance(Tampered("x"), JournalError)
