# SPDX-License-Identifier: Apache-2.0
"""Whatever bytes lie in whatever file: findings, never an error, and never looser than before."""

from hypothesis import given, settings
from hypothesis import strategies as st

from vmwarden.model.installed import Cell, Outcome, Slot, Unreadable
from vmwarden.model.moment import Moment
from vmwarden.model.verdict import Answer
from vmwarden.rules.delivery import settle
from vmwarden.rules.installation import judge
from vmwarden.testing.state import NOW, closed_rules, confirmed, enrolled, file, on_trial, policy

ENFORCE, OBSERVE = policy(5, "enforce"), policy(5, "observe")
READ = (
    Slot.OWNERS,
    Slot.ENROLMENT,
    Slot.IDENTITY,
    Slot.POLICY,
    Slot.PREVIOUS,
    Slot.PENDING,
    Slot.ARMED,
    Slot.CLOSED,
    Slot.FLOORS,
)
ARMED_STATES: tuple[dict[Slot, Cell], ...] = (
    confirmed(ENFORCE),
    on_trial(policy(6, "enforce"), confirmed(ENFORCE)),
)
STATES: tuple[dict[Slot, Cell], ...] = (
    {},
    enrolled(),
    confirmed(OBSERVE),
    *ARMED_STATES,
    on_trial(policy(6, "observe"), confirmed(ENFORCE)),
    on_trial(policy(6, "enforce"), confirmed(OBSERVE)),
)
#: what a disk, a tool or a person may leave: noise, nothing, a link, or the right file a little wrong
NOISE = st.one_of(st.binary(max_size=200), st.none(), st.just(Unreadable("is a symbolic link")))
MOMENTS = st.sampled_from((NOW, Moment(NOW.boot_ms + 120_000, NOW.utc_ms), Moment(1, 1, "boot-2")))


@st.composite
def damaged(draw: st.DrawFn, whole: Cell) -> Cell:
    if not isinstance(whole, bytes) or not whole or draw(st.booleans()):
        return draw(NOISE)
    at = draw(st.integers(0, len(whole) - 1))
    match draw(st.integers(0, 2)):
        case 0:
            return whole[:at]
        case 1:
            return whole[:at] + bytes([draw(st.integers(0, 255))]) + whole[at + 1 :]
        case _:
            return whole + draw(st.binary(min_size=1, max_size=8))


@settings(max_examples=300, deadline=None)
@given(data=st.data(), state=st.sampled_from(STATES), moment=MOMENTS)
def test_any_bytes_in_any_files_give_findings_and_no_error(
    data: st.DataObject, state: dict[Slot, Cell], moment: Moment
) -> None:
    broken = state | {
        slot: data.draw(damaged(state.get(slot))) for slot in data.draw(st.sets(st.sampled_from(READ)))
    }
    found = judge(settle(broken, moment, closed_rules=closed_rules).cells)
    if found.outcome is Outcome.CLOSED:
        assert found.policy is None
        assert any(f.answer is Answer.DENY for f in found.findings)
    if found.policy is not None:
        assert found.policy.mode == found.outcome.value


@settings(max_examples=300, deadline=None)
@given(data=st.data(), state=st.sampled_from(ARMED_STATES), slot=st.sampled_from(READ), moment=MOMENTS)
def test_one_file_damaged_or_lost_never_makes_an_armed_vm_observe(
    data: st.DataObject, state: dict[Slot, Cell], slot: Slot, moment: Moment
) -> None:
    broken = state | {slot: data.draw(damaged(state.get(slot)))}
    settled = settle(broken, moment, closed_rules=closed_rules).cells
    for cells in (broken, settled):
        found = judge(cells)
        assert found.outcome in (Outcome.ENFORCE, Outcome.CLOSED)
        assert found.armed
    assert settled.get(Slot.ARMED) is not None


@settings(max_examples=200, deadline=None)
@given(data=st.data(), slot=st.sampled_from(READ))
def test_bytes_in_one_file_never_make_a_trial_of_enforce_observe_before_its_end(
    data: st.DataObject, slot: Slot
) -> None:
    state = on_trial(policy(6, "enforce"), confirmed(OBSERVE))
    noise = data.draw(st.one_of(st.binary(max_size=200), st.just(Unreadable("is a symbolic link"))))
    cells = settle(state | {slot: noise}, NOW, closed_rules=closed_rules).cells
    assert judge(cells).outcome in (Outcome.ENFORCE, Outcome.CLOSED)


@settings(max_examples=200, deadline=None)
@given(
    data=st.data(),
    number=st.integers(1, 9),
    mode=st.sampled_from(("observe", "enforce")),
    signers=st.sets(st.sampled_from(("ada", "bob", "cyd", "eve", "mal"))),
)
def test_no_file_put_there_by_hand_makes_an_armed_vm_observe(
    data: st.DataObject, number: int, mode: str, signers: set[str]
) -> None:
    will = policy(number, "observe" if mode == "observe" else "enforce")
    put = file(will, *(sorted(signers) or ["eve"]))
    state = confirmed(ENFORCE) | {data.draw(st.sampled_from((Slot.POLICY, Slot.PREVIOUS))): put}
    cells = settle(state, NOW, closed_rules=closed_rules).cells
    assert judge(cells).outcome in (Outcome.ENFORCE, Outcome.CLOSED)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), state=st.sampled_from(STATES), slot=st.sampled_from(READ), moment=MOMENTS)
def test_settling_twice_does_nothing_more(
    data: st.DataObject, state: dict[Slot, Cell], slot: Slot, moment: Moment
) -> None:
    broken = state | {slot: data.draw(damaged(state.get(slot)))}
    once = settle(broken, moment, closed_rules=closed_rules)
    twice = settle(once.cells, moment, closed_rules=closed_rules)
    assert twice.steps == ()
    assert judge(once.cells) == judge(twice.cells)
