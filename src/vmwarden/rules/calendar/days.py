# SPDX-License-Identifier: Apache-2.0
"""Days by number.  Day 1 is 0001-01-01; day % 7 is the weekday, sunday = 0."""

from datetime import date

DAY = 86_400
#: number of the day 1970-01-01
EPOCH_DAY = date(1970, 1, 1).toordinal()
#: the Gregorian calendar, weekdays included, repeats after 400 years of so many days
CYCLE_YEARS, CYCLE_DAYS = 400, 146_097

_LENGTHS = (0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def month_length(year: int, month: int) -> int:
    return 29 if month == 2 and is_leap(year) else _LENGTHS[month]


def number(year: int, month: int, day: int) -> int:
    """Of a date that exists, in any year."""
    cycle, rest = divmod(year - 1, CYCLE_YEARS)
    return date(rest + 1, month, day).toordinal() + cycle * CYCLE_DAYS


def civil(day: int) -> tuple[int, int, int]:
    """Year, month and day of the month of a day's number."""
    cycle, rest = divmod(day - 1, CYCLE_DAYS)
    found = date.fromordinal(rest + 1)
    return found.year + cycle * CYCLE_YEARS, found.month, found.day


def first_second(year: int) -> int:
    """The instant at which a year begins in UTC."""
    return (number(year, 1, 1) - EPOCH_DAY) * DAY


def year_of(utc_s: int) -> int:
    """The year in UTC."""
    return civil(EPOCH_DAY + utc_s // DAY)[0]
