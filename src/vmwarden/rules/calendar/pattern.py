# SPDX-License-Identifier: Apache-2.0
"""Which days an interval speaks of."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import itemgetter

from vmwarden.model.hours import Interval
from vmwarden.rules.calendar import days, fields
from vmwarden.rules.calendar.fields import Range

_EVERY_WEEKDAY = (1 << 7) - 1
_EVERY_MONTH = (1 << 13) - 2
_LAST = itemgetter(1)


@dataclass(frozen=True, slots=True)
class Pattern:
    """weekdays: bits, sunday is bit 0.  months: bits 1 to 12.  days_of_month: ranges as written; None = all.
    years: ranges, ascending and apart; None = all.  only: ranges of day numbers, likewise; None = all.
    never: days taken out, likewise.
    """

    weekdays: int = _EVERY_WEEKDAY
    months: int = _EVERY_MONTH
    days_of_month: tuple[Range, ...] | None = None
    years: tuple[Range, ...] | None = None
    only: tuple[Range, ...] | None = None
    never: tuple[Range, ...] = ()

    def has(self, day: int) -> bool:
        """Is it one of these days?"""
        if not self.weekdays >> day % 7 & 1:
            return False
        if self.months != _EVERY_MONTH or self.days_of_month is not None or self.years is not None:
            year, month, of_month = days.civil(day)
            if not self.months >> month & 1:
                return False
            if self.days_of_month is not None:
                bits = fields.days_in(self.days_of_month, days.month_length(year, month))
                if not bits >> of_month & 1:
                    return False
            if self.years is not None and not _within(self.years, year):
                return False
        if self.only is not None and not _within(self.only, day):
            return False
        return not self.never or not _within(self.never, day)

    def between(self, first: int, last: int) -> Iterator[int]:
        """These days from first to last, both inclusive, ascending."""
        if self.only is not None:
            if not self.only:
                return
            first, last = max(first, self.only[0][0]), min(last, self.only[-1][1])
        year, month, _ = days.civil(first)
        while True:
            if self.years is not None and not _within(self.years, year):
                later = [begin for begin, _ in self.years if begin > year]
                if not later:
                    return
                year, month = later[0], 1
            begins = days.number(year, month, 1)
            if begins > last:
                return
            if self.months >> month & 1:
                yield from self._of_month(year, month, begins, max(first, begins), last)
            year, month = (year, month + 1) if month < 12 else (year + 1, 1)

    def ever(self) -> bool:
        """Is there any such day?"""
        if self.only is not None:
            return any(True for begin, end in self.only for _ in self.between(begin, end))
        for year in self._kinds_of_year():
            if any(True for _ in self.between(days.number(year, 1, 1), days.number(year, 12, 31))):
                return True
        return False

    def weekly(self) -> bool:
        """Does it depend on nothing but the weekday?"""
        return self == Pattern(weekdays=self.weekdays)

    def bounds(self) -> Range | None:
        """Days before and after which there is none of these; None = there is no such bound."""
        if self.only is not None:
            return (self.only[0][0], self.only[-1][1]) if self.only else (0, 0)
        if self.years is not None:
            return days.number(self.years[0][0], 1, 1), days.number(self.years[-1][1], 12, 31)
        return None

    def settled(self) -> int:
        """A day after which it goes on with the period of the calendar, or is over."""
        ends = [0]
        for begin, end in self.years or ():
            ends.append(days.number(begin if end == fields.MOST_YEARS else end + 1, 1, 1))
        ends += [end + 1 for _, end in (*(self.only or ()), *self.never)]
        return max(ends)

    def _of_month(self, year: int, month: int, begins: int, first: int, last: int) -> Iterator[int]:
        length = days.month_length(year, month)
        bits = -1 if self.days_of_month is None else fields.days_in(self.days_of_month, length)
        for day in range(first, min(last, begins + length - 1) + 1):
            if not self.weekdays >> day % 7 & 1 or not bits >> day - begins + 1 & 1:
                continue
            if self.only is not None and not _within(self.only, day):
                continue
            if not self.never or not _within(self.never, day):
                yield day

    def _kinds_of_year(self) -> Iterator[int]:
        """One year of each kind (14: leap or not, and the weekday on which it begins) that is listed."""
        seen = set()
        for begin, end in self.years or ((1, days.CYCLE_YEARS),):
            for year in range(begin, min(end, begin + days.CYCLE_YEARS - 1) + 1):
                kind = (days.is_leap(year), days.number(year, 1, 1) % 7)
                if kind not in seen:
                    seen.add(kind)
                    yield year


def of(interval: Interval, never: tuple[Range, ...] = ()) -> Pattern:
    """Raises Malformed for the first range that is wrong."""
    return Pattern(
        _EVERY_WEEKDAY if interval.weekdays is None else _bits(map(fields.weekdays, interval.weekdays)),
        _EVERY_MONTH if interval.months is None else _bits(map(fields.months, interval.months)),
        None if interval.days_of_month is None else tuple(map(fields.days_of_month, interval.days_of_month)),
        None if interval.years is None else merged(map(fields.years, interval.years)),
        None,
        never,
    )


def merged(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """Inclusive ranges, ascending, those that meet made one."""
    apart: list[Range] = []
    for begin, end in sorted(ranges):
        if apart and begin <= apart[-1][1] + 1:
            apart[-1] = (apart[-1][0], max(apart[-1][1], end))
        else:
            apart.append((begin, end))
    return tuple(apart)


def _bits(ranges: Iterable[Range]) -> int:
    bits = 0
    for begin, end in ranges:
        bits |= (1 << end + 1) - (1 << begin)
    return bits


def _within(ranges: tuple[Range, ...], value: int) -> bool:
    at = bisect_left(ranges, value, key=_LAST)
    return at < len(ranges) and ranges[at][0] <= value
