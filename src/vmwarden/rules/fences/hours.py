# SPDX-License-Identifier: Apache-2.0
"""The fence `hours`: when the VM serves.

It differs from the others: closing by the calendar is no incident, so no ladder follows from its deny, and
the posture outside the slots holds at once.  Only time that is not known has a ladder.

Closing never waits for proof of the time, opening does where the policy demands it: CLOCK_BOOTTIME stands
while the VM is paused, so what is reckoned by it since a stamp is late, and a slot that is over by such a
reckoning is over.
"""

from functools import lru_cache
from typing import NamedTuple

from vmwarden.model.clock_mark import ClockMark
from vmwarden.model.decision import Opening
from vmwarden.model.moment import Moment
from vmwarden.model.policy import Hours
from vmwarden.model.posture import Posture
from vmwarden.model.verdict import Answer, Finding, Verdict
from vmwarden.rules import clock_mark
from vmwarden.rules.calendar import stamp as written
from vmwarden.rules.calendar.opening import FIRST, LAST
from vmwarden.rules.calendar.timetable import Kept, Timetable
from vmwarden.rules.ladders import cached_milliseconds
from vmwarden.rules.trusted_time import DRIFT_PPM, TimeAnchor, counts

FENCE = "hours"

OPEN = "hours.open"
DRAINING = "hours.draining"
OUTSIDE = "hours.outside"
SET_BACK = "hours.clock-set-back"
AWAITS_STAMP = "hours.awaits-stamp"
STALE = "hours.time-stale"
UNPROVEN = "hours.time-unproven"
TIME_UNKNOWN = "hours.time-unknown"
NO_CALENDAR = "hours.no-calendar"

#: clocks, for people
_AUTHENTICATED, _OWN = "authenticated time", "the VM's own clock"
#: closed because the calendar says so; nothing is wrong
_SCHEDULED = (OUTSIDE, AWAITS_STAMP)
_ALLOW, _DENY, _UNKNOWN = Answer.ALLOW, Answer.DENY, Answer.UNKNOWN


class Judged(NamedTuple):
    """What the calendar says now.

    at_least: no milder posture than this.  opening, services: the slots that are running, if at_least and the
    other fences let them.  changes_boot_ms: when the calendar says something else; None = never.
    wants_stamp: a stamp made now could open something.  mark: to be handed in next time.
    """

    verdict: Verdict
    at_least: Posture
    opening: Opening | None = None
    services: tuple[Opening, ...] = ()
    changes_boot_ms: int | None = None
    wants_stamp: bool = False
    mark: ClockMark | None = None


def judge(
    clause: Hours,
    timetable: Timetable | None,
    *,
    now: Moment,
    utc_ms: int | None,
    stamp: TimeAnchor | None,
    mark: ClockMark | None,
) -> Judged:
    """The verdict on the hours.

    timetable: the clause, compiled; None = it cannot be on this VM, whose tzdata lacks a zone.
    utc_ms: rules.trusted_time.utc, None = unknown.  stamp: what it rests on, if on anything.
    mark: that of the Judged before; None at the very first.
    """
    if timetable is None:
        told = _finding(NO_CALENDAR, _UNKNOWN, "", "a time zone that this VM does not have, or no tzdata")
        return Judged(Verdict(fence=FENCE, answer=_UNKNOWN, findings=(told,)), Posture.HELD, mark=mark)
    known_ms = utc_ms if utc_ms is not None and FIRST <= utc_ms // 1000 <= LAST else None
    stamp = stamp if stamp is not None and counts(stamp, now) else None
    spread_ms = 0 if stamp is None else stamp.spread_ms
    if clause.time == "local" and known_ms is not None and 0 <= now.utc_ms - known_ms <= spread_ms:
        # the VM's own clock is within what the stamp leaves open, and finer: a host's is cut to whole seconds
        known_ms, spread_ms = now.utc_ms, 0
    if known_ms is not None:
        mark = clock_mark.advance(mark, now, known_ms, authenticated=stamp is not None)
    if clause.time == "trusted":
        recheck_ms = cached_milliseconds(clause.recheck)
        return _judge(clause, timetable, _Stamped(now, known_ms, stamp, recheck_ms))._replace(mark=mark)
    offset_ms = None if known_ms is None else known_ms - now.boot_ms
    for case in _cases:
        if (
            case.from_boot_ms <= now.boot_ms < case.until_boot_ms
            and case.offset_ms == offset_ms
            and case.spread_ms == spread_ms
            and case.clause is clause
            and case.timetable is timetable
            and case.mark is mark
            and case.stamp is stamp
        ):
            return case.judged
    clock = _Local(now, known_ms, spread_ms, mark, by=_OWN if stamp is None else _AUTHENTICATED)
    judged = _judge(clause, timetable, clock)._replace(mark=clock.mark_after(timetable) or mark)
    until = judged.changes_boot_ms if judged.changes_boot_ms is not None else _NEVER
    _cases.insert(0, _Case(clause, timetable, mark, stamp, offset_ms, spread_ms, now.boot_ms, until, judged))
    del _cases[_REMEMBERED:]
    return judged


class _Case(NamedTuple):
    """By the same clock a calendar says the same until it changes.  From included, until not.

    The last ones are remembered, because with a thousand services saying it anew takes a millisecond.
    """

    clause: Hours
    timetable: Timetable
    mark: ClockMark | None
    stamp: TimeAnchor | None
    offset_ms: int | None
    spread_ms: int
    from_boot_ms: int
    until_boot_ms: int
    judged: Judged


#: two clocks, read one after the other, differ by a millisecond more or less
_REMEMBERED = 3
_NEVER = 2**63
_cases: list[_Case] = []


class _Look(NamedTuple):
    """One calendar now.

    runs: a slot runs by what is reckoned, and once it was proven to.  changes_s: when the calendar changes,
    UTC; changes_boot_ms: when that will be.  None = never.  proof_until_boot_ms: when an allow lapses because
    the proof of the time does; None = it rests on none.
    """

    id: str
    answer: Answer
    runs: bool
    changes_s: int | None = None
    changes_boot_ms: int | None = None
    proof_until_boot_ms: int | None = None


class _Local:
    """By the time that is known, whoever says so; a step back never puts an end off (rules.clock_mark)."""

    def __init__(
        self, now: Moment, utc_ms: int | None, spread_ms: int, mark: ClockMark | None, *, by: str
    ) -> None:
        """spread_ms: it may be that much later than utc_ms.  by: whose clock that is."""
        self.now = now
        self.by = by
        self._spread_ms = spread_ms
        self._utc_ms = utc_ms
        self._mark = mark
        self._ahead_ms = clock_mark.ahead_ms(mark) if mark is not None else 0

    def look(self, kept: Kept) -> _Look:
        utc_ms = self._utc_ms
        if utc_ms is None:
            return _ALWAYS if kept.calendar.always else _Look(TIME_UNKNOWN, _UNKNOWN, False)
        is_open, until_s = kept.state(utc_ms // 1000)
        if is_open and until_s is not None and until_s * 1000 <= utc_ms + self._spread_ms:
            # it may be over already, and then it is
            is_open, until_s = False, kept.state(until_s).until
        if until_s is None:
            return _ALWAYS if is_open else _Look(OUTSIDE, _DENY, False)
        left_ms = until_s * 1000 - utc_ms
        if not is_open:
            return _Look(OUTSIDE, _DENY, False, until_s, self.now.boot_ms + left_ms)
        ahead_ms = 0 if self._unseen(kept, utc_ms) else self._ahead_ms
        if left_ms <= ahead_ms:
            return _Look(SET_BACK, _DENY, False, until_s, self.now.boot_ms + left_ms)
        ends_boot_ms = self.now.boot_ms + left_ms - max(ahead_ms, self._spread_ms)
        return _Look(OPEN, _ALLOW, True, until_s, ends_boot_ms)

    def mark_after(self, timetable: Timetable) -> ClockMark | None:
        """A mark to take the place of the one handed in; None = that one stays."""
        if self._mark is None or self._mark.set_back_utc_ms is None or self._utc_ms is None:
            return None
        for kept in (timetable.rest, *(kept for _, kept in timetable.services)):
            runs, until_s = kept.state(self._utc_ms // 1000)
            over = self._utc_ms > self._mark.set_back_utc_ms and not runs
            if until_s is not None and not over and not self._unseen(kept, self._utc_ms):
                return None
        return clock_mark.forgiven(self._mark, self.now)

    def _unseen(self, kept: Kept, utc_ms: int) -> bool:
        """Whether the slot that runs began after the clock was put back: the earlier clock never saw it."""
        mark = self._mark
        if mark is None or mark.set_back_utc_ms is None or utc_ms <= mark.set_back_utc_ms:
            return False
        set_back_s = mark.set_back_utc_ms // 1000
        return FIRST <= set_back_s <= LAST and not kept.one_slot(set_back_s, utc_ms // 1000)


class _Stamped:
    """By authenticated stamps alone.  Slots end early and begin late by as much as a stamp leaves open."""

    by = _AUTHENTICATED

    def __init__(self, now: Moment, utc_ms: int | None, stamp: TimeAnchor | None, recheck_ms: int) -> None:
        self.now = now
        self._utc_ms = utc_ms
        self._stamp = stamp
        self._spread_ms = 0
        if stamp is not None:
            drift_ms = -(-(now.boot_ms - stamp.boot_ms) * DRIFT_PPM // 1_000_000)
            self._spread_ms = stamp.spread_ms + drift_ms
        self._recheck_ms = recheck_ms

    def look(self, kept: Kept) -> _Look:
        if kept.calendar.always:
            return _ALWAYS
        if self._stamp is None:
            return _Look(UNPROVEN, _UNKNOWN, False)
        if self._utc_ms is None:
            return _Look(TIME_UNKNOWN, _UNKNOWN, False)
        latest_ms = min(self._utc_ms + self._spread_ms, LAST * 1000)
        is_open, until_s = kept.state(latest_ms // 1000)
        changes = None if until_s is None else self.now.boot_ms + until_s * 1000 - latest_ms
        if not is_open:
            # a slot begins when it has begun for certain
            begins = None if changes is None else changes + self._spread_ms
            return _Look(OUTSIDE, _DENY, False, until_s, begins)
        proven = kept.one_slot(max(self._stamp.utc_ms // 1000, FIRST), latest_ms // 1000)
        proof_until = self._stamp.boot_ms + self._recheck_ms
        if self.now.boot_ms > proof_until:
            return _Look(STALE, _UNKNOWN, proven, until_s, changes)
        if not proven:
            return _Look(AWAITS_STAMP, _DENY, False, until_s, changes)
        return _Look(OPEN, _ALLOW, True, until_s, changes, proof_until)


_ALWAYS = _Look(OPEN, _ALLOW, True)


def _judge(clause: Hours, timetable: Timetable, clock: _Local | _Stamped) -> Judged:
    now, drain_ms = clock.now, cached_milliseconds(clause.drain)
    look = clock.look(timetable.rest)
    findings = [_told(look, "", clock.by)]
    changes = [look.changes_boot_ms]
    opening = None
    if look.runs:
        opening = _opening("", look, now, drain_ms)
        changes.append(opening.drain_from_boot_ms)
        if opening.draining:
            findings.append(_told(look._replace(id=DRAINING), "", clock.by))
    services: list[Opening] = []
    wants_stamp = look.id == AWAITS_STAMP
    for name, kept in timetable.services:
        of_service = clock.look(kept)
        findings.append(_told(of_service, name, clock.by))
        changes.append(of_service.changes_boot_ms)
        wants_stamp = wants_stamp or of_service.id == AWAITS_STAMP
        # without a ladder that runs there is no grace for one whose proof is too old
        if of_service.runs and (of_service.answer is _ALLOW or look.answer is _UNKNOWN):
            slot = _opening(name, of_service, now, drain_ms)
            services.append(slot)
            changes.append(slot.drain_from_boot_ms)
    verdict = Verdict(
        fence=FENCE,
        answer=look.answer,
        findings=tuple(findings),
        good_until_boot_ms=_first(look.changes_boot_ms, look.proof_until_boot_ms)
        if look.answer is _ALLOW
        else None,
        scheduled=look.id in _SCHEDULED,
    )
    return Judged(
        verdict,
        _at_least(clause, look),
        opening,
        tuple(services),
        _first(*[change for change in changes if change is None or change > now.boot_ms]),
        wants_stamp,
    )


def _at_least(clause: Hours, look: _Look) -> Posture:
    """A slot that is proven to have begun is the ladder's matter while the time is not known, others wait."""
    if look.answer is _DENY:
        return Posture(clause.outside)
    return Posture.OPEN if look.runs else Posture.HELD


def _opening(service: str, look: _Look, now: Moment, drain_ms: int) -> Opening:
    end = look.changes_boot_ms
    drain_from = end - drain_ms if end is not None and drain_ms else None
    return Opening(
        service=service,
        until_boot_ms=_first(end, look.proof_until_boot_ms),
        drain_from_boot_ms=drain_from,
        draining=drain_from is not None and now.boot_ms >= drain_from,
    )


def _first(*instants: int | None) -> int | None:
    return min([instant for instant in instants if instant is not None], default=None)


def _told(look: _Look, service: str, by: str) -> Finding:
    return _finding(look.id, look.answer, service, _found(look.id, look.changes_s, by))


@lru_cache(maxsize=4096)
def _found(finding_id: str, changes_s: int | None, by: str) -> str:
    """The same from turn to turn, until something changes."""
    if finding_id == TIME_UNKNOWN:
        return "the VM's own clock is below what is proven to have passed, or beyond the calendar"
    if finding_id == UNPROVEN:
        return "nobody has authenticated the time in this boot"
    until = "without end" if changes_s is None else f"until {written.utc(changes_s)}"
    if finding_id == DRAINING:
        return f"open {until}, and closed to new connections"
    if finding_id == OPEN:
        return f"open {until}, by {by}"
    if finding_id == SET_BACK:
        return f"the clock was put back, and by what it said before, the slot {until} is over"
    if finding_id == AWAITS_STAMP:
        return f"a slot has begun that runs {until}; it opens with the next stamp"
    if finding_id == STALE:
        return f"the last stamp is too old; a slot runs {until} by what has passed since"
    return f"closed {until}, by {by}"


@lru_cache(maxsize=4096)
def _finding(finding_id: str, answer: Answer, service: str, found: str) -> Finding:
    expected = "" if answer is Answer.ALLOW else "a slot of the hours"
    # the name in the text, too: what people are shown has no room for subjects
    told = f"{service}: {found}" if service else found
    return Finding(id=finding_id, answer=answer, subject=service, expected=expected, found=told)
