# SPDX-License-Identifier: Apache-2.0
"""What hours may say and their author should know."""

from collections.abc import Iterator, Mapping
from itertools import pairwise

from vmwarden.model.hours import Hours, Interval
from vmwarden.rules.calendar import fields, opening, pattern, stamp
from vmwarden.rules.calendar.days import DAY, EPOCH_DAY
from vmwarden.rules.calendar.fields import Range
from vmwarden.rules.calendar.flaws import Flaw
from vmwarden.rules.calendar.pattern import Pattern
from vmwarden.rules.calendar.zone import Zone

_EPOCH = EPOCH_DAY * DAY
#: the coming year, seconds
_YEAR = 366 * DAY


def cautions(given: Hours, zones: Mapping[str, Zone], utc_s: int) -> Iterator[Flaw]:
    """Of sound hours, as they look from utc_s on."""
    state = opening.compile(given, zones).state(utc_s)
    if state.until is None:
        mend = "nothing then closes this VM" if state.open else "nothing then opens this VM"
        when = f"from {stamp.utc(utc_s)} on"
        yield Flaw(("open",), f"{'never closes' if state.open else 'never opens'} {when}", mend)
    never = pattern.merged(map(fields.dates, given.closed_on))
    for index, entry in enumerate(given.open):
        zone = zones[entry.location or given.time_zone]
        for flaw in _changed_by_the_zone(entry, pattern.of(entry, never), zone, utc_s):
            yield flaw._replace(path=("open", index, *flaw.path))
    for index, dates in enumerate(given.closed_on):
        yield from _reached(given, index, fields.dates(dates), never)


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


def _reached(given: Hours, index: int, closed: Range, never: tuple[Range, ...]) -> Iterator[Flaw]:
    """A range over midnight belongs to the day on which it begins, so it reaches into a closed date."""
    for number, entry in enumerate(given.open):
        before = pattern.of(entry, never).has(closed[0] - 1)
        ends = [end for _, end in map(fields.times, entry.times or ()) if end > DAY]
        if before and ends:
            yield Flaw(
                ("closed_on", index),
                f"{stamp.date(closed[0])} is open until {stamp.clock(max(ends) - DAY)}: that range of "
                f"open.{number} belongs to the day before",
                "close the day before, too, if that is not meant",
            )


def _span(seconds: int) -> str:
    parts = ((seconds // 3600, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s"))
    return " ".join(f"{count} {unit}" for count, unit in parts if count)
