# SPDX-License-Identifier: Apache-2.0
"""A booted machine on disk, from which any number of machines start within a second."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from testbed.disks import copy_sparse
from testbed.failures import BedError
from testbed.machine import Machine
from testbed.spec import MachineSpec

STATE = "state"
_FIXED = frozenset({"image", "memory_mib", "layers", "incoming"})


@dataclass(frozen=True)
class Snapshot:
    """Memory, devices and writable disks of a machine at one moment."""

    spec: MachineSpec
    """Of the saved machine, its writable disks replaced by the copies that belong to the memory."""
    directory: Path

    @property
    def state(self) -> Path:
        """What `Machine.save` wrote."""
        return self.directory / STATE

    def restored_spec(self, **changes: Any) -> MachineSpec:
        """The spec of a machine that goes on from here, with fields of `MachineSpec` changed.

        Only what `testbed.spec` names as free to differ may be changed. The writable disks are throwaway:
        every machine begins with them as they were.
        """
        refused = _FIXED & changes.keys()
        if refused:
            raise BedError(
                f"a snapshot fixes {', '.join(sorted(refused))}; mend: boot another machine and save that"
            )
        return replace(self.spec, **{"incoming": self.state, **changes})

    def restore(self, **changes: Any) -> Machine:
        """A machine that goes on from here (see `restored_spec`): running, to be closed by the caller.

        All machines of one snapshot are clones: same boot id, same random numbers to come unless they
        were given something of their own, and a clock that stood still since the snapshot was taken.
        """
        machine = Machine(self.restored_spec(**changes))
        try:
            machine.wait_running()
        except BaseException:
            machine.close()
            raise
        return machine


def take(machine: Machine, directory: Path) -> Snapshot:
    """Save ``machine`` into ``directory`` (made if need be) and close it. Raises `BedError` if that fails."""
    directory.mkdir(parents=True, exist_ok=True)
    try:
        machine.save(directory / STATE)
    finally:
        machine.close()
    spec = machine.spec
    # Copied only now: QEMU has written out what it had in hand.
    disks = tuple(
        disk
        if disk.readonly
        else replace(disk, path=copy_sparse(disk.path, directory / f"{disk.serial}.disk"), throwaway=True)
        for disk in spec.disks
    )
    upper = copy_sparse(spec.upper, directory / "upper.disk") if spec.upper else None
    frozen = replace(spec, disks=disks, upper=upper, upper_throwaway=upper is not None, rtc_base=None)
    return Snapshot(frozen, directory)


def boot_and_save(
    spec: MachineSpec, directory: Path, prepare: Callable[[Machine], None] | None = None
) -> Snapshot:
    """Boot ``spec``, let ``prepare`` do in the guest what all restored machines shall find, and save."""
    with Machine(spec) as machine:
        machine.guest.ping()
        if prepare is not None:
            prepare(machine)
        return take(machine, directory)
