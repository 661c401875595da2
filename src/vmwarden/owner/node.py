# SPDX-License-Identifier: Apache-2.0
"""A policy as its author wrote it: values together with the place in the file where they stand."""

from dataclasses import dataclass
from typing import NamedTuple

Path = tuple[str | int, ...]
Scalar = str | int | bool | None


class Mark(NamedTuple):
    """line and column count from 1."""

    file: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Node:
    """One value.  raw: a scalar as it was written, without its quotes; "" for lists and mappings."""

    value: "Scalar | tuple[Node, ...] | dict[str, Entry]"
    mark: Mark
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One field of a mapping.  key: where its name stands."""

    key: Mark
    node: Node


def plain(node: Node) -> object:
    """The value alone: dict, list, str, int, bool or None."""
    if isinstance(node.value, dict):
        return {name: plain(entry.node) for name, entry in node.value.items()}
    if isinstance(node.value, tuple):
        return [plain(item) for item in node.value]
    return node.value


def find(root: Node, path: Path) -> Node:
    """The node at path, or the last one on the way to it that the author wrote."""
    node = root
    for step in path:
        below = _below(node, step)
        if below is None:
            return node
        node = below
    return node


def mark_of(root: Node, path: Path) -> Mark:
    """Where the value at path stands, or the nearest thing around it."""
    return find(root, path).mark


def key_of(root: Node, path: Path) -> Mark:
    """Where the name of the field at path stands; of a list item, where it begins."""
    around = find(root, path[:-1])
    if path and isinstance(around.value, dict):
        entry = around.value.get(str(path[-1]))
        if entry is not None:
            return entry.key
    return mark_of(root, path)


def replaced(root: Node, path: tuple[str, ...], other: Node) -> Node:
    """root with other in the place of the field at path, which must be there."""
    if not path:
        return other
    if not isinstance(root.value, dict):
        raise KeyError(path)
    entry = root.value[path[0]]
    fields = {**root.value, path[0]: Entry(entry.key, replaced(entry.node, path[1:], other))}
    return Node(fields, root.mark)


def _below(node: Node, step: str | int) -> Node | None:
    if isinstance(node.value, dict) and isinstance(step, str):
        entry = node.value.get(step)
        return entry.node if entry is not None else None
    if isinstance(node.value, tuple) and isinstance(step, int) and 0 <= step < len(node.value):
        return node.value[step]
    return None
