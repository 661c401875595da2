# SPDX-License-Identifier: Apache-2.0
"""Every mistake of a policy file at once, each with its line, its path and its mend."""

from collections.abc import Iterable
from typing import NamedTuple

from vmwarden.errors import Problem
from vmwarden.model.policy import Policy
from vmwarden.owner import cautions, explain, geography, holidays, timetable, yaml
from vmwarden.owner.explain import Mistake
from vmwarden.owner.inline import FACILITIES, ReadBeside, inline
from vmwarden.owner.node import Node, Path, key_of, mark_of, plain
from vmwarden.owner.prune import Pruned, prune
from vmwarden.owner.schema import policy_schema
from vmwarden.owner.timetable import FindZone
from vmwarden.owner.zones import TimeZones
from vmwarden.rules import canonical, sound
from vmwarden.rules.sound import Unsound, dotted
from vmwarden.rules.trust import POLICY_BYTES


class Report(NamedTuple):
    """policy: what would be signed, includes inlined; None exactly if there are errors."""

    policy: Policy | None
    errors: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


def lint(data: bytes, file: str, *, read_beside: ReadBeside, zones: TimeZones, find_zone: FindZone) -> Report:
    """Of one policy file.  file: its name for messages.  Never raises, for any bytes.

    zones: by their names.  find_zone: the one of a name; raises Malformed if there is none, SourceUnavailable
    where there is no tzdata.
    """
    root, read_problems = yaml.read(data, file)
    if root is None:
        return Report(None, _ordered(read_problems, file), ())
    inlined = inline(root, read_beside)
    problems = [*read_problems, *inlined.problems]
    broken: set[Path] = {FACILITIES} if inlined.root is None else set()
    root = inlined.root or root
    schema, document = policy_schema(), plain(root)
    said = {(problem.file, problem.line, problem.column) for problem in problems}
    for mistake in explain.mistakes(document, root, schema):
        located = _located(mistake, root)
        if (located.file, located.line, located.column) not in said:
            problems.append(located)
        if not mistake.missing:
            broken.add(mistake.path)
        elif len(mistake.path) > 1:
            broken.add(mistake.path[:-1])
    pruned = prune(document, schema, broken)
    policy = pruned.policy
    if policy is None:
        return Report(None, _ordered(problems, file), ())
    expanded = holidays.expand(policy, read_beside, file[: file.rfind("/") + 1])
    policy = expanded.policy
    problems += expanded.problems
    problems += _about(expanded.errors, pruned, root)
    hours = timetable.look(policy, find_zone)
    mistakes = [*sound.policy(policy), *geography.errors(policy, zones), *hours.errors]
    problems += _about(
        [one for one in mistakes if not any(_within(one.path, part) for part in expanded.failed)],
        pruned,
        root,
    )
    thoughts = [*cautions.cautions(policy), *geography.warnings(policy, zones), *hours.warnings]
    warnings = _about(thoughts, pruned, root)
    size = len(canonical.encode(policy))
    if size > POLICY_BYTES:
        problems.append(Problem(f"{size} bytes when signed, at most {POLICY_BYTES}", "shorten it", file))
    return Report(None if problems else policy, _ordered(problems, file), _ordered(warnings, file))


def _located(mistake: Mistake, root: Node) -> Problem:
    mark = key_of(root, mistake.path) if mistake.at_key else mark_of(root, mistake.path)
    return Problem(mistake.message, mistake.mend, mark.file, mark.line, mark.column, dotted(mistake.path))


def _about(found: Iterable[Unsound], pruned: Pruned, root: Node) -> list[Problem]:
    """At their places; without what is only said because a broken part is not there any more."""
    problems = []
    for unsound in found:
        path = pruned.in_file(unsound.path)
        rests_on = [pruned.in_file(part) for part in unsound.rests_on]
        if any(_within(broken, path) for broken in pruned.broken):
            continue
        if any(_within(a, b) or _within(b, a) for a in pruned.broken for b in rests_on):
            continue
        mark = mark_of(root, path)
        problems.append(
            Problem(unsound.message, unsound.mend, mark.file, mark.line, mark.column, dotted(path))
        )
    return problems


def _within(path: Path, around: Path) -> bool:
    return path[: len(around)] == around


def _ordered(problems: Iterable[Problem], file: str) -> tuple[Problem, ...]:
    """The policy's own first, then those of included files, each by line."""
    return tuple(
        sorted(set(problems), key=lambda p: (p.file != file, p.file, p.line, p.column, p.path, p.message))
    )
