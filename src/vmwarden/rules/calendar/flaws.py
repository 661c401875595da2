# SPDX-License-Identifier: Apache-2.0
"""What makes hours mean nothing, or two things: every mistake, with its mend.

Whether a zone exists is no question of these rules: an old VM must not refuse a new zone.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from vmwarden.errors import Malformed
from vmwarden.model.hours import Dates, Extra, Interval, TimeRange
from vmwarden.model.policy import Hours, Openings
from vmwarden.rules import duration
from vmwarden.rules.calendar import fields, pattern

Path = tuple[str | int, ...]

#: a drain longer than a day would outlast every slot that begins and ends daily, milliseconds
_LONGEST_DRAIN_MS = 86_400_000


class Flaw(NamedTuple):
    """path: keys as the author writes them, and indices.

    rests_on: parts without which it could not be said.
    """

    path: Path
    message: str
    mend: str = ""
    rests_on: tuple[Path, ...] = ()


def hours(given: Hours) -> Iterator[Flaw]:
    """In the order of the fields; nothing for hours that vmwarden.rules.calendar.opening can compile."""
    names = [one.name for one in given.intervals]
    yield from _openings(("open",), given.open, names)
    for index, one in enumerate(given.intervals):
        for number, entry in enumerate(one.any_of):
            yield from _below(("intervals", index, "any_of", number), interval(entry))
    yield from _dates((), given.closed_on, given.extra)
    for index, holidays in enumerate(given.holidays):
        yield from _each(("holidays", index, "dates"), holidays.dates, fields.dates)
    try:
        if duration.milliseconds(given.drain) > _LONGEST_DRAIN_MS:
            yield Flaw(("drain",), f"{given.drain} is more than a day", "30s, 10m")
    except Malformed as error:
        yield _flaw(("drain",), error)
    for index, service in enumerate(given.services):
        path: Path = ("services", index)
        yield from _openings((*path, "open"), service.open, names)
        yield from _dates(path, service.closed_on, service.extra)


def _openings(path: Path, given: Openings, names: Sequence[str]) -> Iterator[Flaw]:
    for index, entry in enumerate(given):
        if isinstance(entry, Interval):
            yield from _below((*path, index), interval(entry))
        elif entry not in names:
            known = f"defined there: {', '.join(names)}" if names else "define it there"
            yield Flaw((*path, index), f"{entry!r} is no name of hours.intervals", known, (("intervals",),))


def _dates(path: Path, closed_on: Sequence[Dates], extras: Sequence[Extra]) -> Iterator[Flaw]:
    yield from _each((*path, "closed_on"), closed_on, fields.dates)
    for index, extra in enumerate(extras):
        yield from _each((*path, "extra", index, "dates"), extra.dates, fields.dates)
        yield from _times((*path, "extra", index, "times"), extra.times or ())


def interval(given: Interval) -> Iterator[Flaw]:
    """Of one entry; that it can never open is said only if its parts are sound."""
    found = [
        *_times(("times",), given.times or ()),
        *_each(("weekdays",), given.weekdays or (), fields.weekdays),
        *_each(("days_of_month",), given.days_of_month or (), fields.days_of_month),
        *_each(("months",), given.months or (), fields.months),
        *_each(("years",), given.years or (), fields.years),
    ]
    yield from found
    if not found and not pattern.of(given).ever():
        yield Flaw(
            (),
            "can never open: no day of its years is in all its fields",
            "leave out a field, or a part",
            ((),),
        )


def _times(path: Path, given: Sequence[TimeRange]) -> Iterator[Flaw]:
    for index, times in enumerate(given):
        broken = False
        for name in ("start_time", "end_time"):
            for flaw in _each((), (getattr(times, name),), fields.clock):
                yield flaw._replace(path=(*path, index, name))
                broken = True
        if not broken:
            yield from _below(
                path, [flaw._replace(path=(index,)) for flaw in _each((), (times,), fields.times)]
            )


def _each(path: Path, given: Sequence[Any], read: Callable[[Any], object]) -> Iterator[Flaw]:
    for index, part in enumerate(given):
        try:
            read(part)
        except Malformed as error:
            yield _flaw((*path, index), error)


def _below(path: Path, found: Iterator[Flaw] | list[Flaw]) -> Iterator[Flaw]:
    for flaw in found:
        rests_on = tuple(path + part for part in flaw.rests_on)
        yield flaw._replace(path=path + flaw.path, rests_on=rests_on)


def _flaw(path: Path, error: Malformed) -> Flaw:
    return Flaw(path, str(error), error.problems[0].mend)
