# SPDX-License-Identifier: Apache-2.0
"""The table of facilities that a policy names as a file comes into the policy itself."""

from collections.abc import Callable
from typing import NamedTuple

from vmwarden.errors import Problem, UntrustedInput, WorldError
from vmwarden.owner import yaml
from vmwarden.owner.node import Node, mark_of, replaced

FACILITIES = ("trust", "facilities")

#: bytes of the file of that name beside the policy; raises UntrustedInput or WorldError
ReadBeside = Callable[[str], bytes]


class Inlined(NamedTuple):
    """root: None exactly if the file could not be taken; problems then says why."""

    root: Node | None
    problems: tuple[Problem, ...]


def inline(root: Node, read_beside: ReadBeside) -> Inlined:
    """root with the list of facilities in the place of the name of its file, if it names one."""
    name = _file_name(root)
    if name is None:
        return Inlined(root, ())
    mark = mark_of(root, FACILITIES)
    here = Problem("", "", mark.file, mark.line, mark.column, ".".join(FACILITIES))
    if name.startswith("/") or ".." in name.split("/") or not name:
        problem = here._replace(
            message=f"{name!r} is not beside the policy", mend="name a file in the policy's own folder"
        )
        return Inlined(None, (problem,))
    try:
        data = read_beside(name)
    except (UntrustedInput, WorldError) as error:
        return Inlined(None, (here._replace(message=f"{name}: {error}", mend="write the list, or its file"),))
    table, problems = yaml.read(data, _beside(mark.file, name))
    if table is None:
        return Inlined(None, problems)
    if not isinstance(table.value, tuple):
        at = table.mark
        problem = Problem("not a list", "begin each row with a dash: - ", at.file, at.line, at.column)
        return Inlined(None, (*problems, problem))
    below = tuple(p._replace(path=".".join([*FACILITIES, p.path]).rstrip(".")) for p in problems)
    return Inlined(replaced(root, FACILITIES, table), below)


def _file_name(root: Node) -> str | None:
    part: Node | None = root
    for step in FACILITIES:
        entry = part.value.get(step) if part is not None and isinstance(part.value, dict) else None
        part = entry.node if entry is not None else None
    return part.value if part is not None and isinstance(part.value, str) else None


def _beside(file: str, name: str) -> str:
    folder, slash, _ = file.rpartition("/")
    return folder + slash + name
