# SPDX-License-Identifier: Apache-2.0
"""What commands did to the state, kept for the warden, which alone writes the journal."""

from collections.abc import Iterable

import msgspec

from vmwarden.errors import UntrustedInput
from vmwarden.model.installed import Cell, Change, Happened, Slot, Told, Unreadable, Unrecorded
from vmwarden.model.journal import KINDS, RECORD_BYTES
from vmwarden.model.moment import Moment
from vmwarden.rules import canonical
from vmwarden.store import cells
from vmwarden.store.cells import Disk, StateDisk
from vmwarden.store.layout import Layout

#: changes that are kept at most; the largest, a rotation of 32 owners, is below 4 kB
_KEPT = 20
#: bound on the file, bytes: half of a record of the journal, so that whatever stands in it fits in one
_BYTES = RECORD_BYTES // 2
#: of those that were forgotten no more are counted: a damaged file may name any number
_MOST_FORGOTTEN = 2**31


def add(layout: Layout, changes: Iterable[Change], now: Moment, *, disk: Disk | None = None) -> None:
    """Keep these for the journal; what could not be read of older ones is counted as forgotten.

    Raises FileUnavailable, msgspec.ValidationError for a body that no journal can carry (our bug).
    """
    new = tuple(
        Happened(
            kind=c.kind,
            body=msgspec.convert(c.body, dict[str, Told]),
            utc_ms=now.utc_ms,
            boot_ms=now.boot_ms,
            boot_id=now.boot_id,
        )
        for c in changes
    )
    if not new:
        return
    with cells.changing(layout):
        kept = _read(cells.read_one(layout, Slot.UNRECORDED))
        left = Unrecorded(changes=kept.changes + new, forgotten=kept.forgotten)
        while len(left.changes) > _KEPT or len(canonical.encode(left)) > _BYTES:
            left = Unrecorded(changes=left.changes[1:], forgotten=left.forgotten + 1)
        (disk or StateDisk(layout)).put(Slot.UNRECORDED, canonical.encode(left))


def peek(layout: Layout) -> tuple[Change, ...]:
    """What is to be recorded, with "at_utc_ms" added to each body.  Never raises."""
    kept = _read(cells.read_one(layout, Slot.UNRECORDED))
    told = tuple(Change(one.kind, {**one.body, "at_utc_ms": one.utc_ms}) for one in kept.changes)
    if kept.forgotten:
        told = (Change("changes.forgotten", {"count": kept.forgotten}), *told)
    return told


def clear(layout: Layout, recorded: tuple[Change, ...], *, disk: Disk | None = None) -> bool:
    """Forget what peek gave, once it is in the journal; False if more was added meanwhile: peek again.

    Raises FileUnavailable.
    """
    with cells.changing(layout):
        if peek(layout) != recorded:
            return False
        (disk or StateDisk(layout)).drop(Slot.UNRECORDED)
        return True


def _read(cell: Cell) -> Unrecorded:
    if cell is None:
        return Unrecorded()
    if isinstance(cell, Unreadable):
        return Unrecorded(forgotten=1)
    try:
        kept = canonical.decode(cell, Unrecorded, limit=_BYTES, what="unrecorded changes")
    except UntrustedInput:
        # how many there were is lost with them
        return Unrecorded(forgotten=1)
    known = tuple(one for one in kept.changes if one.kind in KINDS)
    forgotten = min(kept.forgotten + len(kept.changes) - len(known), _MOST_FORGOTTEN)
    return Unrecorded(changes=known, forgotten=forgotten)
