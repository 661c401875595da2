# SPDX-License-Identifier: Apache-2.0
"""The fence `hours`: what the calendar says, by which clock, and what becomes of it."""

from typing import Any

import msgspec
import pytest

from vmwarden.model.clock_mark import ClockMark
from vmwarden.model.decision import Decision, Opening
from vmwarden.model.escalation import Escalation, Incident
from vmwarden.model.hours import Interval, TimeRange
from vmwarden.model.moment import Moment
from vmwarden.model.policy import (
    FlowOut,
    Gate,
    Holidays,
    Hours,
    Place,
    PlaceEntry,
    Policy,
    TimedService,
    UnknownRung,
)
from vmwarden.model.posture import Posture
from vmwarden.model.verdict import Answer, Verdict
from vmwarden.rules import lease
from vmwarden.rules.calendar import stamp, timetable
from vmwarden.rules.calendar.timetable import Timetable
from vmwarden.rules.calendar.zone import UTC
from vmwarden.rules.decide import decide
from vmwarden.rules.fences import hours
from vmwarden.rules.fences.hours import Judged
from vmwarden.rules.trusted_time import TimeAnchor, utc
from vmwarden.testing.claims import guarding

ALLOW, UNKNOWN, DENY = Answer.ALLOW, Answer.UNKNOWN, Answer.DENY
SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
OFFICE = Interval(
    weekdays=("monday:friday",), times=(TimeRange(start_time="08:00", end_time="18:00"),), location="UTC"
)
NIGHT = Interval(times=(TimeRange(start_time="01:00", end_time="04:00"),))
ALWAYS = Interval()


def clause(**changes: Any) -> Hours:
    return msgspec.structs.replace(Hours(open=(OFFICE,)), **changes)


def service(name: str, *open_: Interval) -> TimedService:
    return TimedService(name=name, out=(FlowOut(tcp=873, to="10.0.0.1/32"),), open=open_)


class Life:
    """A warden's look at hours: the clocks go on, and what was remembered is handed in again."""

    def __init__(self, given: Hours, at: str, *, place: bool = False) -> None:
        self.hours = given
        self.table: Timetable | None = timetable.compile(given, {"UTC": UTC})
        self.now = Moment(boot_ms=1_000_000, utc_ms=stamp.seconds(at) * 1000, boot_id="boot-1")
        self.stamp: TimeAnchor | None = None
        self.floor_ms = 0
        self.escalation = Escalation()
        self.policy: Policy = guarding(
            hours=given, place=Place(any_of=(PlaceEntry(country="DE"),)) if place else None
        )

    def wait(self, ms: int) -> "Life":
        """Both clocks."""
        self.now = msgspec.structs.replace(
            self.now, boot_ms=self.now.boot_ms + ms, utc_ms=self.now.utc_ms + ms
        )
        return self

    def step(self, ms: int) -> "Life":
        """The wall clock alone."""
        self.now = msgspec.structs.replace(self.now, utc_ms=self.now.utc_ms + ms)
        return self

    def stamped(self, at: str, spread_ms: int = 0) -> "Life":
        """A stamp arrives now."""
        self.stamp = TimeAnchor(
            utc_ms=stamp.seconds(at) * 1000,
            boot_ms=self.now.boot_ms,
            boot_id=self.now.boot_id,
            spread_ms=spread_ms,
        )
        return self

    def utc_ms(self) -> int | None:
        return utc(self.now, self.stamp, self.floor_ms)

    def look(self) -> Judged:
        judged = hours.judge(
            self.hours,
            self.table,
            now=self.now,
            utc_ms=self.utc_ms(),
            stamp=self.stamp,
            mark=self.escalation.clock,
        )
        self.escalation = msgspec.structs.replace(self.escalation, clock=judged.mark)
        return judged

    def decide(self, *verdicts: Verdict) -> Decision:
        decision, self.escalation = decide(
            self.policy,
            verdicts,
            self.escalation,
            now=self.now,
            utc_ms=self.utc_ms(),
            by_calendar=self.look(),
        )
        return decision


def ids(judged: Judged) -> list[str]:
    return [finding.id for finding in judged.verdict.findings]


# -- the calendar -----------------------------------------------------------------------------------


def test_in_a_slot_it_allows_until_its_end() -> None:
    life = Life(clause(), "2026-11-23T12:00:00Z")
    judged = life.look()
    end = life.now.boot_ms + 6 * HOUR
    assert (judged.verdict.answer, judged.verdict.good_until_boot_ms) == (ALLOW, end)
    assert judged.opening == Opening(until_boot_ms=end)
    assert (judged.at_least, judged.changes_boot_ms) == (Posture.OPEN, end)
    assert [(f.id, f.found) for f in judged.verdict.findings] == [
        ("hours.open", "open until 2026-11-23T18:00:00Z, by the VM's own clock")
    ]


@pytest.mark.parametrize("outside", ["guarded", "held", "quarantined"])
def test_outside_it_denies_at_once_and_nothing_is_wrong(outside: Any) -> None:
    life = Life(clause(outside=outside), "2026-11-23T18:00:00Z")
    judged = life.look()
    assert (judged.verdict.answer, judged.verdict.scheduled) == (DENY, True)
    assert (judged.at_least, judged.opening) == (Posture(outside), None)
    assert judged.changes_boot_ms == life.now.boot_ms + 14 * HOUR
    assert judged.verdict.findings[0].found == "closed until 2026-11-24T08:00:00Z, by the VM's own clock"


def test_begin_and_end_are_kept_to_the_millisecond() -> None:
    life = Life(clause(), "2026-11-23T07:59:59Z").wait(999)
    assert life.look().verdict.answer is DENY
    assert life.wait(1).look().verdict.answer is ALLOW
    life.wait(10 * HOUR - 1)
    assert life.look().verdict.good_until_boot_ms == life.now.boot_ms + 1
    assert life.wait(1).look().verdict.answer is DENY


def test_a_slot_that_never_ends_has_no_end() -> None:
    judged = Life(clause(open=(ALWAYS,), drain="1h"), "2026-11-23T12:00:00Z").look()
    assert (judged.verdict.answer, judged.verdict.good_until_boot_ms) == (ALLOW, None)
    assert judged.opening == Opening()
    assert judged.changes_boot_ms is None


def test_the_drain_is_the_last_of_a_slot() -> None:
    life = Life(clause(drain="30s"), "2026-11-23T17:59:29Z")
    before = life.look()
    drain = life.now.boot_ms + 1 * SECOND
    assert before.opening == Opening(until_boot_ms=drain + 30 * SECOND, drain_from_boot_ms=drain)
    assert before.changes_boot_ms == drain
    during = life.wait(1 * SECOND).look()
    assert during.opening is not None and during.opening.draining
    assert during.verdict.answer is ALLOW
    assert ids(during) == ["hours.open", "hours.draining"]
    assert during.changes_boot_ms == life.now.boot_ms + 30 * SECOND
    assert life.wait(30 * SECOND).look().opening is None


def test_services_have_hours_of_their_own() -> None:
    given = clause(services=(service("backup", NIGHT), service("api", ALWAYS)), drain="10m")
    day = Life(given, "2026-11-23T12:00:00Z").look()
    assert day.services == (Opening(service="api"),)
    assert [(f.subject, f.id) for f in day.verdict.findings] == [
        ("", "hours.open"),
        ("backup", "hours.outside"),
        ("api", "hours.open"),
    ]
    assert day.verdict.findings[1].found.startswith("backup: closed until 2026-11-24T01:00:00Z")
    life = Life(given, "2026-11-23T03:55:00Z")
    night = life.look()
    end = life.now.boot_ms + 5 * MINUTE
    assert night.verdict.answer is DENY
    assert night.services == (
        Opening(service="backup", until_boot_ms=end, drain_from_boot_ms=end - 10 * MINUTE, draining=True),
        Opening(service="api"),
    )
    assert night.changes_boot_ms == end


def test_a_closed_date_of_the_vm_is_none_of_a_service_unless_it_says_so() -> None:
    backup = service("backup", OFFICE)
    given = clause(
        closed_on=("2026-11-23",),
        holidays=(Holidays(country="DE", dates=("2026-11-24",)),),
        services=(backup, msgspec.structs.replace(backup, name="shop", holidays=True)),
    )
    life = Life(given, "2026-11-23T12:00:00Z")
    assert [slot.service for slot in life.look().services] == ["backup", "shop"]
    assert life.look().verdict.answer is DENY
    life.wait(24 * HOUR)
    assert [slot.service for slot in life.look().services] == ["backup"]
    assert life.look().verdict.answer is DENY


def test_without_a_calendar_the_time_is_no_help() -> None:
    life = Life(clause(), "2026-11-23T12:00:00Z")
    life.table = None
    judged = life.look()
    assert (judged.verdict.answer, judged.at_least, ids(judged)) == (
        UNKNOWN,
        Posture.HELD,
        ["hours.no-calendar"],
    )


# -- the VM's own clock -----------------------------------------------------------------------------


def settled(given: Hours, at: str) -> Life:
    """A minute before at, the clock has been seen for the first time."""
    life = Life(given, at)
    life.wait(-MINUTE).look()
    life.wait(MINUTE).look()
    return life


@pytest.mark.parametrize("back_ms", [2 * SECOND, HOUR, 399 * 24 * HOUR])  # a monday, too
def test_putting_the_clock_back_does_not_put_the_end_off(back_ms: int) -> None:
    life = settled(clause(drain="5s"), "2026-11-23T17:59:00Z")
    judged = life.wait(57 * SECOND).step(-back_ms).look()
    if back_ms <= HOUR:
        assert judged.opening is not None and judged.opening.draining
        assert judged.verdict.good_until_boot_ms == life.now.boot_ms + 3 * SECOND
        assert life.wait(3 * SECOND - 1).look().verdict.answer is ALLOW
        life.wait(1)
    assert ids(life.look()) == ["hours.clock-set-back"]
    assert not life.look().verdict.scheduled


def test_a_slot_that_is_over_stays_over() -> None:
    life = settled(clause(), "2026-11-23T18:30:00Z").step(-HOUR)
    judged = life.look()
    assert (judged.verdict.answer, ids(judged)) == (DENY, ["hours.clock-set-back"])
    assert judged.at_least is Posture.QUARANTINED
    # at its own end it becomes a closing like any other, and the next day is a new one
    assert ids(life.wait(30 * MINUTE).look()) == ["hours.outside"]
    assert life.wait(13 * HOUR).look().verdict.answer is DENY
    morning = life.wait(HOUR).look()
    assert morning.verdict.answer is ALLOW
    assert morning.verdict.good_until_boot_ms == life.now.boot_ms + 10 * HOUR


def test_after_a_night_a_second_step_back_counts_from_the_new_clock() -> None:
    life = settled(clause(), "2026-11-23T17:00:00Z").step(-HOUR)
    life.look()
    life.wait(3 * HOUR).look()  # 19:00 by the clock as it is: it has forgotten the other
    life.wait(13 * HOUR + MINUTE).look()
    life.wait(MINUTE).look()
    life.wait(9 * HOUR)
    assert life.look().verdict.answer is ALLOW
    life.step(-HOUR)
    assert life.look().verdict.good_until_boot_ms == life.now.boot_ms + 58 * MINUTE


def test_a_clock_that_was_ahead_for_less_than_a_minute_leaves_nothing_behind() -> None:
    life = settled(clause(), "2026-11-23T12:00:00Z").step(9 * HOUR)
    assert ids(life.look()) == ["hours.outside"]
    life.wait(30 * SECOND).look()
    life.wait(29 * SECOND).step(-9 * HOUR)
    judged = life.look()
    assert (judged.verdict.answer, judged.verdict.good_until_boot_ms) == (
        ALLOW,
        life.now.boot_ms + 6 * HOUR - 59 * SECOND,
    )


def test_a_clock_that_was_wrong_at_boot_and_is_put_right_within_a_minute() -> None:
    life = Life(clause(), "2035-06-01T20:00:00Z")
    assert life.look().verdict.answer is DENY
    life.wait(30 * SECOND)
    life.now = msgspec.structs.replace(life.now, utc_ms=stamp.seconds("2026-11-23T12:00:00Z") * 1000)
    assert life.look().verdict.answer is ALLOW


def test_a_clock_that_was_ahead_for_longer_costs_the_day_and_not_the_next() -> None:
    life = settled(clause(), "2026-11-23T12:00:00Z").step(9 * HOUR)
    life.look()
    life.wait(MINUTE).look()
    life.step(-9 * HOUR)
    assert ids(life.look()) == ["hours.clock-set-back"]
    assert life.wait(9 * HOUR).look().verdict.scheduled
    assert life.wait(12 * HOUR).look().verdict.answer is ALLOW


def test_a_step_forward_is_believed() -> None:
    life = settled(clause(), "2026-11-23T07:30:00Z")
    assert life.step(HOUR).look().verdict.answer is ALLOW
    mark = life.escalation.clock
    assert mark is not None and (mark.set_back_utc_ms, mark.ends_by_ms) == (None, mark.offset_ms - HOUR)
    life = settled(clause(), "2026-11-23T17:30:00Z")
    assert life.step(HOUR).look().verdict.scheduled


def test_a_slot_of_weeks_goes_on_after_the_clock_was_put_back() -> None:
    life = settled(clause(open=(Interval(months=("november",)),)), "2026-11-23T12:00:00Z").step(-HOUR)
    judged = life.look()
    assert judged.verdict.answer is ALLOW
    assert judged.verdict.good_until_boot_ms == life.now.boot_ms + (7 * 24 + 12) * HOUR


def test_another_boot_begins_anew() -> None:
    life = settled(clause(), "2026-11-23T18:30:00Z").step(-HOUR)
    life.now = msgspec.structs.replace(life.now, boot_id="boot-2")
    assert life.look().verdict.answer is ALLOW


def test_the_mark_changes_with_steps_alone() -> None:
    life = settled(clause(), "2026-11-23T12:00:00Z")
    mark = life.escalation.clock
    for turn in range(100):
        life.wait(7 * MINUTE).step(turn % 3 - 1)
        life.look()
        assert life.escalation.clock is mark
    life.step(-3 * SECOND).look()
    assert life.escalation.clock is not mark
    assert isinstance(life.escalation.clock, ClockMark)


def test_a_millisecond_between_two_readings_is_no_step_and_is_counted() -> None:
    life = settled(clause(), "2026-11-23T12:00:00Z")
    end = stamp.seconds("2026-11-23T18:00:00Z") * 1000
    for jitter_ms in (0, 1, -1, 0, -1, 1):
        until = life.step(jitter_ms).look().verdict.good_until_boot_ms
        assert until == life.now.boot_ms + end - life.now.utc_ms


def test_below_what_is_proven_to_have_passed_the_time_is_unknown() -> None:
    life = Life(clause(), "2026-11-23T12:00:00Z")
    life.floor_ms = life.now.utc_ms + 1
    judged = life.look()
    assert (judged.verdict.answer, judged.at_least, ids(judged)) == (
        UNKNOWN,
        Posture.HELD,
        ["hours.time-unknown"],
    )


def test_beyond_the_calendar_the_time_is_unknown() -> None:
    life = Life(clause(), "9999-12-31T23:59:59Z").wait(SECOND)
    assert ids(life.look()) == ["hours.time-unknown"]


# -- authenticated time -----------------------------------------------------------------------------


def test_a_stamp_is_gone_by_where_there_is_one_and_may_open_again() -> None:
    life = settled(clause(), "2026-11-23T18:30:00Z").stamped("2026-11-23T17:30:00Z")
    judged = life.look()
    assert judged.verdict.findings[0].found == "open until 2026-11-23T18:00:00Z, by authenticated time"
    assert judged.verdict.good_until_boot_ms == life.now.boot_ms + 30 * MINUTE
    life.step(-400 * 24 * HOUR)
    assert life.look().verdict.answer is ALLOW
    assert life.wait(30 * MINUTE).look().verdict.scheduled


def test_within_what_a_stamp_leaves_open_the_clock_of_the_vm_says_when_a_slot_ends() -> None:
    life = Life(clause(), "2026-11-23T17:00:00Z").step(400)
    life.stamped("2026-11-23T17:00:00Z", spread_ms=1000)
    end = life.now.boot_ms + HOUR - 400
    judged = life.look()
    assert judged.verdict.good_until_boot_ms == end
    assert judged.verdict.findings[0].found.endswith("by authenticated time")
    assert life.step(601).look().verdict.good_until_boot_ms == life.now.boot_ms + HOUR - 1000, "beyond it"
    assert life.step(-1002).look().verdict.good_until_boot_ms == life.now.boot_ms + HOUR - 1000, "before it"
    assert life.step(401).look().verdict.good_until_boot_ms == end


def test_a_slot_is_over_when_it_may_be_and_begins_when_it_has() -> None:
    life = Life(clause(), "2026-11-23T17:00:00Z").stamped("2026-11-23T17:00:00Z", spread_ms=1000)
    life.step(-HOUR)  # the clock of the VM contradicts it
    assert life.look().verdict.good_until_boot_ms == life.now.boot_ms + HOUR - 1000
    assert life.wait(HOUR - 1000).look().verdict.answer is DENY
    assert life.look().changes_boot_ms == life.now.boot_ms + 14 * HOUR + 1000
    assert life.wait(14 * HOUR + 999).look().verdict.answer is DENY
    assert life.wait(1).look().verdict.answer is ALLOW


def test_a_stamp_that_leaves_more_open_is_another_stamp() -> None:
    life = Life(clause(), "2026-11-23T12:00:00Z").step(-HOUR)
    ends = [
        life.stamped("2026-11-23T12:00:00Z", spread_ms=spread_ms).look().verdict.good_until_boot_ms
        for spread_ms in (0, 700, 0)
    ]
    end = life.now.boot_ms + 6 * HOUR
    assert ends == [end, end - 700, end]


def test_stamps_that_agree_leave_the_mark_alone() -> None:
    life = Life(clause(), "2026-11-23T12:00:00Z").stamped("2026-11-23T12:00:00Z")
    life.look()
    mark = life.escalation.clock
    life.wait(20 * SECOND).stamped("2026-11-23T12:00:21Z").look()
    assert life.escalation.clock is mark
    life.stamped("2026-11-23T12:30:00Z").look()
    assert life.escalation.clock is not mark


TRUSTED = clause(time="trusted", recheck="150s")


def test_demanded_and_absent_it_is_unknown() -> None:
    judged = Life(TRUSTED, "2026-11-23T12:00:00Z").look()
    assert (judged.verdict.answer, judged.at_least, judged.opening) == (UNKNOWN, Posture.HELD, None)
    assert ids(judged) == ["hours.time-unproven"]
    other = Life(TRUSTED, "2026-11-23T12:00:00Z").stamped("2026-11-23T12:00:00Z")
    other.now = msgspec.structs.replace(other.now, boot_id="boot-2")
    assert ids(other.look()) == ["hours.time-unproven"]


def test_what_is_always_open_asks_nobody() -> None:
    given = clause(open=(ALWAYS,), time="trusted", services=(service("api", ALWAYS), service("b", NIGHT)))
    judged = Life(given, "2026-11-23T12:00:00Z").look()
    assert judged.verdict.answer is ALLOW
    assert judged.services == (Opening(service="api"),)


def test_a_stamp_in_the_slot_opens_for_as_long_as_it_counts() -> None:
    life = Life(TRUSTED, "2026-11-23T20:00:00Z").stamped("2026-11-23T12:00:00Z")
    judged = life.look()
    assert judged.verdict.answer is ALLOW
    assert judged.verdict.good_until_boot_ms == life.now.boot_ms + 150 * SECOND
    life.wait(150 * SECOND)
    assert life.look().verdict.answer is ALLOW
    stale = life.wait(1).look()
    assert (stale.verdict.answer, ids(stale), stale.at_least) == (UNKNOWN, ["hours.time-stale"], Posture.OPEN)
    assert stale.opening is not None  # by what is reckoned, for a grace that the owner may have chosen


def test_a_slot_opens_on_a_stamp_and_never_by_what_is_reckoned() -> None:
    life = Life(TRUSTED, "2026-11-23T07:59:00Z").stamped("2026-11-23T07:59:00Z")
    closed = life.look()
    assert closed.verdict.scheduled and not closed.wants_stamp
    assert closed.changes_boot_ms == life.now.boot_ms + MINUTE
    begun = life.wait(MINUTE).look()
    assert (begun.verdict.answer, begun.verdict.scheduled, ids(begun)) == (DENY, True, ["hours.awaits-stamp"])
    assert begun.wants_stamp and begun.opening is None
    late = life.wait(2 * MINUTE).look()
    assert (late.verdict.answer, late.at_least, ids(late)) == (UNKNOWN, Posture.HELD, ["hours.time-stale"])
    assert life.stamped("2026-11-23T08:02:00Z").look().verdict.answer is ALLOW


def test_what_a_stamp_leaves_open_is_waited_for() -> None:
    life = Life(TRUSTED, "2026-11-23T07:59:00Z").stamped("2026-11-23T07:59:00Z", spread_ms=1500)
    assert life.look().changes_boot_ms == life.now.boot_ms + MINUTE


def test_a_service_has_no_grace_while_the_calendar_closes_the_rest() -> None:
    rungs = (UnknownRung(after="24h", posture=Posture.HELD),)
    given = msgspec.structs.replace(TRUSTED, unknown=rungs, services=(service("backup", NIGHT),))
    life = Life(given, "2026-11-23T02:00:00Z").stamped("2026-11-23T02:00:00Z")
    assert [slot.service for slot in life.look().services] == ["backup"]
    stale = life.wait(151 * SECOND).look()
    assert stale.services == () and stale.verdict.scheduled
    assert ("backup", "hours.time-stale") in [(f.subject, f.id) for f in stale.verdict.findings]


def test_a_stamp_just_before_the_slot_does_not_open_it() -> None:
    life = Life(TRUSTED, "2026-11-23T08:00:01Z").stamped("2026-11-23T07:59:59Z", spread_ms=1500)
    judged = life.look()
    assert judged.verdict.answer is DENY
    assert life.stamped("2026-11-23T08:00:00Z", spread_ms=1500).look().verdict.answer is ALLOW


def test_a_slot_ends_by_what_is_reckoned_however_old_the_stamp() -> None:
    life = Life(TRUSTED, "2026-11-23T12:00:00Z").stamped("2026-11-23T12:00:00Z")
    life.look()
    life.wait(6 * HOUR)
    judged = life.look()
    assert (judged.verdict.answer, judged.verdict.scheduled) == (DENY, True)


def test_yesterdays_stamp_does_not_open_todays_slot() -> None:
    life = Life(TRUSTED, "2026-11-23T12:00:00Z").stamped("2026-11-23T12:00:00Z")
    judged = life.wait(24 * HOUR).look()
    assert (judged.verdict.answer, judged.at_least) == (UNKNOWN, Posture.HELD)


def test_a_clock_that_drifts_ends_a_slot_early() -> None:
    life = Life(msgspec.structs.replace(TRUSTED, recheck="24h"), "2026-11-23T08:00:00Z")
    life.stamped("2026-11-23T08:00:00Z").look()
    life.wait(9 * HOUR)
    off = 9 * HOUR * 500 // 1_000_000
    assert life.look().verdict.good_until_boot_ms == life.now.boot_ms + HOUR - off


def test_a_paused_vm_overruns_no_longer_than_a_stamp_counts() -> None:
    """CLOCK_BOOTTIME stands while the VM is paused; the next stamp tells."""
    life = Life(TRUSTED, "2026-11-23T17:59:30Z").stamped("2026-11-23T17:59:30Z")
    assert life.look().verdict.answer is ALLOW
    # paused for an hour: neither clock moves; then it runs on
    assert life.wait(20 * SECOND).look().verdict.answer is ALLOW
    assert life.stamped("2026-11-23T18:59:50Z").look().verdict.scheduled


# -- what becomes of it -----------------------------------------------------------------------------


def of_place(answer: Answer, until: int | None = None) -> Verdict:
    return Verdict(fence="place", answer=answer, good_until_boot_ms=until)


def test_a_nightly_closing_is_no_incident() -> None:
    life = Life(clause(), "2026-11-23T17:59:59Z", place=True)
    assert life.decide(of_place(ALLOW)).posture is Posture.OPEN
    closed = life.wait(SECOND).decide(of_place(ALLOW))
    assert (closed.posture, closed.answer, closed.scheduled) == (Posture.QUARANTINED, DENY, True)
    assert (closed.asks, closed.findings, closed.lease_until_boot_ms) == ((), (), None)
    assert life.escalation.incidents == ()
    assert closed.next_change_boot_ms == life.now.boot_ms + 14 * HOUR
    opened = life.wait(14 * HOUR).decide(of_place(ALLOW))
    assert (opened.posture, opened.answer, opened.scheduled) == (Posture.OPEN, ALLOW, False)


def test_the_lease_ends_with_the_slot() -> None:
    life = Life(clause(), "2026-11-23T17:59:57Z", place=True)
    decision = life.decide(of_place(ALLOW, life.now.boot_ms + HOUR))
    assert decision.lease_until_boot_ms == life.now.boot_ms + 3 * SECOND
    assert lease.milliseconds(decision, life.policy, now=life.now, uncertainty_ms=5) == 2_995


def test_the_lease_for_new_flows_ends_where_the_drain_begins() -> None:
    life = Life(clause(drain="2s"), "2026-11-23T17:59:57Z")
    decision = life.decide()
    whole = lease.milliseconds(decision, life.policy, now=life.now, uncertainty_ms=5)
    assert lease.for_new_flows(decision.opening, whole, now=life.now, uncertainty_ms=5) == 995
    life.wait(SECOND)
    decision = life.decide()
    whole = lease.milliseconds(decision, life.policy, now=life.now, uncertainty_ms=5)
    assert (whole, lease.for_new_flows(decision.opening, whole, now=life.now, uncertainty_ms=5)) == (1_995, 0)
    assert lease.for_new_flows(None, 4_995, now=life.now, uncertainty_ms=5) == 4_995


@pytest.mark.parametrize("outside", ["guarded", "held", "quarantined"])
def test_the_stricter_of_calendar_and_ladder_holds(outside: Any) -> None:
    life = Life(
        clause(outside=outside, services=(service("api", ALWAYS),)), "2026-11-23T12:00:00Z", place=True
    )
    life.decide(of_place(ALLOW))
    assert life.decide(of_place(DENY)).posture is Posture.HELD
    life.wait(7 * HOUR)
    both = life.decide(of_place(DENY))
    assert (both.posture, both.scheduled) == (Posture.QUARANTINED, False)
    assert both.services == ()
    assert [incident.fence for incident in life.escalation.incidents] == ["place"]
    cured = life.decide(of_place(ALLOW))
    assert (cured.posture, cured.scheduled) == (Posture(outside), True)
    assert [slot.service for slot in cured.services] == ["api"]


def test_services_pass_beside_a_closed_rest_and_no_longer_than_the_evidence() -> None:
    life = Life(clause(services=(service("backup", NIGHT),)), "2026-11-23T03:59:00Z", place=True)
    decision = life.decide(of_place(ALLOW, life.now.boot_ms + 3 * SECOND))
    assert (decision.posture, decision.lease_until_boot_ms) == (Posture.QUARANTINED, None)
    assert decision.services_until_boot_ms == life.now.boot_ms + 3 * SECOND
    policy = msgspec.structs.replace(life.policy, gate=Gate(lease="10s"))
    assert lease.services(decision, policy, now=life.now, uncertainty_ms=5) == {"backup": 2_995}
    life.wait(59 * SECOND)
    decision = life.decide(of_place(ALLOW, life.now.boot_ms + HOUR))
    assert lease.services(decision, policy, now=life.now, uncertainty_ms=5) == {"backup": 995}
    life.wait(SECOND)
    assert lease.services(life.decide(of_place(ALLOW)), policy, now=life.now, uncertainty_ms=5) == {}


def test_time_that_is_not_known_holds_and_then_quarantines() -> None:
    life = Life(TRUSTED, "2026-11-23T12:00:00Z").stamped("2026-11-23T12:00:00Z")
    assert life.decide().posture is Posture.OPEN
    life.wait(151 * SECOND)
    assert life.decide().posture is Posture.HELD
    assert [(i.fence, i.kind) for i in life.escalation.incidents] == [("hours", "unknown")]
    assert life.wait(14 * MINUTE).decide().posture is Posture.HELD
    assert life.wait(MINUTE).decide().posture is Posture.QUARANTINED
    assert life.stamped("2026-11-23T12:20:00Z").decide().posture is Posture.OPEN
    assert life.escalation.incidents == ()


def test_before_the_first_stamp_it_is_held_and_no_more() -> None:
    life = Life(TRUSTED, "2026-11-23T12:00:00Z")
    assert life.decide().posture is Posture.HELD
    assert life.wait(24 * HOUR).decide().posture is Posture.HELD


def test_an_owner_may_choose_a_grace_and_no_slot_begins_or_lasts_by_it() -> None:
    rungs = (UnknownRung(after="24h", posture=Posture.HELD),)
    life = Life(msgspec.structs.replace(TRUSTED, unknown=rungs), "2026-11-23T17:00:00Z")
    assert life.stamped("2026-11-23T17:00:00Z").decide().posture is Posture.OPEN
    life.wait(30 * MINUTE)
    grace = life.decide()
    assert (grace.posture, grace.answer) == (Posture.OPEN, UNKNOWN)
    # what has passed since the stamp may be off by as much as a clock may drift
    assert grace.lease_until_boot_ms == life.now.boot_ms + 30 * MINUTE - 900
    assert life.wait(30 * MINUTE).decide().posture is Posture.QUARANTINED
    morning = life.wait(14 * HOUR + MINUTE).decide()
    assert (morning.posture, morning.answer, morning.services) == (Posture.HELD, UNKNOWN, ())


def test_a_scheduled_closing_ends_what_was_unknown() -> None:
    life = Life(TRUSTED, "2026-11-23T17:55:00Z").stamped("2026-11-23T17:55:00Z")
    life.decide()
    assert life.wait(3 * MINUTE).decide().answer is UNKNOWN
    life.wait(2 * MINUTE)
    closed = life.decide()
    assert (closed.scheduled, life.escalation.incidents) == (True, ())


def test_hours_that_nobody_judged_are_held() -> None:
    policy = guarding(hours=clause())
    now = Moment(boot_ms=1, utc_ms=1, boot_id="b")
    decision, _ = decide(policy, (), Escalation(allowed=("hours",)), now=now, utc_ms=None)
    assert (decision.posture, decision.answer) == (Posture.HELD, UNKNOWN)


def test_a_calendar_is_never_wrong_whatever_stands_on_disk() -> None:
    life = Life(TRUSTED, "2026-11-23T12:00:00Z")
    odd = Incident(fence="hours", kind="wrong", since_boot_ms=1, boot_id="boot-1")
    life.escalation = Escalation(boot_id="boot-1", epoch=1, incidents=(odd,))
    assert life.decide().posture is Posture.HELD
    assert [incident.kind for incident in life.escalation.incidents] == ["unknown"]
