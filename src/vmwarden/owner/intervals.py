# SPDX-License-Identifier: Apache-2.0
"""A file of Alertmanager's time intervals: a list of them, or one."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from vmwarden.errors import Malformed, Problem
from vmwarden.model.hours import LIST, Interval
from vmwarden.model.policy import Hours, NamedInterval
from vmwarden.owner import explain, yaml
from vmwarden.owner.node import Node, Path, key_of, mark_of, plain
from vmwarden.owner.schema import schema_of
from vmwarden.owner.timetable import FindZone
from vmwarden.rules.calendar import flaws
from vmwarden.rules.calendar.flaws import Flaw
from vmwarden.rules.calendar.zone import UTC, Zone
from vmwarden.rules.sound import dotted


@dataclass(frozen=True, slots=True)
class IntervalsFile:
    """hours: the intervals as hours in UTC.  zones: all that they need."""

    hours: Hours
    zones: dict[str, Zone]
    root: Node

    def located(self, flaw: Flaw) -> Problem:
        """What is said of these hours, at its place in the file."""
        path = flaw.path[1:] if flaw.path[:1] == ("open",) else ()
        return _problem(self.root, path if isinstance(self.root.value, tuple) else path[1:], flaw)


def read(data: bytes, file: str, find_zone: FindZone) -> IntervalsFile:
    """file: its name for messages.  Raises Malformed with every mistake; and what find_zone raises else."""
    root, read_problems = yaml.read(data, file)
    if root is None:
        raise Malformed(f"{file}: cannot be read", problems=read_problems)
    problems = list(read_problems)
    said = {(problem.line, problem.column) for problem in problems}
    broken: set[Path] = set()
    for mistake in explain.mistakes(plain(root), root, schema_of(_kind(root))):
        mark = key_of(root, mistake.path) if mistake.at_key else mark_of(root, mistake.path)
        if (mark.line, mark.column) not in said:
            place = (mark.file, mark.line, mark.column, dotted(mistake.path))
            problems.append(Problem(mistake.message, mistake.mend, *place))
        broken.add(mistake.path[:-1] if mistake.missing else mistake.path)
    zones = {UTC.name: UTC}
    intervals: list[Interval] = []
    for prefix, entry in _entries(root):
        rest, places = _without(entry, prefix, broken)
        interval = msgspec.convert(rest, Interval)
        intervals.append(interval)
        for flaw in flaws.interval(interval):
            if flaw.path or rest == plain(entry):
                problems.append(_problem(root, places.get(flaw.path[:2], prefix) + flaw.path[2:], flaw))
        if interval.location is not None:
            try:
                zones[interval.location] = find_zone(interval.location)
            except Malformed as error:
                flaw = Flaw((), str(error), error.problems[0].mend)
                problems.append(_problem(root, (*prefix, "location"), flaw))
    if problems:
        ordered = sorted(set(problems), key=lambda p: (p.line, p.column, p.path, p.message))
        raise Malformed(f"{file}: {len(ordered)} mistakes", problems=ordered)
    return IntervalsFile(Hours(open=tuple(intervals)), zones, root)


def _kind(root: Node) -> object:
    """One interval if the author wrote fields, else the list."""
    return Interval if isinstance(root.value, dict) else NamedInterval.__annotations__["any_of"]


def _entries(root: Node) -> Sequence[tuple[Path, Node]]:
    if isinstance(root.value, dict):
        return [((), root)]
    if not isinstance(root.value, tuple):
        return []
    items = enumerate(root.value[:LIST])
    return [((index,), item) for index, item in items if isinstance(item.value, dict)]


def _without(entry: Node, prefix: Path, broken: set[Path]) -> tuple[dict[str, object], dict[Path, Path]]:
    """The entry's value without what is broken, and where the file has each part of what is left."""
    rest: dict[str, object] = {}
    places: dict[Path, Path] = {}
    assert isinstance(entry.value, dict)
    for name, field in entry.value.items():
        path = (*prefix, name)
        if path in broken:
            continue
        if not isinstance(field.node.value, tuple):
            rest[name] = plain(field.node)
            continue
        kept: list[object] = []
        for index, item in enumerate(field.node.value):
            below = (*path, index)
            if not any(bad[: len(below)] == below for bad in broken):
                places[(name, len(kept))] = below
                kept.append(plain(item))
        if kept:
            rest[name] = kept
    return rest, places


def _problem(root: Node, path: Path, flaw: Flaw) -> Problem:
    mark = mark_of(root, path)
    return Problem(flaw.message, flaw.mend, mark.file, mark.line, mark.column, dotted(path))
