# SPDX-License-Identifier: Apache-2.0
"""Hours drawn for a terminal: # open, + partly, . closed, blank where the zone jumps over."""

from collections.abc import Iterable, Iterator

from vmwarden.rules.calendar import days, fields, stamp
from vmwarden.rules.calendar.days import DAY, EPOCH_DAY
from vmwarden.rules.calendar.fields import Range
from vmwarden.rules.calendar.opening import FIRST, LAST, Calendar
from vmwarden.rules.calendar.zone import Zone

#: a cell of the week, seconds
_CELL = 1800
#: further than any zone is from UTC, seconds
_MARGIN = 2 * DAY


def week(calendar: Calendar, zone: Zone, utc_s: int) -> str:
    """The local week, from monday, around an instant: a row a day, a column each half hour."""
    day = zone.local(utc_s) // DAY
    monday = day - (day - 1) % 7
    there, open_ = _readings(calendar, zone, monday, monday + 7)
    head = "".join(f"{hour:02}  " for hour in range(24))
    rows = [f"{'':16}{head.rstrip()}"]
    for number in range(monday, monday + 7):
        cells = "".join(
            _mark(_within(there, at, at + _CELL), _within(open_, at, at + _CELL))
            for at in range(number * DAY, (number + 1) * DAY, _CELL)
        )
        name = fields.WEEKDAYS[number % 7][:3].capitalize()
        slots = " ".join(_slots(open_, number)) or "closed"
        rows.append(f"{name} {stamp.date(number)}  {cells}  {slots}")
    return "\n".join(rows)


def year(calendar: Calendar, zone: Zone, number: int) -> str:
    """The local year: a row a month, a column a day, and how many hours of the month are open."""
    first, last = days.number(number, 1, 1), days.number(number + 1, 1, 1)
    there, open_ = _readings(calendar, zone, first, last)
    head = "".join(str(day % 10) for day in range(1, 32))
    rows = [f"{number:04} {head}  open"]
    for month in range(1, 13):
        begins, length = days.number(number, month, 1), days.month_length(number, month)
        cells = "".join(
            _mark(_within(there, day * DAY, (day + 1) * DAY), _within(open_, day * DAY, (day + 1) * DAY))
            for day in range(begins, begins + length)
        )
        seconds = _within(open_, begins * DAY, (begins + length) * DAY)
        name = fields.MONTHS[month - 1][:3].capitalize()
        rows.append(f"{name}  {cells:31}  {seconds / 3600:5.1f} h")
    return "\n".join(rows)


def _readings(calendar: Calendar, zone: Zone, first: int, last: int) -> tuple[list[Range], list[Range]]:
    """Local readings of the days from first to before last: those that there are, and those that are open.

    In the order in which they are lived through: a reading that comes twice is in twice.
    """
    begins = max((first - EPOCH_DAY) * DAY - _MARGIN, FIRST)
    ends = min((last - EPOCH_DAY) * DAY + _MARGIN, LAST + 1)
    bounds = first * DAY, last * DAY
    there = _local([(begins, ends)], zone, bounds)
    return list(there), list(_local(calendar.slots(begins, ends), zone, bounds))


def _local(slots: Iterable[Range], zone: Zone, bounds: Range) -> Iterator[Range]:
    for opens, closes in slots:
        for begins, ends, offset in zone.stretches(opens, closes):
            to_local = offset + EPOCH_DAY * DAY
            reading = max(begins + to_local, bounds[0]), min(ends + to_local, bounds[1])
            if reading[0] < reading[1]:
                yield reading


def _within(readings: list[Range], begins: int, ends: int) -> int:
    """Seconds of them between the two."""
    return sum(max(0, min(last, ends) - max(first, begins)) for first, last in readings)


def _mark(there: int, open_: int) -> str:
    if not there:
        return " "
    if not open_:
        return "."
    return "#" if open_ == there else "+"


def _slots(open_: list[Range], day: int) -> Iterator[str]:
    for first, last in open_:
        begins, ends = max(first - day * DAY, 0), min(last - day * DAY, DAY)
        if begins < ends:
            yield f"{stamp.clock(begins)}-{stamp.clock(ends)}"
