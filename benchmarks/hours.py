# SPDX-License-Identifier: Apache-2.0
"""What the calendar costs: one decision with its end, and all changes of a year, exactly.

The hours are of ordinary size: working days, saturdays, a night over midnight, five closed dates, one
extra date, in a zone with summer time.  A decision asks two things at an instant that moves on: is it open,
and until when (the lease needs the end of the slot).

Paired rounds, in an order that changes.  The baseline of a decision is what sampling would need for less:
zoneinfo's local reading at one minute of each of the next 24 hours.  The baseline of a year is zoneinfo's
local reading at each of its minutes divided by 60: one reading an hour, which finds changes on full hours
only.

The fence is what a warden asks every 1.6 s, while the last answer is remembered: with no service that has
hours of its own, and with 100 and 1,000 of them.

    python -m benchmarks --only hours --rounds 200
"""

import random
import time
from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec

from benchmarks.figure import Figure, median_interval
from vmwarden.linux.tzdata import Tzdata
from vmwarden.model.clock_mark import ClockMark
from vmwarden.model.hours import Extra, Interval, TimeRange
from vmwarden.model.moment import Moment
from vmwarden.model.policy import FlowIn, Hours, TimedService
from vmwarden.rules.calendar import days, opening
from vmwarden.rules.fences import hours as fence

DECISION_US = 100.0
YEAR_MS = 50.0
BATCH = 20
_SEED = 20261123
_ZONE = "Europe/Berlin"
_YEAR = 2026
_TICK_MS = 1_600
_SERVICES = (0, 100, 1000)
#: a prime number of seconds, so that decisions fall on all times of day and all weekdays
_STEP_S = 10_007


def hours() -> Hours:
    """Working days, saturdays, a night, holidays."""

    def times(start: str, end: str) -> tuple[TimeRange, ...]:
        return (TimeRange(start_time=start, end_time=end),)

    return Hours(
        open=(
            Interval(weekdays=("monday:friday",), times=times("08:00", "18:00")),
            Interval(weekdays=("saturday",), times=times("09:00", "13:00")),
            Interval(days_of_month=("-1",), times=times("22:00", "04:00")),
        ),
        time_zone=_ZONE,
        closed_on=("2026-01-01", "2026-04-03", "2026-04-06", "2026-05-01", "2026-12-25:2026-12-26"),
        extra=(Extra(dates=("2026-12-27",), times=times("10:00", "16:00")),),
    )


class _Decisions:
    """One after the other, through the year and again."""

    def __init__(self) -> None:
        given = hours()
        self._calendar = opening.compile(given, Tzdata().zones(opening.zones_of(given)))
        self._first, self._last = days.first_second(_YEAR), days.first_second(_YEAR + 1)
        self._zone = ZoneInfo(_ZONE)
        self._now = self._first

    def decide(self) -> object:
        """Open, and until when."""
        self._now = self._now + _STEP_S if self._now + _STEP_S < self._last else self._first
        return self._calendar.state(self._now)

    def sample_a_day(self) -> object:
        """24 local readings."""
        now = self._now
        return [datetime.fromtimestamp(now + hour * 3600, self._zone) for hour in range(24)]

    def year(self) -> object:
        """Every change."""
        return list(self._calendar.changes(self._first, self._last))

    def sample_a_year(self) -> object:
        """8760 local readings."""
        return [datetime.fromtimestamp(second, self._zone) for second in range(self._first, self._last, 3600)]


class _Fence:
    """The verdicts of a warden, one after the other."""

    def __init__(self, services: int) -> None:
        night = TimeRange(start_time="22:00", end_time="04:00")
        timed = tuple(
            TimedService(
                name=f"s{number}",
                in_=(FlowIn(tcp=1 + number, from_="10.0.0.0/8"),),
                open=(Interval(times=(night,), location=_ZONE),),
            )
            for number in range(services)
        )
        self._clause = msgspec.structs.replace(hours(), services=timed)
        self._timetable = Tzdata().timetable(self._clause)
        self._now = Moment(boot_ms=0, utc_ms=days.first_second(_YEAR) * 1000, boot_id="b")
        self._mark: ClockMark | None = None

    def judge(self) -> object:
        """The next one."""
        now = self._now = Moment(
            boot_ms=self._now.boot_ms + _TICK_MS, utc_ms=self._now.utc_ms + _TICK_MS, boot_id="b"
        )
        judged = fence.judge(
            self._clause, self._timetable, now=now, utc_ms=now.utc_ms, stamp=None, mark=self._mark
        )
        self._mark = judged.mark
        return judged


def run(rounds: int) -> list[Figure]:
    """A decision in microseconds and a year in milliseconds beside their budgets, and beside sampling."""
    calls = _Decisions()
    changes = calls.year()
    assert isinstance(changes, list)
    if len(changes) != 2 * (261 - 5 + 52 - 1 + 12 + 1):
        raise RuntimeError(f"the benchmark's own year has {len(changes)} changes")
    decision, decision_ratio = _paired(calls.decide, calls.sample_a_day, rounds, batch=BATCH)
    year, year_ratio = _paired(calls.year, calls.sample_a_year, rounds, batch=1)
    verdicts = [(count, _alone(_Fence(count).judge, rounds)) for count in _SERVICES]
    one, all_of_year = median_interval(decision), median_interval([took / 1000 for took in year])
    return [
        Figure(
            name="one decision of hours, with its end",
            value=one.median,
            unit="us",
            budget=f"<= {DECISION_US:.0f}",
            within=not one.misses_at_most(DECISION_US),
            detail=f"{one}, {rounds} rounds of {BATCH}; the least disturbed {min(decision):.1f}",
        ),
        Figure(
            name="one decision of hours, beside sampling a day hourly",
            value=median_interval(decision_ratio).median,
            unit="x",
            detail=f"{median_interval(decision_ratio)}, {rounds} paired rounds",
        ),
        Figure(
            name="a year of hours, exactly",
            value=all_of_year.median,
            unit="ms",
            budget=f"<= {YEAR_MS:.0f}",
            within=not all_of_year.misses_at_most(YEAR_MS),
            detail=f"{all_of_year}, {rounds} rounds, {len(changes)} changes; "
            f"the least disturbed {min(year) / 1000:.2f}",
        ),
        *(
            Figure(
                name=f"one verdict of hours, {count} services",
                value=median_interval(took).median,
                unit="us",
                detail=f"{median_interval(took)}, {len(took)} rounds of {BATCH}; the most {max(took):.1f}",
            )
            for count, took in verdicts
        ),
        Figure(
            name="a year of hours, beside sampling it hourly",
            value=median_interval(year_ratio).median,
            unit="x",
            detail=f"{median_interval(year_ratio)}, {rounds} paired rounds",
        ),
    ]


def _paired(
    ours: Callable[[], object], baseline: Callable[[], object], rounds: int, *, batch: int
) -> tuple[list[float], list[float]]:
    """Microseconds a call of ours, and its ratio to the baseline, a round each."""
    order = random.Random(_SEED)
    took_us, ratios = [], []
    for what in (ours, baseline):
        _timed_us(what, batch)  # the first pass fills caches and specialises the bytecode
    for _ in range(rounds):
        pair = [("ours", ours), ("baseline", baseline)]
        order.shuffle(pair)
        took = {name: _timed_us(what, batch) for name, what in pair}
        took_us.append(took["ours"])
        ratios.append(took["ours"] / took["baseline"])
    return took_us, ratios


def _alone(what: Callable[[], object], rounds: int) -> list[float]:
    _timed_us(what, BATCH)
    return [_timed_us(what, BATCH) for _ in range(max(rounds, 2))]


def _timed_us(what: Callable[[], object], batch: int) -> float:
    began = time.perf_counter_ns()
    for _ in range(batch):
        what()
    return (time.perf_counter_ns() - began) / batch / 1000
