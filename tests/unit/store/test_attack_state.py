# SPDX-License-Identifier: Apache-2.0
"""What fuzzing found in files of the state: each ended the warden, or made it forget."""

import os
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from vmwarden.errors import Malformed, Tampered
from vmwarden.model.escalation import Escalation, Incident
from vmwarden.model.installed import Change, Floors, Outcome, Pending, Session, Slot, Unrecorded
from vmwarden.rules import canonical, record
from vmwarden.rules.delivery import settle
from vmwarden.rules.installation import judge
from vmwarden.store import incidents, unrecorded
from vmwarden.store.delivery import apply
from vmwarden.store.identity import identity_key
from vmwarden.store.journal import open_journal
from vmwarden.store.journal_reader import verify
from vmwarden.store.layout import Layout
from vmwarden.testing.owners import private_key
from vmwarden.testing.state import NOW, VM, closed_rules, confirmed, file, on_trial, policy, trial

ENFORCE = policy(5, "enforce")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    found = Layout.below(tmp_path)
    found.state.mkdir(parents=True, mode=0o700)
    return found


def put(layout: Layout, slot: Slot, data: bytes) -> None:
    layout.path(slot).write_bytes(data)
    layout.path(slot).chmod(0o600)


def recorded(changes: tuple[Change, ...]) -> list[str]:
    """Kinds of the records that the warden makes of these; BugError ends it."""
    return [record.make(change.kind, change.body, NOW, seq=0)[0].kind for change in changes]


def test_an_identity_that_wants_a_passphrase_is_none(layout: Layout) -> None:
    locked = private_key("identity").private_bytes(
        Encoding.PEM, PrivateFormat.OpenSSH, BestAvailableEncryption(b"secret")
    )
    put(layout, Slot.IDENTITY, locked)

    with pytest.raises(Malformed, match="password"):
        identity_key(layout)


def test_a_journal_may_lie_below_a_folder_whose_name_is_no_text(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"\xff\xfe")
    folder.mkdir()

    journal, findings = open_journal(folder / "journal.db", signer=private_key("identity"), vm=VM, now=NOW)

    assert not findings
    assert journal.append("event", {}, NOW).seq == 1


@pytest.mark.parametrize("forgotten", [2**53, 2**64 - 1, 10**4299])
def test_changes_beyond_number_were_forgotten_by_a_damaged_file(layout: Layout, forgotten: int) -> None:
    put(layout, Slot.UNRECORDED, b'{"forgotten":%d,"format":"vmwarden.unrecorded/1"}' % forgotten)

    assert recorded(unrecorded.peek(layout)) == ["changes.forgotten"]
    unrecorded.add(layout, (Change("vm.enrolled", {"vm": VM}),), NOW)
    assert recorded(unrecorded.peek(layout)) == ["changes.forgotten", "vm.enrolled"]


def test_the_highest_number_of_forgotten_changes_can_be_exceeded(layout: Layout) -> None:
    put(layout, Slot.UNRECORDED, canonical.encode(Unrecorded(forgotten=2**53 - 1)))

    unrecorded.add(layout, tuple(Change("vm.enrolled", {"vm": VM}) for _ in range(30)), NOW)

    assert "changes.forgotten" in recorded(unrecorded.peek(layout))


@pytest.mark.parametrize("version", [-1, 2**53, 2**64, 10**4299])
def test_a_trial_of_an_impossible_version_is_no_trial(version: int) -> None:
    pending = canonical.decode(trial(policy(6, "enforce"), None), Pending, limit=9999, what="x")
    damaged = msgspec.structs.replace(pending, version=version)
    state = on_trial(policy(6, "enforce"), confirmed(ENFORCE)) | {Slot.PENDING: canonical.encode(damaged)}

    plan = settle(state, NOW, closed_rules=closed_rules)

    assert recorded(plan.changes) == ["policy.restored"]
    assert judge(plan.cells).outcome is Outcome.ENFORCE


def test_what_is_said_of_a_damaged_trial_fits_a_record() -> None:
    damaged = b'{"format":"%s"}' % (b"x" * 65_500)

    plan = settle(confirmed(ENFORCE) | {Slot.PENDING: damaged}, NOW, closed_rules=closed_rules)

    assert recorded(plan.changes) == ["pending.dropped"]
    assert len(plan.changes[0].body["why"]) < 1_000


def test_floors_that_forget_that_their_policy_enforces_take_no_latch_away() -> None:
    state = confirmed(ENFORCE)
    floors = canonical.decode(state[Slot.FLOORS], Floors, limit=9999, what="x")  # type: ignore[arg-type]
    forgetful = canonical.encode(msgspec.structs.replace(floors, enforcing=False))

    plan = settle(state | {Slot.FLOORS: forgetful}, NOW, closed_rules=closed_rules)

    assert plan.cells[Slot.FLOORS] == state[Slot.FLOORS]
    assert plan.cells[Slot.ARMED] == state[Slot.ARMED]
    lost = {**plan.cells, Slot.POLICY: None}
    assert judge(settle(lost, NOW, closed_rules=closed_rules).cells).outcome is Outcome.CLOSED


def test_floors_that_are_mended_keep_the_owners_that_were_seen() -> None:
    state = confirmed(ENFORCE)
    floors = canonical.decode(state[Slot.FLOORS], Floors, limit=9999, what="x")  # type: ignore[arg-type]
    older = msgspec.structs.replace(floors, enforcing=False, owners_version=0)

    plan = settle(state | {Slot.FLOORS: canonical.encode(older)}, NOW, closed_rules=closed_rules)

    assert plan.cells[Slot.FLOORS] == state[Slot.FLOORS]


@pytest.mark.parametrize("number", [-1, 2**53, 10**4300 - 1])
def test_an_incident_of_impossible_age_is_not_remembered(layout: Layout, number: int) -> None:
    one = Incident(fence="place", kind="wrong", since_boot_ms=1, boot_id="boot-1", carried_ms=number)
    put(layout, Slot.INCIDENTS, canonical.encode(Escalation(incidents=(one,))))

    found = incidents.load(layout)

    assert found.escalation == Escalation()
    assert found.finding is not None and len(found.finding.found) < 1_000


def test_a_journal_whose_tables_have_names_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal, _ = open_journal(path, signer=private_key("identity"), vm=VM, now=NOW)
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"CHECK (only_row", b"CH\xb7\xbe\x92 (only_row"))

    journal, findings = open_journal(path, signer=private_key("identity"), vm=VM, now=NOW)

    assert [finding.id for finding in findings] == ["journal.corrupt"]
    assert journal.append("event", {}, NOW).seq == 1
    with pytest.raises(Tampered):
        verify(path.with_name("journal.db.aside-1"))


def test_the_highest_version_of_a_policy_can_be_recorded_and_no_higher_one_is_read(layout: Layout) -> None:
    for slot, cell in confirmed(ENFORCE).items():
        assert isinstance(cell, bytes)
        layout.path(slot).parent.mkdir(parents=True, exist_ok=True)
        put(layout, slot, cell)

    def give(version: int) -> tuple[Change, ...]:
        given = file(policy(version, "enforce"))
        return apply(layout, given, now=NOW, utc_ms=None, session=Session(), closed_rules=closed_rules)

    with pytest.raises(Malformed):
        give(2**53)
    assert recorded(give(2**53 - 1)) == ["policy.applied", "policy.confirmed"]
