# SPDX-License-Identifier: Apache-2.0
"""What a policy's hours come to, with the time zones of this machine."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from vmwarden.errors import Malformed, SourceUnavailable
from vmwarden.model.hours import Interval
from vmwarden.model.policy import Hours, Openings, Policy
from vmwarden.rules import instant
from vmwarden.rules.calendar.cautions import cautions
from vmwarden.rules.calendar.zone import Zone
from vmwarden.rules.sound import Path, Unsound

#: what vmwarden.linux.tzdata.Tzdata.zone does: raises Malformed for a zone that is not there, and
#: SourceUnavailable where there is no tzdata
FindZone = Callable[[str], Zone]


class Look(NamedTuple):
    """errors: zones that there are not.  warnings: what the author should know of hours without flaws."""

    errors: tuple[Unsound, ...] = ()
    warnings: tuple[Unsound, ...] = ()


def look(policy: Policy, find_zone: FindZone) -> Look:
    """The hours in the year that begins with the policy's period: the same whenever it is asked for."""
    hours = policy.hours
    if hours is None:
        return Look()
    zones: dict[str, Zone] = {}
    errors: list[Unsound] = []
    for path, name in _named(hours):
        try:
            zones[name] = find_zone(name)
        except Malformed as error:
            errors.append(Unsound(path, str(error), error.problems[0].mend))
        except SourceUnavailable as error:
            return Look((Unsound(path, f"time zones cannot be checked: {error}", error.mend),))
    try:
        from_s = instant.milliseconds(policy.valid.from_) // 1000
        found = () if errors else cautions(hours, zones, from_s)
    except Malformed:
        found = ()  # rules.sound says what is wrong
    return Look(
        tuple(errors), tuple(Unsound(("hours", *flaw.path), flaw.message, flaw.mend) for flaw in found)
    )


def _named(hours: Hours) -> Iterator[tuple[Path, str]]:
    """Every zone, where it is written; that of the clause also where it is left out."""
    yield ("hours", "time_zone"), hours.time_zone
    lists: list[tuple[Path, Openings]] = [(("open",), hours.open)]
    lists += [(("intervals", number, "any_of"), named.any_of) for number, named in enumerate(hours.intervals)]
    lists += [(("services", number, "open"), service.open) for number, service in enumerate(hours.services)]
    for at, openings in lists:
        for index, entry in enumerate(openings):
            if isinstance(entry, Interval) and entry.location is not None:
                yield ("hours", *at, index, "location"), entry.location
