# SPDX-License-Identifier: Apache-2.0
"""Changes wait for the journal."""

from pathlib import Path

import pytest

from vmwarden.model.installed import Change, Slot
from vmwarden.model.journal import RECORD_BYTES
from vmwarden.rules import canonical
from vmwarden.rules.record import make
from vmwarden.store import unrecorded
from vmwarden.store.cells import StateDisk
from vmwarden.store.layout import Layout
from vmwarden.testing.state import NOW


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout.below(tmp_path)


def change(number: int) -> Change:
    return Change("policy.confirmed", {"name": "payments", "version": number, "mode": "enforce"})


def versions(layout: Layout) -> list[object]:
    return [one.body.get("version", one.body.get("count")) for one in unrecorded.peek(layout)]


def test_nothing_is_kept_for_nothing(layout: Layout) -> None:
    unrecorded.add(layout, (), NOW)
    assert not layout.state.exists()
    assert unrecorded.peek(layout) == ()


def test_changes_wait_in_order_with_their_time(layout: Layout) -> None:
    unrecorded.add(layout, (change(1), change(2)), NOW)
    unrecorded.add(layout, (change(3),), NOW)
    assert versions(layout) == [1, 2, 3]
    first = unrecorded.peek(layout)[0]
    assert first == Change("policy.confirmed", {**change(1).body, "at_utc_ms": NOW.utc_ms})


def test_only_what_was_recorded_is_forgotten(layout: Layout) -> None:
    unrecorded.add(layout, (change(1),), NOW)
    recorded = unrecorded.peek(layout)
    unrecorded.add(layout, (change(2),), NOW)
    assert not unrecorded.clear(layout, recorded)
    assert versions(layout) == [1, 2]
    assert unrecorded.clear(layout, unrecorded.peek(layout))
    assert unrecorded.peek(layout) == ()
    assert not layout.path(Slot.UNRECORDED).exists()


def test_what_has_no_room_is_counted(layout: Layout) -> None:
    for number in range(1, 24):
        unrecorded.add(layout, (change(number),), NOW)
    assert versions(layout) == [3, *range(4, 24)]
    assert unrecorded.peek(layout)[0].kind == "changes.forgotten"


@pytest.mark.parametrize("left", [b"", b"{}", b"\xff", b"x" * 100_000])
def test_damage_is_told_and_more_can_be_added(layout: Layout, left: bytes) -> None:
    StateDisk(layout).put(Slot.UNRECORDED, left)
    assert [one.kind for one in unrecorded.peek(layout)] == ["changes.forgotten"]
    unrecorded.add(layout, (change(1),), NOW)
    assert [one.kind for one in unrecorded.peek(layout)] == ["changes.forgotten", "policy.confirmed"]


def test_large_changes_leave_room_for_fewer(layout: Layout) -> None:
    keys = [f"{'n' * 63} SHA256:{'A' * 43}" for _ in range(32)]
    for version in range(25):
        unrecorded.add(layout, (Change("owners.rotated", {"version": version, "keys": keys}),), NOW)
    told = unrecorded.peek(layout)
    assert told[0] == Change("changes.forgotten", {"count": 25 - len(told) + 1})
    assert told[-1].body["version"] == 24
    assert len(told) > 5
    assert layout.path(Slot.UNRECORDED).stat().st_size <= RECORD_BYTES // 2


def test_whatever_stands_there_can_be_written_into_a_journal(layout: Layout) -> None:
    disk = StateDisk(layout)
    one = {"kind": "vm.armed", "body": {}, "utc_ms": 1, "boot_ms": 1, "boot_id": "b"}
    for odd in (
        {"kind": "no.such"},
        {"body": {"x": 1.5}},
        {"body": {"x": 2**60}},
        {"body": {"x": "y" * 40_000}},
    ):
        document = {"format": "vmwarden.unrecorded/1", "changes": [one | odd]}
        disk.put(Slot.UNRECORDED, canonical.encode(document))
        told = unrecorded.peek(layout)
        assert told == (Change("changes.forgotten", {"count": 1}),)
    disk.put(Slot.UNRECORDED, canonical.encode({"format": "vmwarden.unrecorded/1", "changes": [one]}))
    for change in unrecorded.peek(layout):
        make(change.kind, change.body, NOW, seq=0)
    assert unrecorded.peek(layout)[0].kind == "vm.armed"
