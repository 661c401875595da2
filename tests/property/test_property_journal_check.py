# SPDX-License-Identifier: Apache-2.0
"""rules.journal_check: nothing can be done to a journal that it does not see."""

from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from vmwarden.errors import BadSignature, Tampered, UsageError, WrongAudience
from vmwarden.model.journal import JournalBase, Record
from vmwarden.model.moment import Moment
from vmwarden.rules import canonical, checkpoint, journal_check, record, tree
from vmwarden.rules.journal_check import Checked, StoredCheckpoint, StoredRecord

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
OTHER = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
NAME = checkpoint.origin("web-1")
LINE = checkpoint.key_line(KEY.public_key())
FIRST = ("journal.started", {"origin": NAME, "key": LINE})
NOW = Moment(boot_ms=0, utc_ms=0)


@dataclass
class Journal:
    base: bytes
    records: list[StoredRecord]
    checkpoints: list[StoredCheckpoint]

    def check(self, *against: str) -> Checked:
        return journal_check.check(self.base, self.records, self.checkpoints, against=against)

    def sign(self, size: int, key: Ed25519PrivateKey = KEY, name: str = NAME) -> str:
        root = tree.root(row.leaf for row in self.records[:size])
        return checkpoint.sign(name, size=size, root=root, key=key).note


def rows(texts: list[str]) -> list[StoredRecord]:
    made = []
    for seq, text in enumerate(["", *texts]):
        kind, body = (
            ("event", {"detail": text}) if seq else ("journal.started", {"origin": NAME, "key": LINE})
        )
        now = Moment(boot_ms=seq, utc_ms=seq, boot_id="b")
        _, data = record.make(kind, body, now, seq=seq)
        made.append(StoredRecord(seq, data, tree.leaf(data)))
    return made


def journal(texts: list[str], kept: set[int]) -> Journal:
    """kept: sizes with a checkpoint, beside the one over everything."""
    made = Journal(canonical.encode(JournalBase(origin=NAME, key=LINE)), rows(texts), [])
    sizes = {size for size in kept if 0 < size <= len(made.records)} | {len(made.records)}
    made.checkpoints = [StoredCheckpoint(size, made.sign(size)) for size in sorted(sizes)]
    return made


journals = st.builds(
    journal, st.lists(st.text(max_size=12), max_size=12), st.sets(st.integers(1, 13), max_size=4)
)


def refused(bad: Journal) -> Tampered:
    with pytest.raises(Tampered) as caught:
        bad.check()
    return caught.value


def bent(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


@given(journals)
def test_what_was_written_is_accepted(good: Journal) -> None:
    checked = good.check(*(one.note for one in good.checkpoints))
    assert (checked.size, checked.checkpoints) == (len(good.records), len(good.checkpoints))


@settings(max_examples=300)
@given(journals, st.data())
def test_any_flip_in_a_record_or_its_hash_names_the_record(good: Journal, data: st.DataObject) -> None:
    seq = data.draw(st.integers(0, len(good.records) - 1))
    row = good.records[seq]
    bit = data.draw(st.integers(0, 7))
    if data.draw(st.booleans()):
        row = row._replace(data=bent(row.data, data.draw(st.integers(0, len(row.data) - 1)), bit))
    else:
        row = row._replace(leaf=bent(row.leaf, data.draw(st.integers(0, 31)), bit))
    good.records[seq] = row
    assert refused(good).seq == seq


@settings(max_examples=200)
@given(journals, st.data())
def test_any_flip_in_a_number(good: Journal, data: st.DataObject) -> None:
    bit = data.draw(st.integers(0, 62))
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(good.records) - 1))
        good.records[at] = good.records[at]._replace(seq=good.records[at].seq ^ 1 << bit)
        assert refused(good).seq == at
    else:
        at = data.draw(st.integers(0, len(good.checkpoints) - 1))
        good.checkpoints[at] = good.checkpoints[at]._replace(size=good.checkpoints[at].size ^ 1 << bit)
        refused(good)


@settings(max_examples=300)
@given(journals, st.data())
def test_any_flip_in_a_checkpoint(good: Journal, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(good.checkpoints) - 1))
    raw = good.checkpoints[at].note.encode()
    flipped = bent(raw, data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(0, 7)))
    try:
        good.checkpoints[at] = good.checkpoints[at]._replace(note=flipped.decode())
    except UnicodeDecodeError:
        return  # the store refuses it before (journal_file)
    before = good.checkpoints[at - 1].size if at else 0
    assert refused(good).seq == before


@pytest.mark.parametrize("bit", range(8))
def test_any_flip_in_the_base(bit: int) -> None:
    for first in (0, 5):
        good = whole = journal(["a", "b", "c", "d", "e", "f"], {5})
        if first:
            good = segment(whole, first)
        for at in range(len(good.base)):
            bad = Journal(bent(good.base, at, bit), good.records, good.checkpoints)
            refused(bad)


@settings(max_examples=300)
@given(journals, st.data())
def test_dropped_doubled_swapped_inserted(good: Journal, data: st.DataObject) -> None:
    seq = data.draw(st.integers(0, len(good.records) - 1))
    how = data.draw(st.sampled_from(["drop", "double", "swap", "swap contents", "insert"]))
    other = data.draw(st.integers(0, len(good.records) - 1))
    kept = list(good.records)
    first = seq
    if how == "drop":
        del good.records[seq]
    elif how == "double":
        good.records.insert(seq, good.records[seq])
        first = seq + 1
    elif how == "insert":
        _, new = record.make("event", {"detail": "never"}, NOW, seq=seq)
        good.records.insert(seq, StoredRecord(seq, new, tree.leaf(new)))
        first = seq + 1 if seq else 0  # nothing begins a journal but its first record
    else:
        a, b = good.records[seq], good.records[other]
        good.records[seq], good.records[other] = b, a
        if how == "swap contents":
            good.records[seq], good.records[other] = b._replace(seq=a.seq), a._replace(seq=b.seq)
        first = min(seq, other)
    if good.records == kept:
        return
    found = refused(good)
    if how == "insert" and seq:
        # the first wrong record is the inserted one or, where a signature ends there, its whole span
        assert found.seq is not None
        assert found.seq <= first
    else:
        assert found.seq == first


@settings(max_examples=200)
@given(journals, st.data())
def test_rewriting_without_the_key(good: Journal, data: st.DataObject) -> None:
    """Somebody who can write the file and compute hashes, and does not have the key."""
    seq = data.draw(st.integers(1, len(good.records)))
    if seq == len(good.records):
        # one more record at the end
        _, new = record.make("event", {}, NOW, seq=seq)
        good.records.append(StoredRecord(seq, new, tree.leaf(new)))
    else:
        read = canonical.decode(good.records[seq].data, Record, limit=1000, what="it")
        _, new = record.make(read.kind, {"detail": "quite another text"}, NOW, seq=seq)
        good.records[seq] = StoredRecord(seq, new, tree.leaf(new))
    found = refused(good)
    assert found.seq is not None
    assert found.seq <= seq
    # the span that is named is the one of the first checkpoint over the change
    assert found.seq >= max([one.size for one in good.checkpoints if one.size <= seq], default=0)
    good.checkpoints[-1] = StoredCheckpoint(len(good.records), good.sign(len(good.records), key=OTHER))
    refused(good)


@settings(max_examples=200)
@given(journals, st.data())
def test_cut_back(good: Journal, data: st.DataObject) -> None:
    """To any size: seen at once where no checkpoint ends; else only against one from outside."""
    outside = good.checkpoints[-1].note
    size = data.draw(st.integers(0, len(good.records) - 1))
    sizes = {one.size for one in good.checkpoints}
    del good.records[size:]
    assert refused(good).seq is not None  # checkpoints beyond the end
    good.checkpoints = [one for one in good.checkpoints if one.size <= size]
    if size not in sizes:
        refused(good)
        return
    assert good.check().size == size
    with pytest.raises(Tampered, match="cut back") as caught:
        good.check(outside)
    assert caught.value.seq == size


def test_another_past_against_a_checkpoint_from_outside() -> None:
    good, other = journal(["a", "b", "c"], set()), journal(["a", "x", "c", "d"], {4})
    assert other.check().size == 5
    with pytest.raises(Tampered, match="not those of the checkpoint from outside"):
        other.check(good.checkpoints[-1].note)


def test_notes_from_outside_that_say_nothing_of_this_journal() -> None:
    good = journal(["a"], set())
    with pytest.raises(WrongAudience):
        good.check(good.sign(2, name=checkpoint.origin("web-2")))
    with pytest.raises(BadSignature):
        good.check(good.sign(2, key=OTHER))


def test_the_key_is_the_one_that_was_asked_for() -> None:
    good = journal(["a"], set())
    checked = journal_check.check(good.base, good.records, good.checkpoints, key=KEY.public_key())
    assert checked.size == 2
    with pytest.raises(Tampered, match="another key"):
        journal_check.check(good.base, good.records, good.checkpoints, key=OTHER.public_key())


def test_nothing_at_all() -> None:
    good = journal([], set())
    for records, checkpoints in (([], []), (good.records, []), ([], good.checkpoints)):
        refused(Journal(good.base, list(records), list(checkpoints)))
    for base in (b"", b"{}", b"\xff", b"[]", good.base + b" "):
        refused(Journal(base, good.records, good.checkpoints))


def test_checkpoints_out_of_order_or_doubled() -> None:
    good = journal(["a", "b"], {1, 2})
    good.checkpoints.reverse()
    refused(good)
    good = journal(["a", "b"], {1, 2})
    good.checkpoints.insert(1, good.checkpoints[0])
    refused(good)


def segment(whole: Journal, first: int) -> Journal:
    """The part from record first on, as sealing leaves it."""
    before = tree.Frontier().extend(row.leaf for row in whole.records[:first])
    _, data = record.make("journal.rotated", {"root": before.root().hex()}, NOW, seq=first)
    whole.records[first] = StoredRecord(first, data, tree.leaf(data))
    hashes = tuple(one.hex() for one in before.hashes)
    base = canonical.encode(JournalBase(origin=NAME, key=LINE, first_seq=first, frontier=hashes))
    sizes = (first, len(whole.records))
    return Journal(base, whole.records[first:], [StoredCheckpoint(size, whole.sign(size)) for size in sizes])


def test_a_segment_stands_on_what_was_signed_before_it() -> None:
    whole = journal(["a", "b", "c", "d"], set())
    outside = [whole.sign(size) for size in (2, 3)]
    good = segment(whole, 3)
    assert good.check(outside[1]).size == 5
    with pytest.raises(UsageError):
        good.check(outside[0])
    anchor, end = good.checkpoints
    refused(Journal(good.base, good.records, [end]))
    refused(Journal(good.base, good.records, [anchor]))
    refused(Journal(good.base, [], [anchor]))
    bad = Journal(good.base, good.records[1:], [anchor, end])
    assert refused(bad).seq == 3


def test_segments_follow_one_another() -> None:
    whole = journal(["a", "b", "c", "d"], set())
    before = Journal(whole.base, whole.records[:3], [StoredCheckpoint(3, whole.sign(3))]).check()
    after = segment(whole, 3).check()
    journal_check.demand_follows(before, after.base)
    with pytest.raises(Tampered, match="missing"):
        journal_check.demand_follows(before, segment(whole, 4).check().base)
    other = segment(journal(["a", "x", "c", "d"], set()), 3).check()
    with pytest.raises(Tampered, match="another past"):
        journal_check.demand_follows(before, other.base)


@given(
    st.binary(max_size=80),
    st.lists(
        st.builds(StoredRecord, st.integers(-3, 3), st.binary(max_size=40), st.binary(max_size=33)),
        max_size=3,
    ),
    st.lists(st.builds(StoredCheckpoint, st.integers(-3, 3), st.text(max_size=40)), max_size=3),
    st.booleans(),
)
def test_garbage_is_refused(
    base: bytes, records: list[StoredRecord], checkpoints: list[StoredCheckpoint], own_base: bool
) -> None:
    good = canonical.encode(JournalBase(origin=NAME, key=LINE))
    refused(Journal(good if own_base else base, records, checkpoints))
