# SPDX-License-Identifier: Apache-2.0
"""Files of the state as bytes: the only place where they are read and written."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from vmwarden.errors import FileAbsent, FileUnavailable, UntrustedInput
from vmwarden.linux import files, folders, lock
from vmwarden.model.installed import Cell, Put, Slot, Step, Unreadable
from vmwarden.rules import trust
from vmwarden.rules.installation import NOTE_BYTES
from vmwarden.store.layout import Layout

#: what is read of each file, bytes.  The journal is not here: it has its own room
_LIMITS = {
    Slot.OWNERS: trust.OWNERS_BYTES,
    Slot.ENROLMENT: NOTE_BYTES,
    Slot.IDENTITY: NOTE_BYTES,
    Slot.POLICY: trust.SIGNED_BYTES,
    Slot.PREVIOUS: trust.SIGNED_BYTES,
    Slot.PENDING: NOTE_BYTES,
    Slot.ARMED: NOTE_BYTES,
    Slot.CLOSED: 1 << 20,
    Slot.FLOORS: NOTE_BYTES,
    Slot.INCIDENTS: NOTE_BYTES,
    Slot.UNRECORDED: NOTE_BYTES,
}
#: readings until two in a row are the same: a writer replaces at most seven files, a few milliseconds
_READINGS = 8
#: for the lock, seconds: far above what any holder needs, far below what a turn of the warden may wait
_WAIT_S = 2.0


class Disk(Protocol):
    """Where steps are carried out."""

    def put(self, slot: Slot, data: bytes) -> None:
        """Replace a file atomically, on disk when this returns.  Raises FileUnavailable, FileAbsent."""
        ...

    def drop(self, slot: Slot) -> None:
        """Remove a file; none there is no error.  Raises FileUnavailable."""
        ...


class StateDisk:
    """The Disk of a layout.  Every file 0600, every folder 0700."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def put(self, slot: Slot, data: bytes) -> None:
        path = self._layout.path(slot)
        folders.make_private(path.parent)
        files.write_atomically(path, data, mode=0o600)

    def drop(self, slot: Slot) -> None:
        folders.remove(self._layout.path(slot))


def carry_out(steps: Iterable[Step], disk: Disk) -> None:
    """In order.  A failure leaves the state between two steps, which is why plans are made to be resumed."""
    for step in steps:
        if isinstance(step, Put):
            disk.put(step.slot, step.data)
        else:
            disk.drop(step.slot)


def read(layout: Layout) -> dict[Slot, Cell]:
    """Every file, as of one moment even while somebody writes.  Never raises."""
    seen = _read_once(layout)
    for _ in range(_READINGS):
        again = _read_once(layout)
        if again == seen:
            break
        seen = again
    return seen


def read_one(layout: Layout, slot: Slot) -> Cell:
    """One file.  Never raises."""
    path = layout.path(slot)
    try:
        if slot is Slot.IDENTITY:
            files.owned_privately(path, secret=True)
        return files.read_bounded(path, _LIMITS[slot], private=True)
    except FileAbsent:
        return None
    except (FileUnavailable, UntrustedInput) as error:
        return Unreadable(str(error))


def present(layout: Layout) -> frozenset[Slot]:
    """Slots in which anything stands, a broken symbolic link included."""
    return frozenset(slot for slot in Slot if _stands(layout, slot))


def strangers(layout: Layout) -> tuple[Path, ...]:
    """Files in the state's folder that are in no slot: the journal's, and what a crash left half written.

    Raises FileUnavailable.
    """
    ours = {layout.path(slot) for slot in Slot}
    return tuple(path for path in folders.files_in(layout.state) if path not in ours)


@contextmanager
def changing(layout: Layout) -> Iterator[None]:
    """Keep other writers of the state away.  Makes the state's folder if there is none.

    Raises FileUnavailable, also if another writer does not come to an end.
    """
    folders.make_private(layout.state)
    with lock.exclusive(layout.path(Slot.LOCK), wait_s=_WAIT_S):
        yield


def _read_once(layout: Layout) -> dict[Slot, Cell]:
    return {slot: read_one(layout, slot) for slot in _LIMITS}


def _stands(layout: Layout, slot: Slot) -> bool:
    path = layout.path(slot)
    return folders.stands(path)
