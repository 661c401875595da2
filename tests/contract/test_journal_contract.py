# SPDX-License-Identifier: Apache-2.0
"""ports.journal: one suite for the journal on disk and the one in memory."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vmwarden.errors import BugError
from vmwarden.model.journal import RECORD_BYTES
from vmwarden.model.moment import Moment
from vmwarden.ports.journal import Journal
from vmwarden.rules import canonical, checkpoint, tree
from vmwarden.store.journal import open_journal
from vmwarden.store.unkept import Unkept
from vmwarden.testing.journal import SEED, MemoryJournal

KEY = Ed25519PrivateKey.from_private_bytes(SEED)
NOW = Moment(boot_ms=5, utc_ms=1_790_000_000_000, boot_id="b")
Make = Callable[[], Journal]


@pytest.fixture(params=["sqlite", "memory"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    opened = []

    def sqlite() -> Journal:
        journal, findings = open_journal(tmp_path / "journal.db", signer=KEY, vm="test-vm", now=NOW)
        assert findings == ()
        opened.append(journal)
        return journal

    yield sqlite if request.param == "sqlite" else MemoryJournal
    for one in opened:
        one.close()


def test_a_new_journal_holds_one_record(make: Make) -> None:
    journal = make()
    assert journal.head()[0] == 1
    assert journal.room()


def test_records_are_numbered_without_gaps_and_returned_as_read(make: Make) -> None:
    journal = make()
    for seq in range(1, 6):
        made = journal.append("event", {"n": seq, "t": ("a", "b")}, NOW)
        assert (made.seq, made.kind, made.body) == (seq, "event", {"n": seq, "t": ["a", "b"]})
        assert (made.utc_ms, made.boot_ms, made.boot_id) == (NOW.utc_ms, NOW.boot_ms, NOW.boot_id)
    assert journal.head()[0] == 6


def test_the_root_grows_by_the_leaf_of_the_record(make: Make) -> None:
    journal = make()
    before = journal.head()
    made = journal.append("event", {}, NOW)
    again = make().head() if isinstance(journal, MemoryJournal) else before
    assert again == before  # the same beginnings give the same root: nothing random is signed
    size, root = journal.head()
    assert size == 2
    assert root == tree.node(bytes.fromhex(before[1]), tree.leaf(canonical.encode(made))).hex()


def test_a_checkpoint_is_signed_over_everything(make: Make) -> None:
    journal = make()
    journal.append("warden.started", {}, NOW)
    made = journal.checkpoint(NOW)
    assert (made.size, made.root) == journal.head()
    name = checkpoint.origin("test-vm")
    assert checkpoint.verify_stored(made.note, key=KEY.public_key(), name=name) == made


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("no.such-kind", {}),
        ("event", {"x": 1.5}),
        ("event", {"x": "y" * RECORD_BYTES}),
        ("event", {"x": object()}),
    ],
)
def test_what_cannot_be_written_is_our_bug_and_changes_nothing(
    make: Make, kind: str, body: dict[str, object]
) -> None:
    journal = make()
    before = journal.head()
    with pytest.raises(BugError):
        journal.append(kind, body, NOW)
    assert journal.head() == before
    assert journal.append("event", {}, NOW).seq == 1


def test_nothing_kept_is_a_journal_too() -> None:
    kept: Journal = Unkept()
    assert kept.head() == (0, tree.EMPTY_ROOT.hex())
    assert kept.room()
