# SPDX-License-Identifier: Apache-2.0
"""Disks for the VM's state: one in memory, and one that the power is taken from."""

from vmwarden.errors import FileUnavailable
from vmwarden.model.installed import Cell, Slot
from vmwarden.store.cells import Disk


class MemoryDisk:
    """A store.cells.Disk over a dictionary, which a test reads and damages as it likes."""

    def __init__(self, cells: dict[Slot, Cell] | None = None) -> None:
        self.cells: dict[Slot, Cell] = dict(cells or {})

    def put(self, slot: Slot, data: bytes) -> None:
        self.cells[slot] = data

    def drop(self, slot: Slot) -> None:
        self.cells[slot] = None


class CutOffDisk:
    """Passes so many writes on to another disk; the next one and all after it fail and change nothing."""

    def __init__(self, disk: Disk, *, after: int) -> None:
        self._disk = disk
        self._left = after

    def put(self, slot: Slot, data: bytes) -> None:
        self._use()
        self._disk.put(slot, data)

    def drop(self, slot: Slot) -> None:
        self._use()
        self._disk.drop(slot)

    def _use(self) -> None:
        if self._left <= 0:
            raise FileUnavailable("the disk takes no more writes")
        self._left -= 1
