# SPDX-License-Identifier: Apache-2.0
from itertools import product
from typing import Any

import msgspec
import pytest

from vmwarden.model.decision import Ask
from vmwarden.model.escalation import Escalation
from vmwarden.model.moment import Moment
from vmwarden.model.policy import Host, HostClause, Place, PlaceEntry, Policy, UnknownRung, WrongRung
from vmwarden.model.posture import Posture
from vmwarden.model.verdict import Answer, Verdict
from vmwarden.rules.escalate import MOVES, POWEROFF_NOT_BEFORE_MS, Age, State, Step, age_ms, new_epoch, step
from vmwarden.testing.claims import guarding

MINUTE = 60_000
ALLOW, DENY, UNKNOWN = Answer.ALLOW, Answer.DENY, Answer.UNKNOWN


def place(**ladders: Any) -> Place:
    return Place(any_of=(PlaceEntry(country="DE"),), **ladders)


HOST = Host(all_of=(HostClause(fact="host.hypervisor", equals="kvm"),))
POWEROFF = place(
    wrong=(
        WrongRung(after="0s", posture=Posture.HELD, ask="relocate"),
        WrongRung(after="30s", posture=Posture.POWEROFF, ask="remedy", of="owner"),
    )
)


class Vm:
    """One VM on its ladder: turn by turn, over reboots."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or guarding(place=place())
        self.now = Moment(boot_ms=5_000, utc_ms=0, boot_id="boot-1")
        self.escalation = Escalation()

    def turn(self, *answers: Answer, after_ms: int = 0, **other: Any) -> Step:
        """One verdict for place, and a second one for host."""
        self.now = msgspec.structs.replace(self.now, boot_ms=self.now.boot_ms + after_ms)
        verdicts = tuple(
            Verdict(fence=fence, answer=answer)
            for fence, answer in zip(("place", "host"), answers, strict=False)
        )
        result = step(self.policy, verdicts, self.escalation, self.now, **other)
        self.escalation = result.escalation
        return result

    def postures(self, *turns: tuple[Answer, int]) -> list[Posture]:
        return [self.turn(answer, after_ms=after_ms).posture for answer, after_ms in turns]

    def reboot(self, boot_id: str = "boot-2") -> None:
        self.now = Moment(boot_ms=3_000, utc_ms=0, boot_id=boot_id)


def ids(result: Step) -> list[str]:
    return [finding.id for finding in result.findings]


def test_the_table_has_a_move_for_every_state_and_answer() -> None:
    assert set(MOVES) == set(product(State, Answer))


def test_the_table_as_told_in_words() -> None:
    for (state, answer), (after, age) in MOVES.items():
        if answer is ALLOW:
            assert (after, age) == (State.CLEAR, Age.ENDS)
        if answer is DENY:
            assert after is State.WRONG
        if answer is UNKNOWN and state in (State.WRONG, State.CARRIED):
            assert after is state, "silence does not cure"
        assert (age is Age.RESTS) == (after is State.CARRIED)


def test_no_fences_is_open() -> None:
    result = Vm(guarding()).turn()
    assert result.posture is Posture.OPEN
    assert result.next_change_boot_ms is None


def test_an_allow_opens_in_the_first_turn() -> None:
    vm = Vm()
    assert vm.turn(ALLOW).posture is Posture.OPEN
    assert vm.escalation.allowed == ("place",)
    assert vm.escalation.incidents == ()


def test_wrong_is_held_at_once_and_quarantined_after_a_minute() -> None:
    vm = Vm()
    first = vm.turn(DENY)
    assert first.posture is Posture.HELD
    assert first.next_change_boot_ms == vm.now.boot_ms + MINUTE
    assert vm.postures((DENY, MINUTE - 1), (DENY, 1)) == [Posture.HELD, Posture.QUARANTINED]
    assert vm.postures((ALLOW, 0), (DENY, 1)) == [Posture.OPEN, Posture.HELD]


def test_silence_does_not_cure() -> None:
    vm = Vm()
    vm.turn(ALLOW)
    assert vm.postures((DENY, 0), (UNKNOWN, MINUTE)) == [Posture.HELD, Posture.QUARANTINED]
    assert "ladder.still-wrong" in ids(vm.turn(UNKNOWN))


def test_unknown_without_an_allow_is_held_and_stays_held() -> None:
    vm = Vm()
    result = vm.turn(UNKNOWN)
    assert result.posture is Posture.HELD
    assert result.next_change_boot_ms is None
    assert ids(result) == ["ladder.not-yet-allowed"]
    assert vm.turn(UNKNOWN, after_ms=24 * 60 * MINUTE).posture is Posture.HELD


def test_unknown_after_an_allow_has_its_grace() -> None:
    vm = Vm()
    vm.turn(ALLOW)
    result = vm.turn(UNKNOWN)
    assert result.posture is Posture.OPEN
    assert ids(result) == ["ladder.grace"]
    assert result.next_change_boot_ms == vm.now.boot_ms + 2 * MINUTE
    assert vm.postures((UNKNOWN, 2 * MINUTE), (UNKNOWN, 13 * MINUTE), (ALLOW, 0)) == [
        Posture.GUARDED,
        Posture.QUARANTINED,
        Posture.OPEN,
    ]


def test_findings_stay_the_same_while_nothing_steps() -> None:
    for answers in ((ALLOW, UNKNOWN), (ALLOW, DENY, UNKNOWN), (UNKNOWN,), (DENY,)):
        vm = Vm(guarding(place=POWEROFF))
        for answer in answers:
            vm.turn(answer)
        assert vm.turn(answers[-1], after_ms=1_500).findings == vm.turn(answers[-1], after_ms=1_500).findings


def test_being_wrong_is_counted_from_the_first_deny_and_loosens_nothing() -> None:
    vm = Vm()
    vm.turn(ALLOW)
    vm.turn(UNKNOWN)
    assert vm.turn(UNKNOWN, after_ms=15 * MINUTE).posture is Posture.QUARANTINED
    assert vm.turn(DENY).posture is Posture.QUARANTINED
    (incident,) = vm.escalation.incidents
    assert (incident.kind, age_ms(incident, vm.now)) == ("wrong", 0)


def test_a_long_silence_is_not_counted_as_wrong() -> None:
    vm = Vm(guarding(place=POWEROFF))
    vm.turn(ALLOW)
    vm.turn(UNKNOWN)
    assert vm.postures((UNKNOWN, 10 * MINUTE), (DENY, 0)) == [Posture.GUARDED, Posture.HELD]


def test_poweroff_waits_for_a_minute_of_this_boot() -> None:
    vm = Vm(guarding(place=POWEROFF))
    vm.turn(DENY)
    waiting = vm.turn(DENY, after_ms=30_000)
    assert waiting.posture is Posture.QUARANTINED
    assert ids(waiting) == ["ladder.poweroff-waits"]
    assert waiting.next_change_boot_ms == vm.now.boot_ms + 30_000
    assert vm.turn(DENY, after_ms=30_000).posture is Posture.POWEROFF
    vm.reboot()
    assert vm.turn(DENY).posture is Posture.QUARANTINED
    assert vm.turn(DENY, after_ms=POWEROFF_NOT_BEFORE_MS - 1).posture is Posture.QUARANTINED
    assert vm.turn(DENY, after_ms=1).posture is Posture.POWEROFF


def test_poweroff_never_comes_from_unknown() -> None:
    vm = Vm(guarding(place=place(unknown=(UnknownRung(after="0s", posture=Posture.POWEROFF),))))
    vm.turn(ALLOW)
    assert vm.turn(UNKNOWN, after_ms=10**9).posture is Posture.QUARANTINED


@pytest.mark.parametrize(
    ("failing", "sources", "posture"),
    [
        (("a", "b"), 3, Posture.QUARANTINED),
        (("a", "b"), 4, Posture.POWEROFF),
        (("a", "a"), 3, Posture.POWEROFF),
        (("a",), 1, Posture.POWEROFF),
        ((), 0, Posture.POWEROFF),
    ],
)
def test_the_breaker_withholds_the_poweroff(failing: tuple[str, ...], sources: int, posture: Posture) -> None:
    vm = Vm(guarding(place=POWEROFF))
    vm.turn(DENY)
    result = vm.turn(DENY, after_ms=MINUTE, failing=failing, sources=sources)
    assert result.posture is posture
    assert ("breaker.sources-failing" in ids(result)) == (posture is Posture.QUARANTINED)


def test_the_breaker_loosens_nothing() -> None:
    vm = Vm()
    vm.turn(DENY, failing=("a", "b"), sources=2)
    assert vm.turn(DENY, after_ms=MINUTE, failing=("a", "b"), sources=2).posture is Posture.QUARANTINED


def test_an_age_survives_reboots_and_rests_until_it_is_wrong_again() -> None:
    vm = Vm()
    vm.turn(DENY)
    vm.turn(DENY, after_ms=50_000)
    vm.reboot("boot-2")
    resting = vm.turn(UNKNOWN)
    assert resting.posture is Posture.HELD
    assert ids(resting) == ["ladder.carried"]
    vm.turn(UNKNOWN, after_ms=10**9)
    assert age_ms(vm.escalation.incidents[0], vm.now) == 50_000
    vm.reboot("boot-3")
    assert vm.postures((DENY, 0), (DENY, 9_999), (DENY, 1)) == [
        Posture.HELD,
        Posture.HELD,
        Posture.QUARANTINED,
    ]
    assert vm.postures((ALLOW, 0), (DENY, 0)) == [Posture.OPEN, Posture.HELD]


def test_what_is_stored_of_an_incident_moves_in_steps() -> None:
    vm = Vm()
    first = vm.turn(DENY).escalation
    assert vm.turn(DENY, after_ms=4_999).escalation == first
    assert vm.turn(DENY, after_ms=1).escalation != first


def test_a_new_boot_and_a_new_epoch_forget_what_was_allowed() -> None:
    for begin_again in (
        lambda vm: vm.reboot(),
        lambda vm: setattr(vm, "escalation", new_epoch(vm.escalation)),
    ):
        vm = Vm()
        vm.turn(ALLOW)
        epoch = vm.escalation.epoch
        begin_again(vm)
        assert vm.turn(UNKNOWN).posture is Posture.HELD
        assert vm.escalation.allowed == ()
        assert vm.escalation.epoch == epoch + 1
        assert vm.turn(ALLOW).posture is Posture.OPEN
        assert vm.turn(UNKNOWN).posture is Posture.OPEN


def test_a_new_epoch_keeps_incidents_and_is_held() -> None:
    vm = Vm()
    vm.turn(DENY)
    moved = new_epoch(vm.escalation)
    assert moved.posture is Posture.HELD
    assert moved.incidents == vm.escalation.incidents
    vm.escalation = moved
    assert vm.turn(UNKNOWN, after_ms=MINUTE).posture is Posture.QUARANTINED


def test_a_guarded_rung_after_a_deny_counts_only_where_it_was_allowed_before() -> None:
    vm = Vm(guarding(place=place(wrong=(WrongRung(after="0s", posture=Posture.GUARDED),))))
    assert vm.turn(DENY).posture is Posture.HELD
    vm.turn(ALLOW)
    assert vm.turn(DENY).posture is Posture.GUARDED


def test_the_strictest_fence_counts_and_each_has_its_own_incident() -> None:
    vm = Vm(guarding(place=place(), host=HOST))
    assert vm.turn(ALLOW, UNKNOWN).posture is Posture.HELD
    assert vm.turn(ALLOW, ALLOW).posture is Posture.OPEN
    vm.turn(DENY, ALLOW)
    both = vm.turn(DENY, UNKNOWN, after_ms=MINUTE)
    assert both.posture is Posture.QUARANTINED
    assert [i.fence for i in vm.escalation.incidents] == ["place", "host"]
    assert both.next_change_boot_ms == vm.now.boot_ms + 2 * MINUTE
    assert vm.turn(ALLOW, UNKNOWN).posture is Posture.OPEN  # host is in its grace


def test_a_fence_without_a_verdict_is_unknown() -> None:
    assert Vm().turn().posture is Posture.HELD


def test_a_fence_that_left_the_policy_takes_its_incident_along() -> None:
    vm = Vm(guarding(place=place(), host=HOST))
    vm.turn(DENY, ALLOW)
    vm.policy = guarding(host=HOST)
    result = step(vm.policy, (Verdict(fence="host", answer=ALLOW),), vm.escalation, vm.now)
    assert result.posture is Posture.OPEN
    assert result.escalation.incidents == ()
    assert result.escalation.allowed == ("host",)


def test_asks_are_those_of_the_rungs_reached() -> None:
    vm = Vm(guarding(place=POWEROFF))
    relocate = Ask(ask="relocate", of="host", fence="place")
    remedy = Ask(ask="remedy", of="owner", fence="place")
    assert vm.turn(DENY).asks == (relocate,)
    assert vm.turn(UNKNOWN, after_ms=30_000).asks == (relocate, remedy)
    vm.reboot()
    assert vm.turn(UNKNOWN).asks == ()
    assert vm.turn(ALLOW).asks == ()


def test_a_clock_that_goes_backwards_makes_no_negative_age() -> None:
    vm = Vm()
    vm.turn(DENY)
    assert vm.turn(DENY, after_ms=-4_000).posture is Posture.HELD
    assert age_ms(vm.escalation.incidents[0], vm.now) == 0
