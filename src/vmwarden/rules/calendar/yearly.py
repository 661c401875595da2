# SPDX-License-Identifier: Apache-2.0
"""Rules for changes that come back every year: the TZ string at the end of a TZif file.

The form is that of POSIX.1 (Base Definitions, 8.3, TZ) with the hours of RFC 9636, section 3.3.1:
CET-1CEST,M3.5.0,M10.5.0/3 or <-02>2<-01>,M3.5.0/-1,M10.5.0/0.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from vmwarden.errors import Malformed
from vmwarden.rules.calendar import days

#: seconds from midnight at which a rule acts if it does not say (POSIX: 02:00:00)
_DEFAULT_TIME = 7200
#: RFC 9636: hours of a rule go from -167 to 167
_MOST_HOURS = 167

_NAME = r"(?:[A-Za-z]{3,}|<[A-Za-z0-9+-]{3,}>)"
_OFFSET = r"[+-]?\d{1,2}(?::\d{2}(?::\d{2})?)?"
_FORM = re.compile(rf"{_NAME}({_OFFSET})(?:{_NAME}({_OFFSET})?,([^,]+),([^,]+))?", re.ASCII)
_TIME = re.compile(r"([+-]?)(\d{1,3})(?::(\d{2}))?(?::(\d{2}))?", re.ASCII)
_MONTHLY = re.compile(r"M(\d{1,2})\.([1-5])\.([0-6])", re.ASCII)
_DAY = re.compile(r"(J?)(\d{1,3})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Turn:
    """One day of every year.  month, week (5 = last), weekday (sunday = 0); or month 0 and the day of the
    year: from 1 with no 29th of February ever (julian), or from 0 with it.  time: seconds from midnight.
    """

    month: int
    week: int
    weekday: int
    day: int
    julian: bool
    time: int

    def local(self, year: int) -> int:
        """The local reading at which it acts."""
        return self._day(year) * days.DAY + self.time

    def _day(self, year: int) -> int:
        if not self.month:
            if not self.julian:
                return days.number(year, 1, 1) + self.day
            past_february = days.is_leap(year) and self.day >= 60
            return days.number(year, 1, 1) + self.day - 1 + past_february
        first = days.number(year, self.month, 1)
        day = first + (self.weekday - first) % 7 + (self.week - 1) * 7
        return day if day < first + days.month_length(year, self.month) else day - 7


@dataclass(frozen=True, slots=True)
class Yearly:
    """standard, summer: seconds east of UTC.  begins, ends: of summer, each by the time until then."""

    standard: int
    summer: int
    begins: Turn
    ends: Turn


def parse(text: str) -> int | Yearly:
    """The one offset for ever, or the rules.  Raises Malformed."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise Malformed(f"{text[:80]!r} is no TZ string")
    standard = -_seconds(found[1])
    if found[3] is None:
        return standard
    summer = standard + 3600 if found[2] is None else -_seconds(found[2])
    return Yearly(standard, summer, _turn(found[3]), _turn(found[4]))


@lru_cache(maxsize=4096)
def changes(rule: Yearly, year: int) -> tuple[tuple[int, int], ...]:
    """(instant, offset from then on) of one year, ascending."""
    epoch = days.EPOCH_DAY * days.DAY
    to_summer = (rule.begins.local(year) - epoch - rule.standard, rule.summer)
    to_standard = (rule.ends.local(year) - epoch - rule.summer, rule.standard)
    return (to_summer, to_standard) if to_summer[0] < to_standard[0] else (to_standard, to_summer)


def _turn(text: str) -> Turn:
    day, slash, time = text.partition("/")
    at = _seconds(time) if slash else _DEFAULT_TIME
    monthly = _MONTHLY.fullmatch(day)
    if monthly is not None and 1 <= int(monthly[1]) <= 12:
        return Turn(int(monthly[1]), int(monthly[2]), int(monthly[3]), 0, False, at)
    plain = _DAY.fullmatch(day)
    if plain is not None and int(plain[2]) <= 365 and not (plain[1] and int(plain[2]) == 0):
        return Turn(0, 0, 0, int(plain[2]), bool(plain[1]), at)
    raise Malformed(f"{text[:80]!r} is no day of a TZ string")


def _seconds(text: str) -> int:
    found = _TIME.fullmatch(text)
    if found is None or int(found[2]) > _MOST_HOURS:
        raise Malformed(f"{text[:80]!r} is no time of a TZ string")
    seconds = int(found[2]) * 3600 + int(found[3] or 0) * 60 + int(found[4] or 0)
    return -seconds if found[1] == "-" else seconds
