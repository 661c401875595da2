# SPDX-License-Identifier: Apache-2.0
"""Instants as people write them: RFC 3339."""

import re

from vmwarden.errors import Malformed
from vmwarden.rules.calendar import days
from vmwarden.rules.calendar.days import DAY, EPOCH_DAY
from vmwarden.rules.calendar.zone import Zone

_FORM = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})[Tt ](\d{2}):(\d{2})(?::(\d{2})(?:\.\d{1,9})?)?"
    r"(?:[Zz]|([+-])(\d{2}):(\d{2}))",
    re.ASCII,
)
_MEND = "write like 2026-11-23T08:00:00Z or 2026-11-23T09:00:00+01:00"


def seconds(text: str) -> int:
    """Since 1970, UTC; parts of a second are dropped.  Raises Malformed, also for what no calendar has."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise Malformed(f"{text[:80]!r} is no instant with its offset from UTC", mend=_MEND)
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    east_hours, east_minutes = int(found[8] or 0), int(found[9] or 0)
    on_the_clock = hour <= 23 and minute <= 59 and second <= 59 and east_hours <= 23 and east_minutes <= 59
    in_the_calendar = year and 1 <= month <= 12 and 1 <= day <= days.month_length(year, month)
    if not on_the_clock or not in_the_calendar:
        raise Malformed(f"{text[:80]!r} is no instant: there is no such date or time", mend=_MEND)
    east = east_hours * 3600 + east_minutes * 60
    reading = (days.number(year, month, day) - EPOCH_DAY) * DAY + hour * 3600 + minute * 60 + second
    return reading + east if found[7] == "-" else reading - east


def utc(utc_s: int) -> str:
    """2026-11-23T08:00:00Z"""
    return f"{_reading(utc_s + EPOCH_DAY * DAY)}Z"


def local(utc_s: int, zone: Zone) -> str:
    """2026-11-23T09:00:00+01:00; offsets of before 1900 may have seconds, too."""
    offset = zone.offset(utc_s)
    minutes, seconds = divmod(abs(offset), 60)
    east = f"{'-' if offset < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}"
    return f"{_reading(zone.local(utc_s))}{east}{f':{seconds:02}' if seconds else ''}"


def date(day: int) -> str:
    """2026-11-23, of a day's number."""
    year, month, of_month = days.civil(day)
    return f"{year:04}-{month:02}-{of_month:02}"


def clock(second: int) -> str:
    """08:00, or 08:00:30, of a second of the day; 24:00 for its end."""
    text = f"{second // 3600:02}:{second // 60 % 60:02}"
    return f"{text}:{second % 60:02}" if second % 60 else text


def _reading(local: int) -> str:
    day, second = divmod(local, DAY)
    return f"{date(day)}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
