# SPDX-License-Identifier: Apache-2.0
"""Apply, confirm, revert, rotate, purge: what they leave on disk, whole and cut off."""

from collections.abc import Callable

import msgspec
import pytest

from vmwarden.errors import (
    BadSignature,
    Expired,
    FileUnavailable,
    Malformed,
    Rollback,
    UsageError,
    WorldError,
    WrongAudience,
)
from vmwarden.model.installed import Cell, Installed, Outcome, PurgeOrder, Session, Slot, Unreadable
from vmwarden.model.moment import Moment
from vmwarden.model.policy import Policy
from vmwarden.rules import canonical, delivery
from vmwarden.rules.delivery import Plan
from vmwarden.rules.installation import judge, look
from vmwarden.store.cells import carry_out
from vmwarden.testing.disk import CutOffDisk, MemoryDisk
from vmwarden.testing.owners import owners, signed_owners, signed_purge
from vmwarden.testing.state import (
    NOW,
    OWNERS,
    closed_rules,
    confirmed,
    enrolled,
    file,
    floors,
    on_trial,
    policy,
)

State = dict[Slot, Cell]
SSH_A = Session(ssh="10.20.0.9 40000 10.20.0.2 22", opened_boot_ms=10_000)
SSH_B = Session(ssh="10.20.0.9 40001 10.20.0.2 22", opened_boot_ms=70_000)


def later(ms: int) -> Moment:
    return Moment(boot_ms=NOW.boot_ms + ms, utc_ms=NOW.utc_ms + ms, boot_id=NOW.boot_id)


REBOOTED = Moment(boot_ms=5_000, utc_ms=NOW.utc_ms + 30_000, boot_id="boot-2")


def apply(
    state: State,
    data: bytes,
    *,
    within_ms: int | None = None,
    utc_ms: int | None = NOW.utc_ms,
    rules: Callable[[Policy], str] = closed_rules,
) -> Plan:
    return delivery.apply_policy(
        state, data, now=NOW, utc_ms=utc_ms, within_ms=within_ms, session=SSH_A, closed_rules=rules
    )


def confirm(state: State, session: Session = SSH_B) -> Plan:
    return delivery.confirm(state, now=later(20_000), session=session, closed_rules=closed_rules)


def load(state: State, now: Moment) -> Installed:
    """As store.installed does."""
    return judge(delivery.settle(state, now, closed_rules=closed_rules).cells)


def kinds(plan: Plan) -> list[str]:
    return [change.kind for change in plan.changes]


def cut_off_everywhere(state: State, plan: Plan) -> list[State]:
    """What lies on disk after none, one, two, … all of the plan's steps."""
    states = []
    for count in range(len(plan.steps)):
        disk = MemoryDisk(state)
        with pytest.raises(FileUnavailable):
            carry_out(plan.steps, CutOffDisk(disk, after=count))
        states.append(disk.cells)
    disk = MemoryDisk(state)
    carry_out(plan.steps, disk)
    assert disk.cells == dict(plan.cells)
    return [*states, disk.cells]


def test_an_enforce_policy_confirmed_at_once_arms() -> None:
    plan = apply(enrolled(), file(policy(5, "enforce")))
    assert kinds(plan) == ["policy.applied", "policy.confirmed", "vm.armed"]
    assert {s: v for s, v in plan.cells.items() if v is not None and s is not Slot.PENDING} == confirmed(
        policy(5, "enforce")
    )
    found = judge(plan.cells)
    assert (found.outcome, found.armed, found.confirmed) == (Outcome.ENFORCE, True, True)


def test_an_observe_policy_arms_nothing() -> None:
    plan = apply(enrolled(), file(policy(5, "observe")))
    assert kinds(plan) == ["policy.applied", "policy.confirmed"]
    assert plan.cells.get(Slot.ARMED) is None
    assert plan.cells.get(Slot.CLOSED) is None


def test_undo_is_on_disk_before_the_act() -> None:
    plan = apply(confirmed(policy(5, "enforce")), file(policy(6, "enforce")), within_ms=120_000)
    assert [step.slot for step in plan.steps] == [Slot.PREVIOUS, Slot.PENDING, Slot.POLICY]


def test_a_trial_moves_neither_floor_nor_latch() -> None:
    before = confirmed(policy(5, "enforce"))
    after = apply(before, file(policy(6, "observe")), within_ms=120_000).cells
    assert [after[s] for s in (Slot.FLOORS, Slot.ARMED, Slot.CLOSED)] == [
        before[s] for s in (Slot.FLOORS, Slot.ARMED, Slot.CLOSED)
    ]


def test_confirming_observe_disarms() -> None:
    plan = confirm(on_trial(policy(6, "observe"), confirmed(policy(5, "enforce"))))
    assert kinds(plan) == ["policy.confirmed", "vm.disarmed"]
    found = judge(plan.cells)
    assert (found.outcome, found.armed, found.confirmed) == (Outcome.OBSERVE, False, True)
    assert plan.cells[Slot.ARMED] is None
    assert plan.cells[Slot.CLOSED] is None


def test_confirming_renews_the_closed_ruleset() -> None:
    plan = confirm(on_trial(policy(6, "enforce"), confirmed(policy(5, "enforce"))))
    assert plan.cells[Slot.CLOSED] == closed_rules(policy(6, "enforce")).encode()
    assert kinds(plan) == ["policy.confirmed"]


TRIALS = {
    "first policy": (enrolled(), policy(5, "enforce")),
    "observe to enforce": (confirmed(policy(5, "observe")), policy(6, "enforce")),
    "enforce to enforce": (confirmed(policy(5, "enforce")), policy(6, "enforce")),
    "enforce to observe": (confirmed(policy(5, "enforce")), policy(6, "observe")),
    "closed to enforce": (
        confirmed(policy(5, "enforce")) | {Slot.POLICY: b"damaged"},
        policy(6, "enforce"),
    ),
    "closed by a link to enforce": (
        confirmed(policy(5, "enforce")) | {Slot.POLICY: Unreadable("is a symbolic link")},
        policy(6, "enforce"),
    ),
}
TRIAL_CASES = pytest.mark.parametrize(("before", "will"), TRIALS.values(), ids=TRIALS.keys())


def essence(found: Installed) -> tuple[object, ...]:
    return (found.outcome, found.policy, found.armed, found.confirmed)


@TRIAL_CASES
def test_a_trial_cut_off_anywhere_is_old_or_new(before: State, will: Policy) -> None:
    old, new = essence(judge(before)), (Outcome(will.mode), will, judge(before).armed, False)
    seen = [
        essence(load(state, later(1000)))
        for state in cut_off_everywhere(before, apply(before, file(will), within_ms=120_000))
    ]
    assert seen == [old] * (len(seen) - 1) + [new]


@TRIAL_CASES
def test_a_trial_cut_off_anywhere_is_reverted_by_time_and_by_a_reboot(before: State, will: Policy) -> None:
    # of a policy that nobody can copy, "missing" stays: closed all the same
    expected = essence(judge(before))
    for state in cut_off_everywhere(before, apply(before, file(will), within_ms=120_000)):
        for when in (later(120_000), later(10**9), REBOOTED):
            assert essence(load(state, when)) == expected
            settled = delivery.settle(state, when, closed_rules=closed_rules)
            for half_way in cut_off_everywhere(state, settled):
                assert essence(load(half_way, when)) == expected
            again = delivery.settle(settled.cells, when, closed_rules=closed_rules)
            assert (again.steps, again.changes) == ((), ())
            assert settled.cells.get(Slot.PENDING) is None


@TRIAL_CASES
def test_a_confirmation_cut_off_anywhere_is_old_or_new(before: State, will: Policy) -> None:
    trial = dict(apply(before, file(will), within_ms=120_000).cells)
    old = essence(load(trial, later(1000)))
    new = (Outcome(will.mode), will, will.mode == "enforce", True)
    first, *rest = cut_off_everywhere(trial, confirm(trial))
    assert essence(load(first, later(1000))) == old
    for state in rest:
        # from the first write on it is confirmed, and neither time nor a reboot takes it back
        for when in (later(1000), later(10**9), REBOOTED):
            assert essence(load(state, when)) == new


@TRIAL_CASES
def test_an_application_confirmed_at_once_and_cut_off_is_old_or_new(before: State, will: Policy) -> None:
    old, new = essence(judge(before)), (Outcome(will.mode), will, will.mode == "enforce", True)
    seen = [essence(load(state, REBOOTED)) for state in cut_off_everywhere(before, apply(before, file(will)))]
    assert seen == [old] * seen.count(old) + [new] * seen.count(new)
    assert seen[0] == old
    assert seen[-1] == new


def test_never_unarmed_by_accident() -> None:
    before = confirmed(policy(5, "enforce"))
    for will in (policy(6, "enforce"), policy(6, "observe")):
        trial = dict(apply(before, file(will), within_ms=120_000).cells)
        for state in cut_off_everywhere(before, apply(before, file(will), within_ms=120_000)):
            assert load(state, REBOOTED).armed
        if will.mode == "enforce":
            for state in cut_off_everywhere(trial, confirm(trial)):
                assert state.get(Slot.ARMED) is not None
                assert state.get(Slot.CLOSED) is not None


@pytest.mark.parametrize(
    "when",
    [
        Moment(boot_ms=NOW.boot_ms + 1000, utc_ms=NOW.utc_ms, boot_id="boot-2"),
        Moment(boot_ms=NOW.boot_ms - 1, utc_ms=NOW.utc_ms, boot_id=NOW.boot_id),
    ],
    ids=["another boot that has run longer", "a clock before the application"],
)
def test_each_sign_that_the_trial_is_over_counts_by_itself(when: Moment) -> None:
    state = on_trial(policy(6, "enforce"), confirmed(policy(5, "observe")))
    assert kinds(delivery.settle(state, when, closed_rules=closed_rules)) == ["policy.reverted"]


def test_what_was_confirmed_and_then_damaged_is_not_taken_back() -> None:
    trial = dict(apply(confirmed(policy(5, "observe")), file(policy(6, "enforce")), within_ms=120_000).cells)
    just_confirmed = cut_off_everywhere(trial, confirm(trial))[1]
    state = just_confirmed | {Slot.POLICY: b"damaged"}
    for when in (later(1), later(10**9), REBOOTED):
        assert load(state, when).outcome is Outcome.CLOSED


def test_a_confirmation_never_lowers_the_floor() -> None:
    trial = on_trial(policy(6, "observe"), confirmed(policy(5, "enforce")))
    state = cut_off_everywhere(trial, confirm(trial))[1] | {Slot.FLOORS: floors(policy(7, "enforce"))}
    found = load(state, later(1))
    assert (found.outcome, found.findings[0].id) == (Outcome.CLOSED, "policy.rolled-back")
    assert found.floors is not None
    assert found.floors.policy_version == 7


def test_just_before_the_deadline_it_still_runs() -> None:
    state = on_trial(policy(6, "enforce"), confirmed(policy(5, "observe")))
    assert delivery.settle(state, later(119_999), closed_rules=closed_rules).steps == ()
    assert kinds(delivery.settle(state, later(120_000), closed_rules=closed_rules)) == ["policy.reverted"]


def test_a_clock_of_an_earlier_boot_reverts() -> None:
    state = on_trial(policy(6, "enforce"), confirmed(policy(5, "observe")))
    plan = delivery.settle(state, REBOOTED, closed_rules=closed_rules)
    assert plan.changes[0].body["why"] == "rebooted"
    assert plan.cells[Slot.POLICY] == file(policy(5, "observe"))


def test_without_the_previous_policy_a_trial_cannot_loosen() -> None:
    state = on_trial(policy(6, "observe"), confirmed(policy(5, "enforce"))) | {Slot.PREVIOUS: b"damaged"}
    plan = delivery.settle(state, REBOOTED, closed_rules=closed_rules)
    assert kinds(plan) == ["policy.revert-impossible"]
    found = judge(plan.cells)
    assert (found.outcome, found.findings[0].id) == (Outcome.CLOSED, "policy.unapplied")


def test_without_its_note_a_trial_on_an_armed_vm_is_taken_back() -> None:
    for note in (None, b"damaged"):
        state = on_trial(policy(6, "observe"), confirmed(policy(5, "enforce"))) | {Slot.PENDING: note}
        assert judge(state).outcome is Outcome.CLOSED
        plan = delivery.settle(state, later(1), closed_rules=closed_rules)
        assert kinds(plan) == ["policy.restored"]
        assert essence(judge(plan.cells)) == (Outcome.ENFORCE, policy(5, "enforce"), True, True)


def test_latch_and_closed_ruleset_are_repaired() -> None:
    whole = confirmed(policy(5, "enforce"))
    for slot in (Slot.ARMED, Slot.CLOSED):
        for left in (None, b"damaged"):
            plan = delivery.settle(whole | {slot: left}, NOW, closed_rules=closed_rules)
            assert dict(plan.cells) == whole
            assert kinds(plan) == ["latch.repaired"]


def test_latch_and_closed_ruleset_are_repaired_during_a_trial_too() -> None:
    for will in (policy(6, "enforce"), policy(6, "observe")):
        trial = on_trial(will, confirmed(policy(5, "enforce")))
        plan = delivery.settle(
            trial | {Slot.ARMED: None, Slot.CLOSED: None}, later(1), closed_rules=closed_rules
        )
        assert dict(plan.cells) == trial


def test_a_latch_is_made_anew_where_the_policy_is_lost() -> None:
    state = confirmed(policy(5, "enforce")) | {Slot.POLICY: None, Slot.ARMED: None}
    plan = delivery.settle(state, NOW, closed_rules=closed_rules)
    assert plan.cells[Slot.ARMED] == confirmed(policy(5, "enforce"))[Slot.ARMED]
    assert judge(plan.cells).outcome is Outcome.CLOSED


def test_a_latch_left_over_is_removed_by_the_confirmed_observe_policy() -> None:
    state = confirmed(policy(6, "observe")) | {Slot.ARMED: b"left over"}
    plan = delivery.settle(state, NOW, closed_rules=closed_rules)
    assert plan.cells[Slot.ARMED] is None
    assert plan.changes[0].body == {"armed": False, "version": 6}


def test_a_ruleset_that_cannot_be_made_keeps_the_old_one_and_the_revert() -> None:
    def fails(will: Policy) -> str:
        raise WorldError(f"no user vmwarden for {will.name}")

    state = on_trial(policy(6, "enforce"), confirmed(policy(5, "enforce")))
    plan = delivery.settle(state, REBOOTED, closed_rules=fails)
    assert kinds(plan) == ["policy.reverted", "closed-rules.failed"]
    assert plan.cells[Slot.CLOSED] == closed_rules(policy(5, "enforce")).encode()
    with pytest.raises(WorldError, match="no user vmwarden"):
        apply(confirmed(policy(5, "enforce")), file(policy(6, "enforce")), rules=fails)
    with pytest.raises(WorldError, match="no user vmwarden"):
        apply(enrolled(), file(policy(6, "enforce")), rules=fails, within_ms=120_000)


# -- what is refused ---------------------------------------------------------------------------------


def test_an_older_policy_is_refused() -> None:
    with pytest.raises(Rollback):
        apply(confirmed(policy(5, "enforce")), file(policy(4, "observe")))


def test_the_same_version_with_other_content_is_refused() -> None:
    with pytest.raises(Rollback):
        apply(confirmed(policy(5, "enforce")), file(policy(5, "observe")))


def test_a_trial_does_not_move_the_floor_until_confirmed() -> None:
    state = dict(apply(confirmed(policy(5, "enforce")), file(policy(9, "enforce")), within_ms=5_000).cells)
    reverted = delivery.settle(state, REBOOTED, closed_rules=closed_rules).cells
    assert judge(apply(dict(reverted), file(policy(6, "enforce"))).cells).confirmed
    stays = confirm(state).cells
    with pytest.raises(Rollback):
        apply(dict(stays), file(policy(8, "enforce")))


def test_what_is_in_force_already_changes_nothing() -> None:
    plan = apply(confirmed(policy(5, "enforce")), file(policy(5, "enforce")))
    assert (plan.steps, plan.changes) == ((), ())


def test_the_same_policy_with_other_signatures_is_taken() -> None:
    plan = apply(confirmed(policy(5, "enforce")), file(policy(5, "enforce"), "bob", "cyd"))
    assert plan.cells[Slot.POLICY] == file(policy(5, "enforce"), "bob", "cyd")
    assert judge(plan.cells).confirmed


def test_the_period_is_judged_only_where_time_is_known() -> None:
    late = 1_830_000_000_000
    with pytest.raises(Expired):
        apply(enrolled(), file(policy(5, "enforce")), utc_ms=late)
    assert judge(apply(enrolled(), file(policy(5, "enforce")), utc_ms=None).cells).confirmed


def test_a_second_trial_is_refused_while_one_runs() -> None:
    with pytest.raises(WorldError, match="on trial for another 120 s"):
        apply(on_trial(policy(6, "enforce"), confirmed(policy(5, "enforce"))), file(policy(7, "enforce")))


@pytest.mark.parametrize("within_ms", [0, 4_999, 86_400_001])
def test_a_trial_nobody_could_confirm_is_refused(within_ms: int) -> None:
    with pytest.raises(UsageError):
        apply(enrolled(), file(policy(5, "enforce")), within_ms=within_ms)


def test_not_enrolled_takes_no_policy() -> None:
    with pytest.raises(UsageError, match="not enrolled"):
        apply({Slot.OWNERS: canonical.encode(OWNERS)}, file(policy(5, "enforce")))


def test_older_owners_take_no_policy() -> None:
    state = enrolled() | {Slot.OWNERS: canonical.encode(msgspec.structs.replace(OWNERS, version=1))}
    seen = look(state).floors.value
    assert seen is not None
    state[Slot.FLOORS] = canonical.encode(msgspec.structs.replace(seen, owners_version=2))
    with pytest.raises(Malformed, match="has seen 2"):
        apply(state, file(policy(5, "enforce")))


# -- floors that cannot be read ----------------------------------------------------------------------


@pytest.mark.parametrize("left", [None, b"damaged"])
def test_floors_are_mended_by_applying_not_below_what_the_latch_remembers(left: bytes | None) -> None:
    state = confirmed(policy(5, "enforce")) | {Slot.FLOORS: left}
    assert judge(state).outcome is Outcome.CLOSED
    with pytest.raises(Rollback):
        apply(state, file(policy(4, "observe")))
    plan = apply(state, file(policy(5, "enforce")))
    assert kinds(plan)[0] == "floors.recovered"
    assert judge(plan.cells).confirmed
    for half_way in cut_off_everywhere(state, plan):
        assert load(half_way, REBOOTED).outcome is not Outcome.OBSERVE


@pytest.mark.parametrize("lost", [Slot.ARMED, Slot.POLICY])
def test_any_file_that_still_tells_the_version_keeps_the_floor(lost: Slot) -> None:
    state = confirmed(policy(5, "enforce")) | {Slot.FLOORS: b"damaged", lost: b"damaged"}
    with pytest.raises(Rollback):
        apply(state, file(policy(4, "enforce")))
    assert judge(apply(state, file(policy(5, "enforce"))).cells).confirmed


def test_floors_mended_by_a_trial_that_is_reverted_leave_the_old_policy_in_force() -> None:
    state = confirmed(policy(5, "enforce")) | {Slot.FLOORS: None}
    trial = dict(apply(state, file(policy(6, "observe")), within_ms=120_000).cells)
    assert essence(load(trial, REBOOTED)) == (Outcome.ENFORCE, policy(5, "enforce"), True, True)


# -- confirm -----------------------------------------------------------------------------------------

TERMINAL = Session(terminals=("712:3400",), opened_boot_ms=34_000)
SUDO_IN_TERMINAL = Session(terminals=("980:9000", "712:3400"), opened_boot_ms=34_000)


@pytest.mark.parametrize(
    ("applier", "confirmer", "refused"),
    [
        (SSH_A, SSH_A, "SSH connection over which"),
        (SSH_A, SSH_B, ""),
        (SSH_A, Session(ssh="10.20.0.9 39999 10.20.0.2 22", opened_boot_ms=9_000), "older than"),
        (TERMINAL, SUDO_IN_TERMINAL, "terminal session in which"),
        (TERMINAL, Session(terminals=("1001:9100",), opened_boot_ms=91_000), ""),
        (SSH_A, Session(), ""),
        (Session(), Session(), ""),
        (Session(), SSH_B, ""),
        (Session(), SSH_A, "older than"),
    ],
)
def test_confirm_comes_over_a_new_connection(applier: Session, confirmer: Session, refused: str) -> None:
    state = on_trial(policy(6, "enforce"), confirmed(policy(5, "enforce")), session=applier)
    if refused:
        with pytest.raises(UsageError, match=refused):
            confirm(state, confirmer)
    else:
        assert judge(confirm(state, confirmer).cells).confirmed


def test_nothing_to_confirm() -> None:
    with pytest.raises(UsageError, match="nothing waits"):
        confirm(confirmed(policy(5, "enforce")))


def test_a_damaged_trial_cannot_be_confirmed() -> None:
    state = on_trial(policy(6, "enforce"), confirmed(policy(5, "enforce")))
    with pytest.raises(UsageError, match="nothing waits"):
        confirm(state | {Slot.POLICY: b"damaged"})
    with pytest.raises(Malformed, match="cannot be confirmed"):
        confirm(state | {Slot.OWNERS: b"damaged"})


def test_revert_takes_it_back_at_once() -> None:
    state = on_trial(policy(6, "enforce"), confirmed(policy(5, "enforce")))
    assert essence(judge(delivery.revert(state).cells)) == essence(judge(confirmed(policy(5, "enforce"))))
    with pytest.raises(UsageError):
        delivery.revert(confirmed(policy(5, "enforce")))


# -- owners ------------------------------------------------------------------------------------------

SUCCESSOR = owners("bob", "cyd", "dan", version=2, policy_threshold=2, owners_threshold=2)


def rotate(state: State, data: bytes) -> Plan:
    return delivery.rotate_owners(state, data, now=NOW)


def test_owners_rotate_when_old_and_new_sign() -> None:
    state = confirmed(policy(5, "enforce")) | {Slot.POLICY: file(policy(5, "enforce"), "ada", "bob", "cyd")}
    plan = rotate(state, signed_owners(SUCCESSOR, "bob", "cyd"))
    assert [step.slot for step in plan.steps] == [Slot.OWNERS, Slot.FLOORS]
    for half_way in cut_off_everywhere(state, plan):
        assert load(half_way, REBOOTED).outcome is Outcome.ENFORCE
    with pytest.raises(Rollback):
        rotate(dict(plan.cells), signed_owners(SUCCESSOR, "bob", "cyd"))
    back = dict(plan.cells) | {Slot.OWNERS: canonical.encode(OWNERS)}
    assert judge(back).findings[0].id == "owners.rolled-back"


@pytest.mark.parametrize("by", [("ada", "dan"), ("bob",), ("dan", "eve"), ()])
def test_owners_do_not_rotate_below_either_threshold(by: tuple[str, ...]) -> None:
    state = confirmed(policy(5, "enforce")) | {Slot.POLICY: file(policy(5, "enforce"), "bob", "cyd")}
    with pytest.raises(BadSignature):
        rotate(state, signed_owners(SUCCESSOR, *by))


def test_owners_rotate_by_one_version() -> None:
    with pytest.raises(Malformed, match="after 1 comes 2"):
        rotate(enrolled(), signed_owners(msgspec.structs.replace(SUCCESSOR, version=3), "bob", "cyd"))


def test_a_rotation_does_not_take_the_signatures_from_the_policy_in_force() -> None:
    with pytest.raises(BadSignature, match="policy in force") as refused:
        rotate(confirmed(policy(5, "enforce")), signed_owners(SUCCESSOR, "bob", "cyd"))
    assert "apply it again" in refused.value.problems[0].mend


def test_owners_do_not_rotate_during_a_trial() -> None:
    with pytest.raises(WorldError, match="on trial"):
        rotate(
            on_trial(policy(6, "enforce"), confirmed(policy(5, "enforce"))),
            signed_owners(SUCCESSOR, "bob", "cyd"),
        )


# -- purge -------------------------------------------------------------------------------------------


def test_purge_leaves_owners_and_nothing_armed() -> None:
    state = confirmed(policy(5, "enforce"))
    plan = delivery.purge(state, signed_purge(delivery.purge_order(state), "ada", "cyd"))
    assert [slot for slot, cell in plan.cells.items() if cell is not None] == [Slot.OWNERS]
    assert not judge(plan.cells).armed


def test_a_purge_cut_off_anywhere_can_be_repeated() -> None:
    state = confirmed(policy(5, "enforce"))
    order = signed_purge(delivery.purge_order(state), "ada", "cyd")
    plan = delivery.purge(state, order)
    for half_way in cut_off_everywhere(state, plan)[:-1]:
        assert dict(delivery.purge(half_way, order).cells) == dict(plan.cells)


def test_a_purge_needs_the_owners() -> None:
    state = confirmed(policy(5, "enforce"))
    for by in ((), ("ada",), ("ada", "eve")):
        with pytest.raises(BadSignature):
            delivery.purge(state, signed_purge(delivery.purge_order(state), *by))


def test_a_purge_of_another_life_is_refused() -> None:
    state = confirmed(policy(5, "enforce"))
    order = delivery.purge_order(state)
    for other in (
        msgspec.structs.replace(order, vm="payments-2"),
        msgspec.structs.replace(order, generation=2),
        PurgeOrder(vm=order.vm, generation=1, identity="SHA256:" + "A" * 43),
    ):
        with pytest.raises(WrongAudience):
            delivery.purge(state, signed_purge(other, "ada", "bob"))


def test_an_observe_policy_in_place_of_an_order_is_refused() -> None:
    state = confirmed(policy(5, "enforce"))
    with pytest.raises(BadSignature):
        delivery.purge(
            state, msgspec.json.decode(file(policy(6, "observe")), type=type(signed_purge(OWNERS)))
        )
