# SPDX-License-Identifier: Apache-2.0
"""Delivery and enrolment on a real disk."""

from pathlib import Path

import pytest

from vmwarden.errors import BadSignature, Expired, FileUnavailable, Malformed, UsageError
from vmwarden.model.enrolment import Enrolment
from vmwarden.model.escalation import Escalation, Incident
from vmwarden.model.installed import Cell, Installed, Outcome, Put, Session, Slot
from vmwarden.model.moment import Moment
from vmwarden.model.posture import Posture
from vmwarden.rules import canonical
from vmwarden.rules.delivery import purge_order
from vmwarden.rules.installation import judge
from vmwarden.store import cells, delivery, enrolment_file, floors, incidents
from vmwarden.store.cells import StateDisk, carry_out
from vmwarden.store.installed import load
from vmwarden.store.layout import Layout
from vmwarden.testing.disk import CutOffDisk
from vmwarden.testing.owners import owners, signed_owners, signed_purge
from vmwarden.testing.state import NOW, OWNERS, VM, closed_rules, confirmed, file, on_trial, policy

LATER = Moment(boot_ms=NOW.boot_ms + 120_000, utc_ms=NOW.utc_ms + 120_000, boot_id=NOW.boot_id)
SOON = Moment(boot_ms=NOW.boot_ms + 1_000, utc_ms=NOW.utc_ms + 1_000, boot_id=NOW.boot_id)
FIVE, SIX = policy(5, "enforce"), policy(6, "observe")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout.below(tmp_path)


def write(layout: Layout, state: dict[Slot, Cell]) -> None:
    carry_out((Put(slot, data) for slot, data in state.items() if isinstance(data, bytes)), StateDisk(layout))


def apply(layout: Layout, data: bytes, *, within_ms: int | None = None) -> list[str]:
    changes = delivery.apply(
        layout,
        data,
        now=NOW,
        utc_ms=NOW.utc_ms,
        session=Session(),
        closed_rules=closed_rules,
        within_ms=within_ms,
    )
    return [change.kind for change in changes]


def confirm(layout: Layout, now: Moment) -> list[str]:
    changes = delivery.confirm(layout, now=now, session=Session(), closed_rules=closed_rules)
    return [change.kind for change in changes]


def essence(found: Installed) -> tuple[object, ...]:
    return (found.outcome, found.policy, found.armed, found.confirmed)


def test_from_nothing_to_armed_and_back(layout: Layout) -> None:
    assert [f.id for f in load(layout, NOW).findings] == ["enrolment.none"]
    enrolment_file.enrol(layout, vm=VM, owners=canonical.encode(OWNERS))
    assert [f.id for f in load(layout, NOW).findings] == ["policy.none"]
    apply(layout, file(FIVE))
    assert essence(load(layout, NOW)) == (Outcome.ENFORCE, FIVE, True, True)
    assert layout.closed_rules.read_text() == closed_rules(FIVE)
    apply(layout, file(SIX), within_ms=120_000)
    assert essence(load(layout, SOON)) == (Outcome.OBSERVE, SIX, True, False)
    assert confirm(layout, SOON) == ["policy.confirmed", "vm.disarmed"]
    assert essence(load(layout, LATER)) == (Outcome.OBSERVE, SIX, False, True)
    assert not layout.armed.exists()
    assert not layout.closed_rules.exists()


def test_an_overdue_trial_counts_as_reverted_before_anybody_writes(layout: Layout) -> None:
    write(layout, on_trial(SIX, confirmed(FIVE)))
    before = cells.read(layout)
    assert essence(load(layout, LATER)) == (Outcome.ENFORCE, FIVE, True, True)
    assert cells.read(layout) == before
    with pytest.raises(FileUnavailable):
        delivery.settle(layout, LATER, closed_rules=closed_rules, disk=CutOffDisk(StateDisk(layout), after=0))
    assert essence(load(layout, LATER)) == (Outcome.ENFORCE, FIVE, True, True)


def test_the_warden_reverts_once(layout: Layout) -> None:
    write(layout, on_trial(SIX, confirmed(FIVE)))
    assert delivery.settle(layout, SOON, closed_rules=closed_rules) == ()
    done = delivery.settle(layout, LATER, closed_rules=closed_rules)
    assert [(change.kind, change.body["why"]) for change in done] == [("policy.reverted", "not confirmed")]
    assert delivery.settle(layout, LATER, closed_rules=closed_rules) == ()
    assert layout.path(Slot.POLICY).read_bytes() == file(FIVE)


def test_confirming_too_late_reverts_and_says_so(layout: Layout) -> None:
    write(layout, on_trial(SIX, confirmed(FIVE)))
    with pytest.raises(Expired, match="too late"):
        confirm(layout, LATER)
    assert layout.path(Slot.POLICY).read_bytes() == file(FIVE)
    assert not layout.path(Slot.PENDING).exists()


def test_settling_nothing_makes_nothing(layout: Layout) -> None:
    assert delivery.settle(layout, NOW, closed_rules=closed_rules) == ()
    assert delivery.prepare_image(layout) == ()
    assert not layout.state.exists()


def test_owners_are_recognised_and_rotated(layout: Layout) -> None:
    state = confirmed(FIVE) | {Slot.POLICY: file(FIVE, "ada", "bob", "cyd")}
    write(layout, state)
    successor = owners("bob", "cyd", version=2, policy_threshold=2, owners_threshold=2)
    with pytest.raises(UsageError, match="rotate at once"):
        apply(layout, signed_owners(successor, "bob", "cyd"), within_ms=120_000)
    assert apply(layout, signed_owners(successor, "bob", "cyd")) == ["owners.rotated"]
    assert layout.owners.read_bytes() == canonical.encode(successor)


def test_an_order_to_purge_is_not_applied(layout: Layout) -> None:
    write(layout, confirmed(FIVE))
    order = signed_purge(purge_order(cells.read(layout)), "ada", "bob")
    with pytest.raises(Malformed, match="order to purge"):
        apply(layout, canonical.encode(order))
    assert [change.kind for change in delivery.purge(layout, order)] == ["vm.purged"]
    assert essence(load(layout, NOW)) == (Outcome.OBSERVE, None, False, False)


# -- enrolment ---------------------------------------------------------------------------------------


def enrol(layout: Layout, **changes: object) -> Enrolment:
    given: dict[str, object] = {"vm": VM, "owners": canonical.encode(OWNERS)} | changes
    return enrolment_file.enrol(layout, **given)  # type: ignore[arg-type]


def test_enrolment_is_one_life(layout: Layout) -> None:
    enrolment = enrol(layout, generation=3)
    assert (enrolment.vm, enrolment.generation) == (VM, 3)
    found = load(layout, NOW)
    assert (found.enrolment, found.owners) == (enrolment, OWNERS)
    assert [f.id for f in found.findings] == ["policy.none"]
    with pytest.raises(UsageError, match="enrolled already"):
        enrol(layout)


@pytest.mark.parametrize("slot", [Slot.ENROLMENT, Slot.ARMED])
def test_a_damaged_enrolment_or_a_latch_refuses_a_new_one(layout: Layout, slot: Slot) -> None:
    StateDisk(layout).put(slot, b"damaged")
    with pytest.raises(UsageError):
        enrol(layout)


@pytest.mark.parametrize("name", ["", "Payments", "-a", "a/b", "a" * 64, "..\n"])
def test_a_bad_name_is_refused_before_anything_is_written(layout: Layout, name: str) -> None:
    with pytest.raises(Malformed):
        enrol(layout, vm=name)
    assert cells.present(layout) == {Slot.LOCK}


def test_two_enrolments_have_two_keys(tmp_path: Path) -> None:
    one, two = enrol(Layout.below(tmp_path / "a")), enrol(Layout.below(tmp_path / "b"))
    assert one.key != two.key


def test_an_enrolment_cut_off_anywhere_can_be_repeated(tmp_path: Path) -> None:
    for count in range(4):
        layout = Layout.below(tmp_path / str(count))
        with pytest.raises(FileUnavailable):
            enrol(layout, disk=CutOffDisk(StateDisk(layout), after=count))
        assert load(layout, NOW).enrolment is None
        assert load(layout, NOW).outcome is Outcome.OBSERVE
        enrol(layout)
        assert [f.id for f in load(layout, NOW).findings] == ["policy.none"]


def test_renewing_keeps_the_name_and_the_policy(layout: Layout) -> None:
    first = enrol(layout)
    apply(layout, file(FIVE))
    second = enrolment_file.renew(layout)
    assert (second.vm, second.generation) == (VM, 2)
    assert second.key != first.key
    assert essence(load(layout, NOW)) == (Outcome.ENFORCE, FIVE, True, True)
    assert load(layout, NOW).findings == ()
    with pytest.raises(UsageError, match="above 2"):
        enrolment_file.renew(layout, generation=2)
    assert enrolment_file.renew(layout, generation=9).generation == 9


def test_nothing_to_renew(layout: Layout) -> None:
    with pytest.raises(UsageError, match="no enrolment"):
        enrolment_file.renew(layout)


def test_owners_of_the_image_are_kept(layout: Layout) -> None:
    StateDisk(layout).put(Slot.OWNERS, canonical.encode(OWNERS))
    with pytest.raises(UsageError, match=r"another owners\.json"):
        enrol(layout, owners=canonical.encode(owners("eve")))
    enrol(layout, owners=None)
    assert load(layout, NOW).owners == OWNERS


def test_without_owners_there_is_no_enrolment(layout: Layout) -> None:
    with pytest.raises(UsageError, match="--owners"):
        enrol(layout, owners=None)


KEY = OWNERS.keys[0].key


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"version": 1, "version": 2, "keys": []}', "twice"),
        (f'{{"version": 1, "keys": [{{"name": "ada", "key": "{KEY}", "nmae": "x"}}]}}', "unknown field"),
        ('{"version": 1, "keys": []}', "keys"),
        (
            f'{{"version": 1, "keys": [{{"name": "ada", "key": "{KEY}"}}], "policy_threshold": 2}}',
            "2 signatures",
        ),
        ("not json", "owners"),
        ("[" * 100_000, "more than|owners"),
        ("[" * 50_000, "owners"),
    ],
)
def test_owners_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(Exception, match=message) as refused:
        enrolment_file.read_owners(text.encode())
    assert refused.type.__name__ in ("Malformed", "TooLarge")


def test_owners_as_people_write_them() -> None:
    text = (
        '{\n  "format": "vmwarden.owners/1",\n  "version": 1,\n  "keys": [{"name": "ada", "key": "%s"}]\n}\n'
    )
    assert enrolment_file.read_owners((text % KEY).encode()) == owners("ada")


# -- images ------------------------------------------------------------------------------------------


def test_an_image_keeps_owners_and_nothing_else(layout: Layout) -> None:
    write(layout, confirmed(policy(5, "observe")))
    (layout.state / "journal.db").write_bytes(b"x")
    (layout.state / "journal.db-wal").write_bytes(b"x")
    removed = delivery.prepare_image(layout)
    assert removed[:2] == ("journal.db", "journal.db-wal")
    assert removed[-1] == "enrolment.json"
    assert cells.present(layout) == {Slot.OWNERS, Slot.LOCK}
    assert [path.name for path in layout.state.iterdir()] == ["lock"]


def test_an_armed_vm_becomes_an_image_only_by_order(layout: Layout) -> None:
    write(layout, confirmed(FIVE))
    before = cells.read(layout)
    with pytest.raises(UsageError, match="--purge-order"):
        delivery.prepare_image(layout)
    order = purge_order(before)
    with pytest.raises(BadSignature):
        delivery.prepare_image(layout, order=signed_purge(order, "ada"))
    assert cells.read(layout) == before
    delivery.prepare_image(layout, order=signed_purge(order, "ada", "cyd"))
    assert cells.present(layout) == {Slot.OWNERS, Slot.LOCK}


def test_a_vm_that_lost_its_latch_is_still_armed_for_images(layout: Layout) -> None:
    write(layout, confirmed(FIVE) | {Slot.ARMED: None})
    with pytest.raises(UsageError):
        delivery.prepare_image(layout)


# -- floors and incidents ----------------------------------------------------------------------------


def test_the_time_floor_only_rises(layout: Layout) -> None:
    write(layout, confirmed(FIVE))
    assert floors.time_floor(layout) == 0
    assert floors.raise_time_floor(layout, 1000)
    assert not floors.raise_time_floor(layout, 999)
    assert not floors.raise_time_floor(layout, 1000)
    assert floors.time_floor(layout) == 1000
    assert judge(cells.read(layout)).confirmed


@pytest.mark.parametrize("left", [None, b"damaged"])
def test_a_time_never_makes_floors_anew(layout: Layout, left: bytes | None) -> None:
    write(layout, confirmed(FIVE) | {Slot.FLOORS: left})
    assert not floors.raise_time_floor(layout, 1000)
    assert floors.time_floor(layout) == 0
    assert load(layout, NOW).outcome is Outcome.CLOSED


def test_a_confirmation_keeps_the_time_floor(layout: Layout) -> None:
    write(layout, confirmed(FIVE))
    floors.raise_time_floor(layout, 1000)
    apply(layout, file(SIX))
    assert floors.time_floor(layout) == 1000


def test_incidents_are_remembered(layout: Layout) -> None:
    assert incidents.load(layout) == incidents.Remembered(Escalation())
    incident = Incident(fence="place", kind="wrong", carried_ms=7, since_boot_ms=5, boot_id="boot-1")
    escalation = Escalation(
        boot_id="boot-1", epoch=2, incidents=(incident,), allowed=("host",), posture=Posture.QUARANTINED
    )
    incidents.save(layout, escalation)
    assert incidents.load(layout) == incidents.Remembered(escalation)


@pytest.mark.parametrize("left", [b"", b"{}\n", b"\xff", b'{"posture":"opened"}'])
def test_unreadable_incidents_hold(layout: Layout, left: bytes) -> None:
    StateDisk(layout).put(Slot.INCIDENTS, left)
    found = incidents.load(layout)
    assert (found.escalation.posture, found.escalation.allowed) == (Posture.HELD, ())
    assert found.finding is not None
    assert found.finding.id == "incidents.unreadable"
