# SPDX-License-Identifier: Apache-2.0
"""What holds for every history of verdicts, waits, reboots, movements and failing sources."""

from dataclasses import dataclass
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from vmwarden.model.decision import Opening
from vmwarden.model.escalation import Escalation
from vmwarden.model.hours import Interval
from vmwarden.model.moment import Moment
from vmwarden.model.policy import Host, HostClause, Hours, Place, PlaceEntry, Policy, UnknownRung, WrongRung
from vmwarden.model.posture import Posture
from vmwarden.model.verdict import Answer, Verdict
from vmwarden.rules.decide import decide, stricter
from vmwarden.rules.escalate import POWEROFF_NOT_BEFORE_MS, SEEN_STEP_MS, age_ms, new_epoch
from vmwarden.rules.fences.hours import Judged
from vmwarden.rules.ladders import after_ms, unknown_ladder
from vmwarden.rules.lease import milliseconds
from vmwarden.testing.claims import guarding

EXAMPLES = settings(max_examples=200, deadline=None, derandomize=True)
ALLOW, DENY, UNKNOWN = Answer.ALLOW, Answer.DENY, Answer.UNKNOWN

afters = st.sampled_from(["0s", "1s", "60s", "2m", "15m"])
ladders = st.builds(
    lambda wrong, unknown: {"wrong": wrong, "unknown": unknown},
    st.none() | st.lists(st.builds(WrongRung, after=afters, posture=st.sampled_from(Posture))).map(tuple),
    st.none() | st.lists(st.builds(UnknownRung, after=afters, posture=st.sampled_from(Posture))).map(tuple),
)
policies = st.builds(
    lambda place, host: guarding(
        place=Place(any_of=(PlaceEntry(country="DE"),), **place),
        host=Host(all_of=(HostClause(fact="host.id", equals="a"),), **host),
    ),
    ladders,
    ladders,
)
answers = st.sampled_from(Answer)
waits = st.sampled_from([0, 1, 999, 4_999, 5_000, 59_999, 60_000, 120_000, 900_000]) | st.integers(0, 10**9)
turns = st.tuples(st.just("turn"), answers, answers, waits, st.integers(0, 3))
histories = st.lists(
    st.one_of(turns, turns, turns, turns, st.just(("reboot",)), st.just(("move",))), max_size=25
)


@dataclass
class Seen:
    """What an observer who knows nothing of ladders remembers of one fence."""

    allowed: bool = False  # in this boot and epoch
    wrong_since: int | None = None  # CLOCK_BOOTTIME of the first deny in this boot, no allow since
    denied: bool = False  # ever, no allow since
    silent_since: int | None = None
    age: int = 0

    def hear(self, answer: Answer, boot_ms: int) -> None:
        if answer is ALLOW:
            self.allowed, self.wrong_since, self.denied, self.silent_since = True, None, False, None
        elif answer is DENY:
            self.wrong_since = boot_ms if self.wrong_since is None else self.wrong_since
            self.denied, self.silent_since = True, None
        elif self.silent_since is None:
            self.silent_since = boot_ms


class Observed:
    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.now = Moment(boot_ms=1_000, utc_ms=0, boot_id="boot-0")
        self.escalation = Escalation()
        self.boots = 0
        self.fences = {"place": Seen(), "host": Seen()}

    def play(self, event: tuple[Any, ...]) -> None:
        if event[0] == "turn":
            self.turn(*event[1:])
            return
        if event[0] == "reboot":
            self.boots += 1
            self.now = Moment(boot_ms=1_000, utc_ms=0, boot_id=f"boot-{self.boots}")
        else:
            self.escalation = new_epoch(self.escalation)
            assert self.escalation.posture is Posture.HELD
        for seen in self.fences.values():
            seen.allowed = False
            if event[0] == "reboot":
                seen.wrong_since = seen.silent_since = None

    def turn(self, place: Answer, host: Answer, wait_ms: int, failing: int) -> None:
        self.now = msgspec.structs.replace(self.now, boot_ms=self.now.boot_ms + wait_ms)
        heard = {"place": place, "host": host}
        before = {incident.fence: incident for incident in self.escalation.incidents}
        for fence, answer in heard.items():
            self.fences[fence].hear(answer, self.now.boot_ms)
        decision, self.escalation = decide(
            self.policy,
            tuple(Verdict(fence=fence, answer=answer) for fence, answer in heard.items()),
            self.escalation,
            now=self.now,
            utc_ms=None,
            failing=tuple("abc"[:failing]),
            sources=3,
        )
        self.check_open(decision.posture, heard)
        self.check_closed(decision.posture, failing)
        self.check_ages(before)
        lease_ms = milliseconds(decision, self.policy, now=self.now, uncertainty_ms=5)
        assert (lease_ms > 0) <= (decision.posture in (Posture.OPEN, Posture.GUARDED))
        if decision.next_change_boot_ms is not None:
            assert decision.next_change_boot_ms > self.now.boot_ms

    def check_open(self, posture: Posture, heard: dict[str, Answer]) -> None:
        if set(heard.values()) == {ALLOW}:
            assert posture is Posture.OPEN
            assert self.escalation.incidents == ()
        if posture in (Posture.OPEN, Posture.GUARDED):
            assert all(seen.allowed for seen in self.fences.values()), "open without an allow"
        if posture is not Posture.OPEN:
            return
        for fence, seen in self.fences.items():
            assert not seen.denied, "open while wrong"
            if seen.silent_since is not None:
                silent_ms = self.now.boot_ms - seen.silent_since
                rungs = unknown_ladder(getattr(self.policy, fence).unknown)
                closing = [after_ms(rung) for rung in rungs if rung.posture is not Posture.OPEN]
                assert all(silent_ms < after for after in closing), "open beyond the grace"

    def check_closed(self, posture: Posture, failing: int) -> None:
        assert posture not in (Posture.SEALED, Posture.ERASED)
        if posture is Posture.POWEROFF:
            assert failing < 2, "the breaker was passed"
            long_wrong = [
                seen
                for seen in self.fences.values()
                if seen.wrong_since is not None
                and self.now.boot_ms - seen.wrong_since >= POWEROFF_NOT_BEFORE_MS
            ]
            assert long_wrong, "a power-off that no fence called for"

    def check_ages(self, before: dict[str, Any]) -> None:
        for incident in self.escalation.incidents:
            seen = self.fences[incident.fence]
            assert (incident.kind == "wrong") == seen.denied
            age, was = age_ms(incident, self.now), before.get(incident.fence)
            if was is not None and was.kind == incident.kind:
                assert incident.carried_ms >= was.carried_ms, "a reboot lowered what was carried"
                assert age > seen.age - SEEN_STEP_MS
                if was.boot_id == self.now.boot_id:  # no reboot since
                    assert age >= seen.age
            seen.age = age


@EXAMPLES
@given(policies, histories)
def test_every_history_keeps_the_promises(policy: Policy, history: list[tuple[Any, ...]]) -> None:
    observed = Observed(policy)
    for event in history:
        observed.play(event)
    observed.turn(ALLOW, ALLOW, 0, 3)
    assert observed.escalation.posture is Posture.OPEN


@EXAMPLES
@given(
    policies,
    st.lists(st.tuples(st.sampled_from([ALLOW, UNKNOWN, DENY]), waits), max_size=4),
    st.lists(st.tuples(st.sampled_from([DENY, UNKNOWN]), waits), max_size=12),
)
def test_while_it_stays_wrong_the_posture_never_becomes_milder(
    policy: Policy, history: list[tuple[Answer, int]], wrong: list[tuple[Answer, int]]
) -> None:
    policy = msgspec.structs.replace(policy, host=None)
    now, escalation = Moment(boot_ms=0, utc_ms=0, boot_id="b"), Escalation()
    strictest: Posture | None = None
    for n, (answer, wait_ms) in enumerate([*history, (DENY, 0), *wrong]):
        now = msgspec.structs.replace(now, boot_ms=now.boot_ms + wait_ms)
        decision, escalation = decide(
            policy, (Verdict(fence="place", answer=answer),), escalation, now=now, utc_ms=None
        )
        if n >= len(history):
            if strictest is not None:
                assert stricter(strictest, decision.posture) is decision.posture
            strictest = decision.posture


@EXAMPLES
@given(policies, st.lists(st.tuples(answers, answers, waits), max_size=10))
def test_the_stored_escalation_is_all_that_is_remembered(
    policy: Policy, history: list[tuple[Answer, Answer, int]]
) -> None:
    """A warden that is restarted in every turn decides as one that lives on."""
    now, living, stored = Moment(boot_ms=0, utc_ms=0, boot_id="b"), Escalation(), Escalation()
    for place, host, wait_ms in history:
        now = msgspec.structs.replace(now, boot_ms=now.boot_ms + wait_ms)
        verdicts = (Verdict(fence="place", answer=place), Verdict(fence="host", answer=host))
        one, living = decide(policy, verdicts, living, now=now, utc_ms=None)
        read = msgspec.json.decode(msgspec.json.encode(stored), type=Escalation)
        other, stored = decide(policy, verdicts, read, now=now, utc_ms=None)
        assert one == other


# -- a calendar beside the ladders ------------------------------------------------------------------

OUTSIDE = ("guarded", "held", "quarantined")
SLOT = Opening(until_boot_ms=10**12)
BACKUP = Opening(service="backup", until_boot_ms=10**12)


def calendar_says(answer: Answer, at_least: Posture, *, scheduled: bool = False) -> Judged:
    verdict = Verdict(fence="hours", answer=answer, scheduled=scheduled)
    slot = SLOT if at_least is Posture.OPEN else None
    return Judged(verdict, at_least, slot, (BACKUP,), changes_boot_ms=10**13)


calendars = st.one_of(
    st.just(calendar_says(ALLOW, Posture.OPEN)),
    st.builds(
        lambda posture: calendar_says(DENY, Posture(posture), scheduled=True), st.sampled_from(OUTSIDE)
    ),
    st.just(calendar_says(UNKNOWN, Posture.HELD)),
    st.just(calendar_says(UNKNOWN, Posture.OPEN)),
)
timed_turns = st.tuples(answers, answers, waits, calendars, st.booleans())
hours = st.builds(
    Hours,
    open=st.just((Interval(),)),
    unknown=st.none()
    | st.lists(st.builds(UnknownRung, after=afters, posture=st.sampled_from(Posture))).map(tuple),
)


@settings(EXAMPLES, max_examples=80)
@given(policies, hours, st.lists(timed_turns, max_size=25))
def test_a_calendar_only_closes_and_leaves_the_ladders_alone(
    policy: Policy, clause: Hours, history: list[tuple[Answer, Answer, int, Judged, bool]]
) -> None:
    """Beside a policy without hours that hears the same."""
    timed = msgspec.structs.replace(policy, hours=clause)
    now, without, beside = Moment(boot_ms=1_000, utc_ms=0, boot_id="b"), Escalation(), Escalation()
    allowed = False
    for place, host, wait_ms, judged, moves in history:
        now = msgspec.structs.replace(now, boot_ms=now.boot_ms + wait_ms)
        if moves:
            without, beside, allowed = new_epoch(without), new_epoch(beside), False
        verdicts = (Verdict(fence="place", answer=place), Verdict(fence="host", answer=host))
        plain, without = decide(policy, verdicts, without, now=now, utc_ms=None)
        decision, beside = decide(timed, verdicts, beside, now=now, utc_ms=None, by_calendar=judged)

        answer = judged.verdict.answer
        allowed = allowed or answer is ALLOW
        assert [i for i in beside.incidents if i.fence != "hours"] == list(without.incidents)
        of_hours = [i for i in beside.incidents if i.fence == "hours"]
        assert [i.kind for i in of_hours] == (["unknown"] if answer is UNKNOWN else [])
        assert decision.asks == plain.asks
        assert stricter(decision.posture, plain.posture) is decision.posture
        assert stricter(decision.posture, judged.at_least) is decision.posture
        if answer is not UNKNOWN:
            assert decision.posture is stricter(plain.posture, judged.at_least)
        elif not allowed:
            assert stricter(decision.posture, Posture.HELD) is decision.posture
        if clause.unknown is None and answer is UNKNOWN:
            assert decision.posture not in (Posture.OPEN, Posture.GUARDED)
        others_allow = (place, host) == (ALLOW, ALLOW)
        assert decision.scheduled == (others_allow and answer is DENY)
        assert (decision.opening is not None) == (decision.posture is Posture.OPEN)
        if decision.services:
            assert plain.posture is Posture.OPEN
            assert answer is not UNKNOWN or (allowed and clause.unknown is not None)
        assert (milliseconds(decision, timed, now=now, uncertainty_ms=5) > 0) <= (
            decision.posture in (Posture.OPEN, Posture.GUARDED)
        )
        if decision.next_change_boot_ms is not None:
            assert decision.next_change_boot_ms > now.boot_ms
