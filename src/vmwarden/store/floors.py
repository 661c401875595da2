# SPDX-License-Identifier: Apache-2.0
"""The time floor.  (The version floor moves with a confirmation: vmwarden.rules.delivery.)"""

import msgspec

from vmwarden.linux import folders
from vmwarden.model.installed import Put, Slot
from vmwarden.rules import canonical
from vmwarden.rules.installation import look
from vmwarden.store import cells
from vmwarden.store.cells import Disk, StateDisk
from vmwarden.store.layout import Layout


def time_floor(layout: Layout) -> int:
    """Authenticated time known to have passed, milliseconds since 1970; 0 = none.  Never raises."""
    floors = look({Slot.FLOORS: cells.read_one(layout, Slot.FLOORS)}).floors.value
    return floors.time_utc_ms if floors is not None else 0


def raise_time_floor(layout: Layout, utc_ms: int, *, disk: Disk | None = None) -> bool:
    """Move the floor up to utc_ms, which must be authenticated.  False if there was nothing to do.

    Floors that are missing or unreadable are not made anew here: an empty file would forget the version
    floor.  An owner mends them by applying a policy.
    Raises FileUnavailable.
    """
    if not folders.stands(layout.state):
        return False
    with cells.changing(layout):
        floors = look({Slot.FLOORS: cells.read_one(layout, Slot.FLOORS)}).floors.value
        if floors is None or utc_ms <= floors.time_utc_ms:
            return False
        raised = msgspec.structs.replace(floors, time_utc_ms=utc_ms)
        cells.carry_out((Put(Slot.FLOORS, canonical.encode(raised)),), disk or StateDisk(layout))
        return True
