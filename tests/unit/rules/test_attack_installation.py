# SPDX-License-Identifier: Apache-2.0
"""Several files of an armed VM are lost at once: any that is left of three remembers."""

import itertools

import pytest

from vmwarden.model.installed import Cell, Outcome, Slot, Unreadable
from vmwarden.rules.delivery import purge, purge_order, settle
from vmwarden.rules.installation import judge
from vmwarden.testing.owners import signed_purge
from vmwarden.testing.state import NOW, closed_rules, confirmed, policy

WITNESSES = (Slot.ARMED, Slot.FLOORS, Slot.CLOSED)
OTHERS = (Slot.OWNERS, Slot.ENROLMENT, Slot.POLICY)
ARMED = confirmed(policy(5, "enforce"))


def outcome(state: dict[Slot, Cell]) -> Outcome:
    return judge(settle(state, NOW, closed_rules=closed_rules).cells).outcome


@pytest.mark.parametrize("left", WITNESSES)
@pytest.mark.parametrize("damage", [None, b"garbage", Unreadable("input/output error")])
def test_one_witness_of_three_keeps_an_armed_vm_closed(left: Slot, damage: Cell) -> None:
    for count in range(len(OTHERS) + 1):
        for lost in itertools.combinations(OTHERS, count):
            state = ARMED | dict.fromkeys([slot for slot in WITNESSES if slot is not left], None)
            state |= dict.fromkeys(lost, damage)

            assert outcome(state) is not Outcome.OBSERVE, (left, lost)


def test_a_purge_that_is_cut_off_anywhere_can_be_repeated_and_ends_in_observe() -> None:
    order = signed_purge(purge_order(ARMED), "ada", "bob")
    steps = purge(ARMED, order).steps
    for done in range(len(steps)):
        state = dict(ARMED)
        for step in steps[:done]:
            state[step.slot] = None
        if state[Slot.ENROLMENT] is None:
            continue
        for step in purge(state, order).steps:
            state[step.slot] = None

        assert outcome(state) is Outcome.OBSERVE, done


def test_rules_that_an_interrupted_disarming_left_arm_nobody() -> None:
    state = confirmed(policy(6, "observe")) | {Slot.CLOSED: b"# left behind\n"}

    assert outcome(state) is Outcome.OBSERVE
    assert not judge(settle(state, NOW, closed_rules=closed_rules).cells).armed
