# SPDX-License-Identifier: Apache-2.0
"""One range as hours write it, read.  What is accepted and refused is what Alertmanager accepts and refuses
(timeinterval/timeinterval.go), except: seconds and ranges over midnight are ours; months beyond 1 to 12 and
years beyond 1 to 9999 are refused here and never match there.

Every function raises Malformed with its mend.
"""

import re

from vmwarden.errors import Malformed
from vmwarden.model.hours import TimeRange
from vmwarden.rules.calendar import days

WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
#: days that every month has: Alertmanager reads negative ends against it when it refuses a range
_SHORTEST = 28
#: the calendar ends with this year
MOST_YEARS = 9999

_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?|24:00(?::00)?", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d{1,9}", re.ASCII)
_DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})", re.ASCII)

Range = tuple[int, int]


def clock(text: str) -> int:
    """Second of the day, 24:00 is 86400."""
    found = _CLOCK.fullmatch(text)
    if found is None:
        raise Malformed(f"{text!r} is no time of day", mend='write like "08:00" or "08:00:30"')
    if found[1] is None:
        return days.DAY
    return int(found[1]) * 3600 + int(found[2]) * 60 + int(found[3] or 0)


def times(given: TimeRange) -> Range:
    """Seconds from the midnight at which the day begins; the end is beyond 86400 if it is on the next day."""
    start, end = clock(given.start_time), clock(given.end_time)
    if start == days.DAY:
        raise Malformed("a range begins at 24:00", mend='begin at "00:00", on the day that is meant')
    if start == end:
        raise Malformed(
            f"begins and ends at {given.start_time}: never, or all day?",
            mend='for a whole day write "00:00" to "24:00", else leave the range out',
        )
    return (start, end) if start < end else (start, end + days.DAY)


def weekdays(text: str) -> Range:
    """sunday = 0."""
    first, last = _ends(text)
    begin, end = _named(first, WEEKDAYS, "weekday"), _named(last, WEEKDAYS, "weekday")
    if begin > end:
        raise Malformed(
            f"{text!r} runs over the end of the week, which begins with sunday",
            mend=f"write two ranges: {_part(WEEKDAYS, begin, 6)} and {_part(WEEKDAYS, 0, end)}",
        )
    return begin, end


def months(given: str | int) -> Range:
    """january = 1."""
    first, last = _ends(str(given))
    begin, end = _month(first), _month(last)
    if begin > end:
        names = ("", *MONTHS)
        raise Malformed(
            f"{given!r} runs over the end of the year",
            mend=f"write two ranges: {_part(names, begin, 12)} and {_part(names, 1, end)}",
        )
    return begin, end


def days_of_month(given: str | int) -> Range:
    """As written: negative ones count from the end of the month, -1 is its last day."""
    first, last = _ends(str(given))
    begin, end = _day_of_month(first), _day_of_month(last)
    if begin < 0 < end:
        raise Malformed(f"{given!r} begins counted from the end and ends counted from the start", mend="1:5")
    least = [part if part > 0 else _SHORTEST + part for part in (begin, end)]
    if least[0] > least[1]:
        mend = f"write {begin}:31" if begin > 0 and end == -1 else "swap the two, or write two ranges"
        raise Malformed(f"in {given!r} day {end} can come before day {begin}", mend=mend)
    return begin, end


def years(given: str | int) -> Range:
    first, last = _ends(str(given))
    begin, end = _year(first), _year(last)
    if begin > end:
        raise Malformed(f"{given!r} ends before it begins", mend=f"write {end}:{begin}")
    return begin, end


def dates(text: str) -> Range:
    """Numbers of the first and of the last day."""
    first, last = _ends(text)
    begin, end = _date(first), _date(last)
    if begin > end:
        raise Malformed(f"{text!r} ends before it begins", mend=f"write {last}:{first}")
    return begin, end


def days_in(ranges: tuple[Range, ...], length: int) -> int:
    """Bits of the days that ranges of days_of_month take from a month of that length; bit 1 is its first."""
    bits = 0
    for begin, end in ranges:
        first = begin if begin > 0 else max(length + begin + 1, 1)
        last = min(end, length) if end > 0 else length + end + 1
        if first <= last:
            bits |= (1 << last + 1) - (1 << first)
    return bits


def _ends(text: str) -> tuple[str, str]:
    """Like Alertmanager: one colon or none, upper and lower case alike, no space."""
    first, colon, last = text.lower().partition(":")
    return (first, last) if colon else (first, first)


def _named(text: str, names: tuple[str, ...], what: str) -> int:
    if text not in names:
        near = [name for name in names if len(text) >= 2 and name.startswith(text[:3])]
        mend = f"did you mean {near[0]}?" if near else f"write one of {', '.join(names)}"
        raise Malformed(f"{text!r} is no {what}", mend=mend)
    return names.index(text)


def _part(names: tuple[str, ...], begin: int, end: int) -> str:
    return names[begin] if begin == end else f"{names[begin]}:{names[end]}"


def _whole(text: str, what: str, mend: str) -> int:
    if _WHOLE.fullmatch(text) is None:
        raise Malformed(f"{text!r} is no {what}", mend=mend)
    return int(text)


def _month(text: str) -> int:
    if _WHOLE.fullmatch(text) is None:
        return _named(text, MONTHS, "month") + 1
    if not 1 <= int(text) <= 12:
        raise Malformed(f"there is no month {int(text)}", mend="january is 1, december 12")
    return int(text)


def _day_of_month(text: str) -> int:
    day = _whole(text, "day of the month", 'write like "1:7", or "-1" for the last day')
    if day == 0 or not -31 <= day <= 31:
        mend = "from the start 1 to 31, from the end -1 to -31"
        raise Malformed(f"no month has a day {day}", mend=mend)
    return day


def _year(text: str) -> int:
    year = _whole(text, "year", 'write like "2026" or "2026:2028"')
    if not 1 <= year <= MOST_YEARS:
        raise Malformed(f"{year} is no year from 1 to {MOST_YEARS}", mend="write four digits")
    return year


def _date(text: str) -> int:
    found = _DATE.fullmatch(text)
    if found is None:
        raise Malformed(f"{text!r} is no date", mend='write like "2026-12-25" or "2026-12-24:2026-12-26"')
    year, month, day = (int(part) for part in found.groups())
    if not 1 <= month <= 12 or not year or not 1 <= day <= days.month_length(year, month):
        raise Malformed(f"there is no {text}", mend="write a date that the calendar has")
    return days.number(year, month, day)
