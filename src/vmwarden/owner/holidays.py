# SPDX-License-Identifier: Apache-2.0
"""Holidays become dates when a policy is signed, so that the VM needs no table of them and none can change
under it.

Those of a country are the public holidays of the Python package holidays, days in lieu included.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from importlib.util import find_spec
from typing import NamedTuple

import msgspec

from vmwarden.errors import Problem, UntrustedInput, WorldError
from vmwarden.model.policy import Holidays, Policy
from vmwarden.owner.inline import ReadBeside
from vmwarden.rules import instant
from vmwarden.rules.calendar import pattern, stamp
from vmwarden.rules.sound import Path, Unsound

#: dates go on for so long after valid.until: a policy in force stays in force after its end
AFTER = timedelta(days=366)
_INSTALL = "pip install 'vmwarden[owner]'"


class Expanded(NamedTuple):
    """policy: with the dates.  errors, problems: what was wrong, in the policy and in files beside it.

    failed: paths of the entries that have no dates because of that.
    """

    policy: Policy
    errors: tuple[Unsound, ...] = ()
    problems: tuple[Problem, ...] = ()
    failed: tuple[Path, ...] = ()


def expand(policy: Policy, read_beside: ReadBeside, beside: str) -> Expanded:
    """Each entry of hours.holidays with its dates, from the day before valid.from to a year after its end.

    beside: the folder for messages, with its slash, or "".
    """
    hours = policy.hours
    if hours is None or not hours.holidays:
        return Expanded(policy)
    paths: list[Path] = [("hours", "holidays", index) for index in range(len(hours.holidays))]
    try:
        first = _day(policy.valid.from_) - timedelta(days=1)
        last = _day(policy.valid.until) + AFTER
    except (UntrustedInput, OverflowError):
        return Expanded(policy, failed=tuple(paths))  # rules.sound says what is wrong with the period
    entries: list[Holidays] = []
    errors: list[Unsound] = []
    problems: list[Problem] = []
    failed: list[Path] = []
    for path, entry in zip(paths, hours.holidays, strict=True):
        days: Iterable[date] = ()
        wrong: list[Unsound] = []
        in_file: tuple[Problem, ...] = ()
        if entry.country is not None and entry.file is None:
            days, wrong = _of_country(path, entry.country, entry.subdivision, first, last)
        elif entry.file is not None and entry.country is None:
            days, wrong, in_file = _of_file(path, entry.file, read_beside, beside, first, last)
        dates = tuple(_ranges(days))
        if not (dates or wrong or in_file) and (entry.country is None) != (entry.file is None):
            wrong = [Unsound(path, f"has no date from {first} to {last}", "is it of another year?")]
        if wrong or in_file:
            failed.append(path)
        errors += wrong
        problems += in_file
        entries.append(msgspec.structs.replace(entry, dates=dates))
    hours = msgspec.structs.replace(hours, holidays=tuple(entries))
    expanded = msgspec.structs.replace(policy, hours=hours)
    return Expanded(expanded, tuple(errors), tuple(problems), tuple(failed))


def _of_country(
    path: Path, country: str, subdivision: str | None, first: date, last: date
) -> tuple[list[date], list[Unsound]]:
    if find_spec("holidays") is None:
        return [], [Unsound((*path, "country"), "the Python package holidays is not installed", _INSTALL)]
    # takes 0.2 s to import, and few policies have holidays
    import holidays

    known = holidays.list_supported_countries()
    if country not in known:
        mend = "list the dates under closed_on, or name an iCalendar file"
        return [], [Unsound((*path, "country"), f"nobody here knows the holidays of {country}", mend)]
    part = None
    if subdivision is not None:
        part = subdivision.removeprefix(f"{country}-")
        if part not in known[country]:
            parts = ", ".join(f"{country}-{code}" for code in known[country]) or "none"
            message = f"nobody here knows holidays of {subdivision} in {country}"
            return [], [Unsound((*path, "subdivision"), message, f"known: {parts}")]
    found = holidays.country_holidays(country, subdiv=part, years=range(first.year, last.year + 1))
    return [day for day in found if first <= day <= last], []


def _of_file(
    path: Path, name: str, read_beside: ReadBeside, beside: str, first: date, last: date
) -> tuple[frozenset[date], list[Unsound], tuple[Problem, ...]]:
    nothing: frozenset[date] = frozenset()
    at = (*path, "file")
    if find_spec("dateutil") is None:
        return nothing, [Unsound(at, "the Python package python-dateutil is not installed", _INSTALL)], ()
    from vmwarden.owner import icalendar

    if name.startswith("/") or ".." in name.split("/"):
        mend = "name a file in the policy's own folder"
        return nothing, [Unsound(at, f"{name!r} is not beside the policy", mend)], ()
    try:
        data = read_beside(name)
    except (UntrustedInput, WorldError) as error:
        return nothing, [Unsound(at, f"{name}: {error}", "name an iCalendar file")], ()
    days, problems = icalendar.whole_days(data, beside + name, first, last)
    path_text = ".".join(map(str, at))
    return days, [], tuple(problem._replace(path=path_text) for problem in problems)


def _ranges(days: Iterable[date]) -> Iterator[str]:
    for first, last in pattern.merged((day.toordinal(), day.toordinal()) for day in days):
        yield stamp.date(first) if first == last else f"{stamp.date(first)}:{stamp.date(last)}"


def _day(text: str) -> date:
    return datetime.fromtimestamp(instant.milliseconds(text) / 1000, UTC).date()
