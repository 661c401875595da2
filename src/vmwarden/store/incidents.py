# SPDX-License-Identifier: Apache-2.0
"""How long something has been wrong, over restarts and reboots."""

import msgspec

from vmwarden.errors import UntrustedInput
from vmwarden.model.escalation import Escalation
from vmwarden.model.installed import Slot, Unreadable
from vmwarden.model.verdict import Answer, Finding
from vmwarden.rules import canonical
from vmwarden.rules.installation import NOTE_BYTES
from vmwarden.store.cells import Disk, StateDisk, read_one
from vmwarden.store.layout import Layout


class Remembered(msgspec.Struct, frozen=True):
    """finding: None unless there was something and it could not be read (incidents.unreadable)."""

    escalation: Escalation
    finding: Finding | None = None


def load(layout: Layout) -> Remembered:
    """What was remembered last.  Never raises.

    Nothing remembered, or nothing readable: no incident and no allow yet, posture held, so that nothing
    opens before a fence has allowed, and no grace is given.
    """
    cell = read_one(layout, Slot.INCIDENTS)
    if cell is None:
        return Remembered(Escalation())
    if isinstance(cell, Unreadable):
        return Remembered(Escalation(), _unreadable(cell.why))
    try:
        return Remembered(canonical.decode(cell, Escalation, limit=NOTE_BYTES, what="incidents"))
    except UntrustedInput as error:
        return Remembered(Escalation(), _unreadable(str(error)))


def save(layout: Layout, escalation: Escalation, *, disk: Disk | None = None) -> None:
    """Remember; on disk when this returns.  Raises FileUnavailable."""
    (disk or StateDisk(layout)).put(Slot.INCIDENTS, canonical.encode(escalation))


def _unreadable(why: str) -> Finding:
    return Finding(id="incidents.unreadable", answer=Answer.UNKNOWN, subject="incidents", found=why)
