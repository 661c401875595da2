# SPDX-License-Identifier: Apache-2.0
"""What time it is, as far as that is proven.

The host sets this VM's clocks.  So the floor, which is kept on disk, moves only by authenticated
stamps: a real-time clock that says 2035 for a while leaves nothing behind when it is right again.
"""

from vmwarden.model.moment import Moment
from vmwarden.model.wire import Wire

#: A statement's stamp is cut to whole seconds, and two honest hosts kept by NTP are well within one
#: second of one another.  An anchor that lies below the floor by no more than this is not a rollback.
STAMP_SLACK_MS = 2_000


class TimeAnchor(Wire, frozen=True, kw_only=True):
    """An authenticated stamp: it was utc_ms when CLOCK_BOOTTIME of the boot boot_id stood at boot_ms."""

    utc_ms: int
    boot_ms: int
    boot_id: str


def utc(now: Moment, anchor: TimeAnchor | None, floor_ms: int) -> int | None:
    """Milliseconds since 1970 by the best clock there is, or None: unknown.

    With an anchor of this boot: its stamp plus the time that passed on CLOCK_BOOTTIME, which nobody
    can step.  Without: the local clock, if it is not below the floor.  A time below the floor is
    wrong, and is not rolled up to the floor either: how far it is off, nobody knows.
    """
    if anchor is not None and anchor.boot_id == now.boot_id and anchor.boot_ms <= now.boot_ms:
        proven = anchor.utc_ms + (now.boot_ms - anchor.boot_ms)
        return max(proven, floor_ms) if proven + STAMP_SLACK_MS >= floor_ms else None
    return now.utc_ms if now.utc_ms >= floor_ms else None


def advance(floor_ms: int, anchor: TimeAnchor) -> int:
    """The floor after this stamp.  Never lower; the local clock has no part in it."""
    return max(floor_ms, anchor.utc_ms)
