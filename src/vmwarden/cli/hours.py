# SPDX-License-Identifier: Apache-2.0
"""hours: when a VM is open, when that changes, and a picture of it.  Asks nothing of the VM."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vmwarden.cli.render import emit, json_option, printable, table
from vmwarden.errors import Malformed, Problem, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmwarden.linux.tzdata import Tzdata
    from vmwarden.model.policy import Hours, Openings, Policy
    from vmwarden.rules.calendar.opening import Calendar, Change
    from vmwarden.rules.calendar.zone import Zone

_SCHEMA = "vmwarden.hours/1"
#: bounds of --next and --year
_MOST_CHANGES = 100_000
_YEARS = (1, 9999)
#: changes that are shown when nothing is asked for
_COMING = 10

Row = dict[str, object]


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "hours",
        help="when is it open, and when does that change?",
        description="When hours are open, and the exact instants at which that changes.  With neither --at, "
        "--next nor --year: now, this week, this year and the next changes.  Intervals without a location "
        "are in UTC.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--policy", type=Path, metavar="FILE", help="the hours of this policy, in YAML or signed"
    )
    what.add_argument(
        "--intervals", type=Path, metavar="FILE", help="YAML: a list of Alertmanager's time intervals, or one"
    )
    parser.add_argument(
        "--service", metavar="NAME", help="with --policy: the hours of this service instead of the VM's"
    )
    parser.add_argument(
        "--at",
        nargs="+",
        action="extend",
        default=[],
        metavar="T",
        help="is it open at T, and until when?  T: RFC 3339 with offset, like 2026-11-23T08:00:00+01:00",
    )
    parser.add_argument(
        "--next", type=int, metavar="N", help="the next N changes after the first T, or after now"
    )
    parser.add_argument("--year", type=int, metavar="Y", help="all changes of a year (by UTC)")
    json_option(parser)
    parser.set_defaults(run=_hours)


def _hours(args: argparse.Namespace) -> int:
    from vmwarden.linux.clock import SystemClock
    from vmwarden.linux.tzdata import Tzdata
    from vmwarden.rules.calendar import days

    if args.service is not None and args.policy is None:
        raise UsageError("--service names a service of a policy: give --policy, too")
    _bounded("--next", args.next, (1, _MOST_CHANGES))
    _bounded("--year", args.year, _YEARS)
    tzdata = Tzdata()
    instants = _instants(args.at)
    # the machine's clock alone, not /proc: a question about a file asks nothing of this VM
    now = instants[0] if instants else SystemClock("").now().utc_ms // 1000
    if args.policy is not None:
        asked_of = _of_policy(args.policy, args.service, tzdata, now)
    else:
        asked_of = _of_intervals(args.intervals, tzdata, now)
    bare = not args.at and args.next is None and args.year is None
    asked = list(zip(args.at, instants, strict=True)) or ([("now", now)] if bare else [])
    results = [_result(at, utc_s, asked_of.calendar) for at, utc_s in asked]
    changes = _changes(asked_of.calendar, now, _COMING if bare else args.next, args.year)
    transitions = [_transition(change, asked_of.zone) for change in changes]
    for problem in () if args.json else asked_of.warnings:
        sys.stderr.write(f"warning  {printable(str(problem))}\n")
    document: Row = {
        "schema": _SCHEMA,
        "tzdata": tzdata.version(),
        "results": results,
        "transitions": transitions,
        "warnings": [problem._asdict() for problem in asked_of.warnings],
    }
    year = days.year_of(now) if bare else args.year
    text = "" if args.json else _text(document, asked_of, week=now if asked else None, year=year, now=now)
    emit(args, document, text)
    return 0


@dataclass(frozen=True, slots=True)
class _AskedOf:
    """calendar: the one that is asked.  zone: it is shown in this one.  others: those beside it, by name."""

    calendar: "Calendar"
    zone: "Zone"
    warnings: "tuple[Problem, ...]"
    others: "tuple[tuple[str, Calendar], ...]" = ()


def _of_intervals(path: Path, tzdata: "Tzdata", now: int) -> _AskedOf:
    """Raises Malformed with every mistake of the file."""
    from vmwarden.rules.calendar import opening
    from vmwarden.rules.calendar.cautions import cautions

    _at_the_desk()
    from vmwarden.owner import desk, intervals, yaml

    file = intervals.read(desk.read(path, yaml.FILE_BYTES), str(path), tzdata.zone)
    warnings = tuple(file.located(flaw) for flaw in cautions(file.hours, file.zones, now))
    zone = _shown_zone(file.hours, file.hours.open, file.zones)
    return _AskedOf(opening.compile(file.hours, file.zones), zone, warnings)


def _of_policy(path: Path, service: str | None, tzdata: "Tzdata", now: int) -> _AskedOf:
    """Raises Malformed with every mistake of the policy, UsageError for a service that it does not have."""
    from vmwarden.rules.calendar import opening

    policy, warnings = _policy(path)
    hours = policy.hours
    if hours is None:
        raise UsageError(f"{path}: the policy has no hours: it leaves the VM open at all times")
    zones = tzdata.zones(opening.zones_of(hours))
    if warnings is None:
        warnings = _cautions(str(path), hours, zones, now)
    services = {one.name: one for one in hours.services}
    if service is None:
        others = tuple((name, opening.compile_service(hours, one, zones)) for name, one in services.items())
        zone = _shown_zone(hours, hours.open, zones)
        return _AskedOf(opening.compile(hours, zones), zone, warnings, others)
    if service not in services:
        raise UsageError(f"no service {service!r}; the policy has: {', '.join(services) or 'none'}")
    zone = _shown_zone(hours, services[service].open, zones)
    return _AskedOf(opening.compile_service(hours, services[service], zones), zone, warnings)


def _policy(path: Path) -> "tuple[Policy, tuple[Problem, ...] | None]":
    """What is written or signed there, and what lint warns of in its hours; None of a signed one."""
    from vmwarden.linux.files import read_bounded
    from vmwarden.model.signed import SIGNED_HEAD
    from vmwarden.rules import trust

    data = read_bounded(path.resolve(), trust.SIGNED_BYTES)
    if data.startswith(SIGNED_HEAD):
        # needs nothing of the owner's desk: a VM can be asked about its own
        return trust.read_policy(trust.read_signed(data)), None
    _at_the_desk()
    from vmwarden.owner import desk

    report = desk.check(str(path))
    if report.policy is None:
        raise Malformed(f"{path}: {len(report.errors)} mistakes", problems=report.errors)
    return report.policy, tuple(one for one in report.warnings if one.path.split(".")[0] == "hours")


def _cautions(file: str, hours: "Hours", zones: "dict[str, Zone]", now: int) -> "tuple[Problem, ...]":
    """Of hours that are signed and have no lines."""
    from vmwarden.rules.calendar.cautions import cautions

    return tuple(
        Problem(flaw.message, flaw.mend, file, path=".".join(map(str, ("hours", *flaw.path))))
        for flaw in cautions(hours, zones, now)
    )


def _bounded(option: str, value: int | None, bounds: tuple[int, int]) -> None:
    if value is not None and not bounds[0] <= value <= bounds[1]:
        raise UsageError(f"{option} takes a number from {bounds[0]} to {bounds[1]}")


def _instants(texts: "Sequence[str]") -> list[int]:
    """Raises Malformed with every one that is wrong."""
    from vmwarden.rules.calendar import opening, stamp

    found: list[int] = []
    problems: list[Problem] = []
    for text in texts:
        try:
            utc_s = stamp.seconds(text)
            if not opening.FIRST <= utc_s <= opening.LAST:
                raise Malformed(f"{text!r} is not in the years 1 to 9999 of UTC", mend="name another instant")
            found.append(utc_s)
        except Malformed as error:
            problems += [problem._replace(path="--at") for problem in error.problems]
    if problems:
        raise Malformed("bad instants", problems=problems)
    return found


def _at_the_desk() -> None:
    """Raises UsageError where what a VM need not have is not installed."""
    from importlib.util import find_spec

    missing = [name for name in ("vmwarden.owner", "ruamel", "jsonschema") if find_spec(name) is None]
    if missing:
        raise UsageError(f"{', '.join(missing)} is not installed: pip install 'vmwarden[owner]'")


def _shown_zone(hours: "Hours", openings: "Openings", zones: "dict[str, Zone]") -> "Zone":
    """The one zone that all intervals are in, else UTC."""
    from vmwarden.rules.calendar.opening import resolved
    from vmwarden.rules.calendar.zone import UTC

    names = {entry.location or hours.time_zone for _, entry in resolved(hours, openings)}
    return zones[names.pop()] if len(names) == 1 else UTC


def _changes(calendar: "Calendar", after: int, count: int | None, year: int | None) -> "list[Change]":
    from itertools import islice

    from vmwarden.rules.calendar import days

    found = set(islice(calendar.changes(after + 1), count or 0))
    if year is not None:
        found |= set(calendar.changes(days.first_second(year), days.first_second(year + 1)))
    return sorted(found)


def _result(at: str, utc_s: int, calendar: "Calendar") -> Row:
    from vmwarden.rules.calendar import stamp

    state = calendar.state(utc_s)
    until = None if state.until is None else stamp.utc(state.until)
    return {"at": at, "utc": stamp.utc(utc_s), "open": state.open, "until": until}


def _transition(change: "Change", zone: "Zone") -> Row:
    from vmwarden.rules.calendar import stamp

    return {"at": stamp.local(change.utc_s, zone), "utc": stamp.utc(change.utc_s), "open": change.open}


def _text(document: Row, asked_of: _AskedOf, *, week: int | None, year: int | None, now: int) -> str:
    from vmwarden.cli import hours_text
    from vmwarden.rules.calendar import stamp

    calendar, zone = asked_of.calendar, asked_of.zone
    parts = [f"tzdata {document['tzdata']}, pictures in the time of {zone.name}"]
    results, transitions = document["results"], document["transitions"]
    assert isinstance(results, list) and isinstance(transitions, list)
    if results:
        rows = [(row["at"], row["utc"], _word(row["open"]), row["until"] or "for ever") for row in results]
        parts.append(table(("AT", "UTC", "IS", "UNTIL"), rows))
    if asked_of.others and week is not None:
        states = [(name, other.state(now)) for name, other in asked_of.others]
        ends = ["for ever" if state.until is None else stamp.utc(state.until) for _, state in states]
        told = [(name, _word(state.open), end) for (name, state), end in zip(states, ends, strict=True)]
        parts.append(table((f"SERVICE, at {stamp.utc(now)}", "IS", "UNTIL"), told))
    if week is not None:
        parts.append(hours_text.week(calendar, zone, week))
    if year is not None:
        parts.append(hours_text.year(calendar, zone, year))
    if transitions:
        lines = [(row["utc"], row["at"], _word(row["open"])) for row in transitions]
        parts.append(table(("UTC", zone.name, "BECOMES"), lines))
    return "\n\n".join(parts)


def _word(open_: object) -> str:
    return "open" if open_ else "closed"
