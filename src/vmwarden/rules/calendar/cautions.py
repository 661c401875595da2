# SPDX-License-Identifier: Apache-2.0
"""What hours may say and their author should know."""

from collections.abc import Iterator, Mapping
from itertools import pairwise

from vmwarden.model.hours import Dates, Interval
from vmwarden.model.policy import Hours, Openings
from vmwarden.rules import duration
from vmwarden.rules.calendar import fields, opening, pattern, stamp
from vmwarden.rules.calendar.days import DAY, EPOCH_DAY
from vmwarden.rules.calendar.fields import Range
from vmwarden.rules.calendar.flaws import Flaw, Path
from vmwarden.rules.calendar.opening import FIRST, LAST, Calendar
from vmwarden.rules.calendar.pattern import Pattern
from vmwarden.rules.calendar.zone import Zone

_EPOCH = EPOCH_DAY * DAY
#: the coming year, seconds
_YEAR = 366 * DAY


def cautions(given: Hours, zones: Mapping[str, Zone], utc_s: int) -> tuple[Flaw, ...]:
    """Of sound hours, as they look from utc_s on.  Each once: two services may use one interval."""
    found = [*_unused(given)]
    rest = opening.compile(given, zones)
    found += _of_calendar((), rest, utc_s, may_be_always=False)
    found += _of_openings(given, (), given.open, given.closed_on, zones, utc_s)
    found += _drained(("drain",), given, rest, utc_s)
    for index, service in enumerate(given.services):
        path: Path = ("services", index)
        calendar = opening.compile_service(given, service, zones)
        found += _of_calendar(path, calendar, utc_s, may_be_always=True)
        found += _of_openings(given, path, service.open, service.closed_on, zones, utc_s)
        found += _drained(path, given, calendar, utc_s)
    return tuple(dict.fromkeys(found))


def _unused(given: Hours) -> Iterator[Flaw]:
    lists = (given.open, *(service.open for service in given.services))
    used = {entry for openings in lists for entry in openings if isinstance(entry, str)}
    for index, named in enumerate(given.intervals):
        if named.name not in used:
            yield Flaw(
                ("intervals", index), f"{named.name} is used nowhere", "name it under open, or leave it out"
            )


def _of_calendar(path: Path, calendar: Calendar, utc_s: int, *, may_be_always: bool) -> Iterator[Flaw]:
    state = calendar.state(utc_s)
    if state.until is not None or (state.open and may_be_always):
        return
    what = "this service" if path else "this VM"
    mend = f"nothing then {'closes' if state.open else 'opens'} {what}"
    never = "never closes" if state.open else "never opens"
    yield Flaw((*path, "open"), f"{never} from {stamp.utc(utc_s)} on", mend)


def _of_openings(
    given: Hours,
    path: Path,
    openings: Openings,
    closed_on: tuple[Dates, ...],
    zones: Mapping[str, Zone],
    utc_s: int,
) -> Iterator[Flaw]:
    never = pattern.merged(map(fields.dates, closed_on))
    entries = [*opening.resolved(given, openings, (*path, "open"))]
    for at, entry in entries:
        zone = zones[entry.location or given.time_zone]
        for flaw in _changed_by_the_zone(entry, pattern.of(entry, never), zone, utc_s):
            yield flaw._replace(path=at + flaw.path)
    for index, dates in enumerate(closed_on):
        for flaw in _reached(entries, fields.dates(dates), never):
            yield flaw._replace(path=(*path, "closed_on", index))


def _drained(path: Path, given: Hours, calendar: Calendar, utc_s: int) -> Iterator[Flaw]:
    """A slot that is no longer than the drain lets no new flow in at all."""
    drain_s = -(-duration.milliseconds(given.drain) // 1000)
    if not drain_s or calendar.always:
        return
    first, last = max(utc_s, FIRST), min(utc_s + _YEAR, LAST)
    # what runs at either end of the year is longer than it looks
    slots = [slot for slot in calendar.slots(first, last) if slot[0] > first and slot[1] < last]
    for begins, ends in sorted(slots, key=lambda slot: slot[1] - slot[0])[:1]:
        if ends - begins <= drain_s:
            yield Flaw(
                path,
                f"the slot that begins at {stamp.utc(begins)} lasts {_span(ends - begins)}, and for the last "
                f"{given.drain} of a slot no new connection is let in",
                "a shorter drain, or a longer slot",
            )


def _changed_by_the_zone(entry: Interval, days: Pattern, zone: Zone, utc_s: int) -> Iterator[Flaw]:
    """Ranges of the coming year that are longer or shorter than they read.

    A whole day is as long as it is: nobody who writes 00:00 to 24:00 counts its hours.
    """
    jumps = [
        (instant + _EPOCH + before, instant + _EPOCH + after)
        for (_, instant, before), (_, _, after) in pairwise(zone.stretches(utc_s, utc_s + _YEAR))
    ]
    for index, times in enumerate(entry.times or ()):
        start, end = fields.times(times)
        if (start, end) == (0, DAY):
            continue
        for ends, resumes in jumps:
            low, high = min(ends, resumes), max(ends, resumes)
            for day in days.between(low // DAY - 2, high // DAY + 1):
                begins, closes = day * DAY + start, day * DAY + end
                touched = min(closes, high) - max(begins, low)
                if touched > 0:
                    lasts = end - start + (touched if resumes < ends else -touched)
                    what = (
                        f"lasts {_span(lasts)} instead of {_span(end - start)}"
                        if lasts
                        else "does not happen"
                    )
                    yield Flaw(
                        ("times", index),
                        f"on {stamp.date(day)} {what}: {zone.name} goes from "
                        f"{stamp.clock(ends % DAY)} to {stamp.clock(resumes % DAY)}",
                        "choose other times, or UTC, if that matters",
                    )


def _reached(entries: list[tuple[Path, Interval]], closed: Range, never: tuple[Range, ...]) -> Iterator[Flaw]:
    """A range over midnight belongs to the day on which it begins, so it reaches into a closed date."""
    for at, entry in entries:
        before = pattern.of(entry, never).has(closed[0] - 1)
        ends = [end for _, end in map(fields.times, entry.times or ()) if end > DAY]
        if before and ends:
            yield Flaw(
                (),
                f"{stamp.date(closed[0])} is open until {stamp.clock(max(ends) - DAY)}: that range of "
                f"{'.'.join(map(str, at))} belongs to the day before",
                "close the day before, too, if that is not meant",
            )


def _span(seconds: int) -> str:
    parts = ((seconds // 3600, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s"))
    return " ".join(f"{count} {unit}" for count, unit in parts if count)
