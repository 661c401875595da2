# SPDX-License-Identifier: Apache-2.0
"""What is left of a broken policy without its broken parts, so that the rest can be judged too."""

from collections.abc import Iterable

import msgspec
from jsonschema import Draft202012Validator

from vmwarden.model.policy import FORMAT, Policy
from vmwarden.owner.node import Path
from vmwarden.owner.schema import Schema

#: stand in for required fields of the top level that are missing or broken; nothing is said about them
_STAND_INS: dict[str, object] = {
    "format": FORMAT,
    "name": "unnamed",
    "version": 1,
    "vms": ["unnamed"],
    "valid": {"from": "2026-01-01T00:00Z", "until": "2027-01-01T00:00Z"},
    "mode": "observe",
}
#: each round takes away at least one level of nesting, and a policy has 8
_ROUNDS = 10


class Pruned:
    """policy: what is left, or None.  broken: paths in the file of what was taken away at first sight."""

    def __init__(self, policy: Policy | None, broken: frozenset[Path], lists: dict[Path, list[int]]) -> None:
        self.policy = policy
        self.broken = broken
        self._lists = lists

    def in_file(self, path: Path) -> Path:
        """The path in the file of what stands at path in policy: lists may have lost entries."""
        written: list[str | int] = []
        for depth, step in enumerate(path):
            kept = self._lists.get(path[:depth])
            written.append(kept[step] if kept is not None and isinstance(step, int) else step)
        return tuple(written)


def prune(document: object, schema: Schema, broken: Iterable[Path]) -> Pruned:
    """document without all that is at or below broken, and without what is broken because of that."""
    first = frozenset(broken)
    gone = set(first)
    for _ in range(_ROUNDS):
        if () in gone or not isinstance(document, dict):
            break
        lists: dict[Path, list[int]] = {}
        rest = _copy(document, (), (), gone, lists)
        assert isinstance(rest, dict)
        for name, value in _STAND_INS.items():
            rest.setdefault(name, value)
        pruned = Pruned(None, first, lists)
        errors = list(Draft202012Validator(schema).iter_errors(rest))
        if not errors:
            return Pruned(msgspec.convert(rest, Policy), first, lists)
        for error in errors:
            gone.add(pruned.in_file(tuple(error.absolute_path)))
    return Pruned(None, first, {})


_GONE = object()


def _copy(part: object, old: Path, new: Path, gone: set[Path], lists: dict[Path, list[int]]) -> object:
    """lists: receives, for each list by its new path, the indices that its kept entries had."""
    if old in gone:
        return _GONE
    if isinstance(part, dict):
        copied = {name: _copy(value, (*old, name), (*new, name), gone, lists) for name, value in part.items()}
        return {name: value for name, value in copied.items() if value is not _GONE}
    if isinstance(part, list):
        kept: list[object] = []
        indices: list[int] = []
        for index, value in enumerate(part):
            copy = _copy(value, (*old, index), (*new, len(kept)), gone, lists)
            if copy is not _GONE:
                kept.append(copy)
                indices.append(index)
        lists[new] = indices
        return kept
    return part
