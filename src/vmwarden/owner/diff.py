# SPDX-License-Identifier: Apache-2.0
"""What changed from one policy to the next, and in which direction."""

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import NamedTuple

import msgspec

from vmwarden.model.evidence import Proof
from vmwarden.model.policy import Policy
from vmwarden.rules import duration


class Direction(StrEnum):
    """Of one change: whether the VM allows less than before, or more.  UNCLEAR: it depends."""

    STRICTER = "stricter"
    LOOSER = "looser"
    UNCLEAR = ""


class Change(NamedTuple):
    """old and new: values as a policy writes them in JSON, "" = not there.  Defaults are filled in."""

    path: str
    old: str
    new: str
    direction: Direction = Direction.UNCLEAR


def changes(old: Policy, new: Policy) -> tuple[Change, ...]:
    """In the order of the policy's fields.  The order of entries matters in ladders only."""
    return tuple(_compare("", _filled(old), _filled(new)))


def _filled(noun: object) -> object:
    """noun as dicts and lists under the names of the file, with all defaults."""
    if isinstance(noun, msgspec.Struct):
        fields = msgspec.structs.fields(noun)
        return {field.encode_name: _filled(getattr(noun, field.name)) for field in fields}
    if isinstance(noun, tuple):
        return [_filled(item) for item in noun]
    return msgspec.to_builtins(noun)


def _compare(path: str, old: object, new: object) -> Iterator[Change]:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys([*old, *new]):
            yield from _compare(f"{path}.{name}".lstrip("."), old.get(name), new.get(name))
    elif isinstance(old, list) and isinstance(new, list) and not _is_ladder(path):
        yield from _compare_lists(path, old, new)
    else:
        yield Change(path, _shown(old), _shown(new), _direction(path, old, new))


def _compare_lists(path: str, old: list[object], new: list[object]) -> Iterator[Change]:
    """Entries with a name are compared by name, others are there or not."""
    old_named, new_named = _by_name(old), _by_name(new)
    if old_named is not None and new_named is not None:
        for name in dict.fromkeys([*old_named, *new_named]):
            if name in old_named and name in new_named:
                yield from _compare(f"{path}[{name}]", old_named[name], new_named[name])
            else:
                there, now = old_named.get(name), new_named.get(name)
                yield Change(f"{path}[{name}]", _shown(there), _shown(now), _entry(path, now is not None))
        return
    for item in old:
        if item not in new:
            yield Change(path, _shown(item), "", _entry(path, False))
    for item in new:
        if item not in old:
            yield Change(path, "", _shown(item), _entry(path, True))


def _by_name(items: list[object]) -> dict[str, object] | None:
    named: dict[str, object] = {}
    for item in items:
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str):
            return None
        named[name] = item
    return named if items else {}


def _is_ladder(path: str) -> bool:
    return path.endswith((".wrong", ".unknown"))


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return msgspec.json.encode(_bare(value)).decode("utf-8")


def _bare(value: object) -> object:
    """Without fields that are not given."""
    if isinstance(value, dict):
        return {name: _bare(field) for name, field in value.items() if field is not None and field != []}
    if isinstance(value, list):
        return [_bare(item) for item in value]
    return value


#: lists in which one more entry allows more
_ALLOWING = ("manage.", "reach", "scopes", "place.any_of", "trust.hosts", "hours.open", "hours.extra")
#: lists in which one more entry asks for more
_DEMANDING = ("host.all_of", "hours.closed_on", "hours.holidays")


def _entry(path: str, added: bool) -> Direction:
    if path.startswith(_DEMANDING):
        return Direction.STRICTER if added else Direction.LOOSER
    if path.startswith(_ALLOWING):
        return Direction.LOOSER if added else Direction.STRICTER
    return Direction.UNCLEAR


_PROOFS = [proof.value for proof in Proof]

#: single fields with a direction: a larger rank is stricter
_RANKS: dict[str, Callable[[str], int]] = {
    "mode": lambda text: int(text == "enforce"),
    "place.proof": _PROOFS.index,
    "place.agree": int,
    "place.recheck": lambda text: -duration.milliseconds(text),
    "host.recheck": lambda text: -duration.milliseconds(text),
    "place.issued_within": lambda text: -duration.milliseconds(text),
    "gate.lease": lambda text: -duration.milliseconds(text),
    "hours.time": lambda text: int(text == "trusted"),
    "hours.recheck": lambda text: -duration.milliseconds(text),
    "hours.drain": duration.milliseconds,
    "hours.outside": ("guarded", "held", "quarantined").index,
}


def _direction(path: str, old: object, new: object) -> Direction:
    if path in ("place", "host", "hours") or path == "place.issued_within":
        if old is None:
            return Direction.STRICTER
        if new is None:
            return Direction.LOOSER
    rank = _RANKS.get(path)
    if rank is None:
        return Direction.UNCLEAR
    return Direction.STRICTER if rank(str(new)) > rank(str(old)) else Direction.LOOSER
