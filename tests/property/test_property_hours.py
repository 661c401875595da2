# SPDX-License-Identifier: Apache-2.0
"""Hours against an evaluation that shares nothing with them: zoneinfo reads clocks, strings are compared."""

import calendar as months
import itertools
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vmwarden.errors import Malformed
from vmwarden.linux.tzdata import Tzdata
from vmwarden.model.clock_mark import ClockMark
from vmwarden.model.hours import Extra, Interval, TimeRange
from vmwarden.model.moment import Moment
from vmwarden.model.policy import Hours
from vmwarden.model.verdict import Answer
from vmwarden.rules.calendar import flaws, opening, timetable
from vmwarden.rules.calendar.opening import Calendar
from vmwarden.rules.fences import hours

TZDATA = Tzdata()
ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",  # summer began and ended at midnight
    "Africa/Cairo",
    "Australia/Lord_Howe",  # half an hour
    "Asia/Kathmandu",  # +05:45, before 1986 +05:30
    "Antarctica/Troll",  # two hours; before 2005 nobody was there
    "Africa/Casablanca",  # summer all year but in Ramadan
    "Pacific/Apia",  # lost 2011-12-30
    "Europe/Dublin",  # winter is the exception
)
FIRST, LAST = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (1970, 2101))
DAY = 86_400


# -- the other evaluation -----------------------------------------------------------------------------


def brute(hours: Hours, utc_s: int) -> bool:
    """Is it open, said as plainly as can be."""
    for extra in hours.extra:
        reading = datetime.fromtimestamp(utc_s, zone_of(hours.time_zone))
        if any(in_dates(extra.dates, begins) for begins in begun(extra.times, reading)):
            return True
    for entry in hours.open:
        assert isinstance(entry, Interval)
        reading = datetime.fromtimestamp(utc_s, zone_of(entry.location or hours.time_zone))
        for begins in begun(entry.times, reading):
            if on_day(entry, begins) and not in_dates(hours.closed_on, begins):
                return True
    return False


def begun(times: tuple[TimeRange, ...] | None, reading: datetime) -> Iterator[date]:
    """On which days did the ranges begin that the reading is in?"""
    clock = f"{reading.hour:02}:{reading.minute:02}:{reading.second:02}"
    for given_times in times or (TimeRange(start_time="00:00", end_time="24:00"),):
        start, end = (given_times.start_time + ":00")[:8], (given_times.end_time + ":00")[:8]
        if start < end and start <= clock < end:
            yield reading.date()
        if start > end and start <= clock:
            yield reading.date()
        if start > end and clock < end:
            yield reading.date() - timedelta(days=1)


@lru_cache(maxsize=100_000)
def on_day(entry: Interval, day: date) -> bool:
    week = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
    year = tuple(name.lower() for name in months.month_name)
    length = months.monthrange(day.year, day.month)[1]

    def listed(
        ranges: tuple[str | int, ...] | None, value: int, names: tuple[str, ...] = (), last: int = 0
    ) -> bool:
        if ranges is None:
            return True
        for text in map(str, ranges):
            ends = (text + ":" + text).lower().split(":")[:2] if ":" not in text else text.lower().split(":")
            low, high = (names.index(end) if end in names else int(end) for end in ends)
            low, high = (end + last + 1 if end < 0 else end for end in (low, high))
            if value in range(low, high + 1):
                return True
        return False

    return (
        listed(entry.weekdays, (day.weekday() + 1) % 7, week)
        and listed(entry.days_of_month, day.day, last=length)
        and listed(entry.months, day.month, year)
        and listed(entry.years, day.year)
    )


@lru_cache(maxsize=100_000)
def in_dates(ranges: tuple[str, ...], day: date) -> bool:
    return any(text.split(":")[0] <= day.isoformat() <= text.split(":")[-1] for text in ranges)


@lru_cache
def zone_of(name: str) -> ZoneInfo:
    return ZoneInfo(name)


# -- hours of all kinds -------------------------------------------------------------------------------


def pairs(values: list[str] | list[int]) -> st.SearchStrategy[str]:
    both = st.lists(st.integers(0, len(values) - 1), min_size=1, max_size=2).map(sorted)
    return both.map(lambda ends: ":".join(str(values[end]) for end in ends))


CLOCKS = st.one_of(
    st.sampled_from(
        ["00:00", "00:00:01", "00:30", "01:00", "01:30", "02:00", "02:30", "03:00", "12:00", "23:59:59"]
    ),
    st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59)),
    st.builds("{:02}:{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59), st.integers(0, 59)),
)
TIMES = st.builds(
    lambda start, end: TimeRange(start_time=start, end_time=end), CLOCKS, CLOCKS | st.just("24:00")
)
DATES = st.dates(date(1969, 12, 25), date(2101, 1, 7))
DATE_RANGES = st.builds(
    lambda begin, more: f"{begin}:{begin + timedelta(days=more)}" if more else str(begin),
    DATES,
    st.integers(0, 40),
)
DAYS = (
    pairs(list(range(1, 32))) | pairs(list(range(-31, 0))) | st.integers(1, 20).map(lambda day: f"{day}:-5")
)


def some(ranges: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, ...] | None]:
    return st.none() | st.none() | st.lists(ranges, min_size=1, max_size=3).map(tuple)


INTERVALS = st.builds(
    Interval,
    times=st.none() | st.lists(TIMES, min_size=1, max_size=3).map(tuple),
    weekdays=some(pairs(["sunday", "Monday", "tuesday", "wednesday", "thursday", "friday", "saturday"])),
    days_of_month=some(DAYS),
    months=some(pairs([name.lower() for name in months.month_name[1:]]) | pairs(list(range(1, 13)))),
    years=some(pairs(list(range(1969, 2102)))),
    location=st.sampled_from([None, None, *ZONES]),
)
HOURS = st.builds(
    Hours,
    open=st.lists(INTERVALS, min_size=1, max_size=3).map(tuple),
    time_zone=st.sampled_from(ZONES),
    closed_on=st.lists(DATE_RANGES, max_size=3).map(tuple),
    extra=st.lists(
        st.builds(
            Extra,
            dates=st.lists(DATE_RANGES, min_size=1, max_size=2).map(tuple),
            times=st.none() | st.lists(TIMES, min_size=1, max_size=2).map(tuple),
        ),
        max_size=2,
    ).map(tuple),
)


def compiled(hours: Hours) -> Calendar:
    return opening.compile(hours, TZDATA.zones(opening.zones_of(hours)))


def agree(hours: Hours, first: int, last: int) -> None:
    """In every second: open or not; and so the changes."""
    calendar = compiled(hours)
    plain = [brute(hours, utc_s) for utc_s in range(first - 1, last)]
    assert [calendar.is_open(utc_s) for utc_s in range(first - 1, last)] == plain
    changes = [
        (first + index, now) for index, (before, now) in enumerate(itertools.pairwise(plain)) if before != now
    ]
    assert [tuple(change) for change in calendar.changes(first, last)] == changes


@lru_cache
def jumps(zone: str) -> tuple[int, ...]:
    """When the zone's offset changes, found by zoneinfo alone: half a day is searched if its ends differ."""
    reader, found = zone_of(zone), []

    def offset(utc_s: int) -> timedelta | None:
        return datetime.fromtimestamp(utc_s, reader).utcoffset()

    step = DAY // 2
    for low in range(FIRST, LAST, step):
        high = low + step
        if offset(low) != offset(high):
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if offset(middle) != offset(low) else (middle, high)
            found.append(high)
    return tuple(found)


# -- agreement ----------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None, derandomize=True)
@given(hours=HOURS, utc_s=st.integers(FIRST, LAST), length=st.integers(1, 600))
def test_anywhere(hours: Hours, utc_s: int, length: int) -> None:
    assume(not list(flaws.hours(hours)))
    agree(hours, utc_s, utc_s + length)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(data=st.data(), zone=st.sampled_from(ZONES), entries=st.lists(INTERVALS, min_size=1, max_size=2))
def test_around_the_jumps_of_a_zone(data: st.DataObject, zone: str, entries: list[Interval]) -> None:
    """Without years, which would leave most jumps alone."""
    jump = data.draw(st.sampled_from(jumps(zone)))
    near = tuple(Interval(times=e.times, weekdays=e.weekdays, days_of_month=e.days_of_month) for e in entries)
    hours = Hours(open=near, time_zone=zone)
    assume(not list(flaws.hours(hours)))
    agree(hours, jump - 400, jump + 400)


PARTS = (
    TimeRange(start_time="22:00", end_time="00:20"),
    TimeRange(start_time="00:30:30", end_time="01:15"),
    TimeRange(start_time="01:45", end_time="02:15"),
    TimeRange(start_time="02:30", end_time="03:00"),
)
NIGHTS = Interval(times=PARTS)


@pytest.mark.parametrize("zone", ZONES)
def test_the_seconds_around_every_jump(zone: str) -> None:
    hours = Hours(open=(NIGHTS,), time_zone=zone)
    for jump in jumps(zone):
        agree(hours, jump - 30, jump + 30)


@pytest.mark.soak
@pytest.mark.parametrize("zone", ZONES)
def test_every_second_of_hours_around_every_jump(zone: str) -> None:
    hours = Hours(open=(NIGHTS,), time_zone=zone)
    for jump in jumps(zone):
        agree(hours, jump - 2 * 3600, jump + 2 * 3600)
    print(f"{zone}: {len(jumps(zone))} jumps, {len(jumps(zone)) * 4 * 3600} seconds")


@pytest.mark.parametrize("zone", ZONES)
def test_the_changes_of_130_years(zone: str) -> None:
    """Before each change it is otherwise, at each it is so, and in between it stays."""
    hours = Hours(
        open=(
            Interval(days_of_month=("-1",), times=(TimeRange(start_time="22:00", end_time="02:30"),)),
            Interval(weekdays=("saturday",), days_of_month=("1:7",), times=PARTS[2:]),
        ),
        time_zone=zone,
    )
    generator = random.Random(20261123)
    before, begins = compiled(hours).is_open(FIRST), FIRST
    count = 0
    for change in compiled(hours).changes(FIRST + 1, LAST):
        assert brute(hours, generator.randrange(begins, change.utc_s)) == before
        assert brute(hours, change.utc_s - 1) == before
        assert change.open != before and brute(hours, change.utc_s) == change.open
        before, begins, count = change.open, change.utc_s, count + 1
    assert count > 130 * 12 * 2


@settings(max_examples=60, deadline=None, derandomize=True)
@given(hours=HOURS, utc_s=st.integers(FIRST, LAST), inside=st.floats(0, 1, exclude_max=True))
def test_a_state_lasts_until_it_says(hours: Hours, utc_s: int, inside: float) -> None:
    assume(not list(flaws.hours(hours)))
    calendar = compiled(hours)
    state = calendar.state(utc_s)
    assert state.open == brute(hours, utc_s)
    until = state.until if state.until is not None else LAST + 400 * 366 * DAY
    assert brute(hours, utc_s + int((until - utc_s) * inside)) == state.open
    if state.until is not None:
        assert brute(hours, until - 1) == state.open != brute(hours, until)


# -- what holds for all hours -------------------------------------------------------------------------


@settings(max_examples=80, deadline=None, derandomize=True)
@given(hours=HOURS, more=DATE_RANGES, utc_s=st.integers(FIRST, LAST))
def test_one_more_closed_date_never_opens(hours: Hours, more: str, utc_s: int) -> None:
    assume(not list(flaws.hours(hours)))
    stricter = Hours(
        open=hours.open, time_zone=hours.time_zone, closed_on=(*hours.closed_on, more), extra=hours.extra
    )
    begin = int(datetime.fromisoformat(f"{more[:10]}T00:00Z").timestamp())
    for at in (utc_s, begin + utc_s % (3 * DAY)):
        assert compiled(hours).is_open(at) or not compiled(stricter).is_open(at)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    texts=st.lists(st.text("0123456789:-+ monday january", max_size=12), min_size=5, max_size=5),
    clock=st.tuples(st.text("0123456789:", max_size=8), st.text("0123456789:", max_size=8)),
)
def test_hours_without_a_flaw_compile_and_others_do_not(texts: list[str], clock: tuple[str, str]) -> None:
    entry = Interval(
        weekdays=(texts[0],) if texts[0] else None,
        days_of_month=(texts[1],) if texts[1] else None,
        months=(texts[2],) if texts[2] else None,
        years=(texts[3],) if texts[3] else None,
        times=(TimeRange(start_time=clock[0], end_time=clock[1]),) if clock[0] else None,
    )
    hours = Hours(open=(entry,), closed_on=(texts[4],) if texts[4] else ())
    if [flaw for flaw in flaws.hours(hours) if "can never open" not in flaw.message]:
        with pytest.raises(Malformed):
            compiled(hours)
    else:
        compiled(hours)


# -- the fence --------------------------------------------------------------------------------------

#: what changes seldom costs seconds, and says nothing more here
WEEKLY = st.builds(
    Interval,
    times=st.none() | st.lists(TIMES, min_size=1, max_size=2).map(tuple),
    weekdays=some(pairs(["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"])),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    weekly=st.lists(WEEKLY, min_size=1, max_size=2),
    zone=st.sampled_from(ZONES),
    utc_s=st.integers(FIRST, LAST),
    ms=st.integers(0, 999),
    drain=st.sampled_from(["0s", "700ms", "1h"]),
    steps=st.lists(st.tuples(st.integers(0, 10**8), st.integers(-(10**8), 0)), max_size=3),
)
def test_the_fence_says_how_long_it_holds(
    weekly: list[Interval], zone: str, utc_s: int, ms: int, drain: str, steps: list[tuple[int, int]]
) -> None:
    """To the millisecond; and whatever the clock does, what is open is open by the calendar, too."""
    clause = Hours(open=tuple(weekly), time_zone=zone, drain=drain)
    assume(not list(flaws.hours(clause)))
    table = timetable.compile(clause, TZDATA.zones(opening.zones_of(clause)))
    now = Moment(boot_ms=10**9, utc_ms=utc_s * 1000 + ms, boot_id="b")

    def judged(moment: Moment, mark: ClockMark | None) -> hours.Judged:
        return hours.judge(clause, table, now=moment, utc_ms=moment.utc_ms, stamp=None, mark=mark)

    mark = judged(now, None).mark
    latest = now.utc_ms - now.boot_ms
    for wait_ms, step_ms in steps:
        now = Moment(boot_ms=now.boot_ms + wait_ms, utc_ms=now.utc_ms + wait_ms, boot_id="b")
        mark = judged(now, mark).mark
        now = Moment(boot_ms=now.boot_ms, utc_ms=now.utc_ms + step_ms, boot_id="b")
        said = judged(now, mark)
        assert said.verdict.answer is not Answer.ALLOW or brute(clause, now.utc_ms // 1000)
        until = said.verdict.good_until_boot_ms
        if mark is not None and mark.ends_by_ms == latest and mark.offset_ms == latest and until is not None:
            # by the clock that had been right for a minute it is over by then
            was = table.rest.state((now.boot_ms + latest) // 1000)
            assert not was.open or was.until is None or until <= was.until * 1000 - latest
        mark, latest = said.mark, now.utc_ms - now.boot_ms
    said = judged(now, mark)
    changes = said.changes_boot_ms
    drains = said.opening.drain_from_boot_ms if said.opening is not None else None
    if changes is None or drains == changes or changes - now.boot_ms > 400 * DAY * 1000:
        return
    for boot_ms, same in ((changes - 1, True), (changes, False)):
        later = Moment(boot_ms=boot_ms, utc_ms=now.utc_ms + boot_ms - now.boot_ms, boot_id="b")
        assert (judged(later, said.mark).verdict.findings == said.verdict.findings) == same
