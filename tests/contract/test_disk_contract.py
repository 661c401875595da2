# SPDX-License-Identifier: Apache-2.0
"""Every store.cells.Disk: the real one and its fake."""

from collections.abc import Callable
from pathlib import Path

import pytest

from vmwarden.model.installed import Cell, Slot
from vmwarden.store.cells import Disk, StateDisk, read_one
from vmwarden.store.layout import Layout
from vmwarden.testing.disk import MemoryDisk

Reader = Callable[[Slot], Cell]


@pytest.fixture(params=["StateDisk", "MemoryDisk"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Disk, Reader]:
    if request.param == "MemoryDisk":
        memory = MemoryDisk()
        return memory, memory.cells.get
    layout = Layout.below(tmp_path)
    return StateDisk(layout), lambda slot: read_one(layout, slot)


@pytest.mark.parametrize("slot", [Slot.OWNERS, Slot.POLICY])
def test_what_is_put_is_read(disk: tuple[Disk, Reader], slot: Slot) -> None:
    write, read = disk
    assert read(slot) is None
    write.put(slot, b"one")
    write.put(slot, b"two")
    assert read(slot) == b"two"


def test_dropping_is_final_and_twice_is_no_error(disk: tuple[Disk, Reader]) -> None:
    write, read = disk
    write.drop(Slot.PENDING)
    write.put(Slot.PENDING, b"one")
    write.drop(Slot.PENDING)
    write.drop(Slot.PENDING)
    assert read(Slot.PENDING) is None
