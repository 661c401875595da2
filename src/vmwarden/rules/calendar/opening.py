# SPDX-License-Identifier: Apache-2.0
"""When hours are open, and when that changes: exactly, from the edges of ranges and the changes of zones.

Open is a question to the local reading alone.  So a range that a zone jumps over does not happen, one that
it lives through twice happens twice, and one that is open on one side of the jump only begins or ends there.
"""

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from vmwarden.errors import Malformed
from vmwarden.model.hours import Dates, Extra, Interval, TimeRange
from vmwarden.model.policy import Hours, Openings, TimedService
from vmwarden.rules.calendar import days, fields, pattern
from vmwarden.rules.calendar.days import DAY, EPOCH_DAY
from vmwarden.rules.calendar.fields import Range
from vmwarden.rules.calendar.pattern import Pattern
from vmwarden.rules.calendar.zone import Zone

#: instants that are answered: years 1 to 9999
FIRST, LAST = days.first_second(1), days.first_second(10_000) - 1

_EPOCH = EPOCH_DAY * DAY
_WEEK = 7 * DAY
_WHOLE_DAY: tuple[Range, ...] = ((0, DAY),)


class State(NamedTuple):
    """until: the instant at which it changes; None = never (or after the year 9999)."""

    open: bool
    until: int | None


class Change(NamedTuple):
    """utc_s: the first second of the state open."""

    utc_s: int
    open: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """On the days of pattern, by the reading of zone, in any of times.

    times: ascending; seconds from the day's midnight, the end exclusive and beyond 86400 if on the next day.
    """

    zone: Zone
    pattern: Pattern
    times: tuple[Range, ...] = _WHOLE_DAY

    def holds(self, utc_s: int) -> bool:
        day, second = divmod(self.zone.local(utc_s), DAY)
        for start, end in self.times:
            if start <= second < end and self.pattern.has(day):
                return True
            if second < end - DAY and self.pattern.has(day - 1):
                return True
        return False

    def slots(self, first: int, last: int) -> Iterator[Range]:
        """What of [first, last) holds, ascending by its beginning; they may meet and overlap."""
        bounds = self.pattern.bounds()
        if bounds is not None:
            # two days: no zone is further from UTC than that, and no range is longer
            first = max(first, (bounds[0] - 2 - EPOCH_DAY) * DAY)
            last = min(last, (bounds[1] + 3 - EPOCH_DAY) * DAY)
        for begins, ends, offset in self.zone.stretches(first, last):
            to_local = offset + _EPOCH
            # from the day before on: its ranges reach over midnight
            for day in self.pattern.between((begins + to_local) // DAY - 1, (ends + to_local - 1) // DAY):
                midnight = day * DAY - to_local
                for start, end in self.times:
                    slot = max(midnight + start, begins), min(midnight + end, ends)
                    if slot[0] < slot[1]:
                        yield slot


@dataclass(frozen=True, slots=True)
class Calendar:
    """Hours, read.  settled: from this instant on everything repeats with the calendar's period, or is over.

    always: open at every instant, as far as that shows in a week.
    """

    rules: tuple[Rule, ...]
    settled: int
    always: bool

    def is_open(self, utc_s: int) -> bool:
        """In the second that begins at utc_s.  Raises Malformed beyond FIRST and LAST."""
        _within(utc_s)
        return any(rule.holds(utc_s) for rule in self.rules)

    def state(self, utc_s: int) -> State:
        """Open or not, and until when.  It stays true until then: keep it rather than ask again.

        Raises Malformed beyond FIRST and LAST.
        """
        _within(utc_s)
        change = next(self.changes(utc_s + 1), None)
        until = None if change is None else change.utc_s
        return State(self.is_open(utc_s) if change is None else not change.open, until)

    def changes(self, first: int, last: int | None = None) -> Iterator[Change]:
        """All with first <= utc_s < last, ascending; without last as many as are asked for."""
        if self.always:
            return
        ends = min(LAST + 1, max(first, self.settled) + _PERIOD) if last is None else min(last, LAST + 1)
        for opens, closes in self.slots(first - 1, ends):
            if opens >= first:
                yield Change(opens, True)
            if closes < ends:
                yield Change(closes, False)

    def slots(self, first: int, last: int) -> Iterator[Range]:
        """[first, last) as far as it is open: ascending, with a gap between each two."""
        slot: Range | None = None
        for opens, closes in heapq.merge(*(rule.slots(first, last) for rule in self.rules)):
            if slot is None:
                slot = opens, closes
            elif opens <= slot[1]:
                slot = slot[0], max(slot[1], closes)
            else:
                yield slot
                slot = opens, closes
        if slot is not None:
            yield slot


#: the calendar's period, and a week for offsets and ranges over midnight at its ends, seconds
_PERIOD = (days.CYCLE_DAYS + 7) * DAY


def zones_of(hours: Hours) -> frozenset[str]:
    """Names of the zones that compile and compile_service need.  Raises Malformed for a name that is none."""
    names = {hours.time_zone}
    for openings in (hours.open, *(service.open for service in hours.services)):
        names |= {entry.location for _, entry in resolved(hours, openings) if entry.location is not None}
    return frozenset(names)


def compile(hours: Hours, zones: Mapping[str, Zone]) -> Calendar:
    """Of the VM, its services apart.

    Raises Malformed for the first mistake (vmwarden.rules.calendar.flaws tells all of them).
    """
    return _calendar(hours, hours.open, closed_dates(hours), hours.extra, zones)


def compile_service(hours: Hours, service: TimedService, zones: Mapping[str, Zone]) -> Calendar:
    """Of one service.  Raises Malformed as compile does."""
    return _calendar(hours, service.open, closed_dates(hours, service), service.extra, zones)


def closed_dates(hours: Hours, service: TimedService | None = None) -> tuple[Dates, ...]:
    """On which nothing begins: closed_on, and the holidays where they count."""
    holidays = tuple(dates for entry in hours.holidays for dates in entry.dates)
    if service is None:
        return hours.closed_on + holidays
    return service.closed_on + (holidays if service.holidays else ())


def _calendar(
    hours: Hours,
    openings: Openings,
    closed: tuple[Dates, ...],
    extras: tuple[Extra, ...],
    zones: Mapping[str, Zone],
) -> Calendar:
    never = pattern.merged(map(fields.dates, closed))
    rules = [
        Rule(_zone(entry.location or hours.time_zone, zones), pattern.of(entry, never), _times(entry.times))
        for _, entry in resolved(hours, openings)
    ]
    for extra in extras:
        only = pattern.merged(map(fields.dates, extra.dates))
        rules.append(Rule(_zone(hours.time_zone, zones), Pattern(only=only), _times(extra.times)))
    settled = [(rule.pattern.settled() + 2 - EPOCH_DAY) * DAY for rule in rules]
    settled += [rule.zone.instants[-1] for rule in rules if rule.zone.instants]
    return Calendar(tuple(rules), max(settled), _always(rules))


def resolved(
    hours: Hours, openings: Openings, at: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], Interval]]:
    """Each interval with its path in the clause, names followed.  at: that of openings.  Raises Malformed."""
    for index, entry in enumerate(openings):
        if isinstance(entry, Interval):
            yield (*at, index), entry
            continue
        found = [(number, one) for number, one in enumerate(hours.intervals) if one.name == entry]
        if not found:
            raise Malformed(f"{entry!r} is no name of an interval", mend="define it under hours.intervals")
        number, named = found[0]
        for below, interval in enumerate(named.any_of):
            yield ("intervals", number, "any_of", below), interval


def _times(given: tuple[TimeRange, ...] | None) -> tuple[Range, ...]:
    return _WHOLE_DAY if given is None else tuple(sorted(map(fields.times, given)))


def _zone(name: str, zones: Mapping[str, Zone]) -> Zone:
    zone = zones.get(name)
    if zone is None:
        raise Malformed(f"{name!r} is no time zone that is known here", mend="install or update tzdata")
    return zone


def _always(rules: list[Rule]) -> bool:
    """Do rules that depend on the weekday only leave nothing out in some zone?"""
    weekly: dict[Zone, list[Range]] = {}
    for rule in rules:
        if rule.pattern.weekly():
            slots = weekly.setdefault(rule.zone, [])
            for weekday in range(-1, 8):
                if rule.pattern.weekdays >> weekday % 7 & 1:
                    slots += [(weekday * DAY + start, weekday * DAY + end) for start, end in rule.times]
    for slots in weekly.values():
        reached = 0
        for start, end in sorted(slots):
            if start > reached:
                break
            reached = max(reached, end)
        if reached >= _WEEK:
            return True
    return False


def _within(utc_s: int) -> None:
    if not FIRST <= utc_s <= LAST:
        raise Malformed("the calendar answers for the years 1 to 9999", mend="name another instant")
