# SPDX-License-Identifier: Apache-2.0
"""How long something has been wrong."""

from typing import Literal

from vmwarden.model.clock_mark import ClockMark
from vmwarden.model.posture import Posture
from vmwarden.model.wire import Count, Wire


class Incident(Wire, frozen=True, kw_only=True):
    """One fence that does not allow.  It ends with that fence's next allow, and with nothing else.

    kind: wrong once the fence denied in this incident (silence after a deny stays wrong).
    carried_ms: age gathered in earlier boots.  since_boot_ms: CLOCK_BOOTTIME at which it began or,
    after a reboot, was first seen again.  seen_boot_ms: the last sighting, moved on in steps of a few
    seconds; what a reboot carries over is measured up to it.  boot_id: the boot both belong to.
    silent_ms: how long the fence had been unknown, after an allow, when it turned out to be wrong.
    """

    fence: str
    kind: Literal["wrong", "unknown"]
    carried_ms: Count = 0
    since_boot_ms: Count
    seen_boot_ms: Count = 0
    boot_id: str
    silent_ms: Count | None = None


class Escalation(Wire, frozen=True, kw_only=True):
    """What is remembered from turn to turn, and over reboots.

    allowed: fences that allowed at least once in this boot and epoch; only for these does the
    grace for unknown count.  clock: how the clock of this boot has gone, for the hours; None = no hours yet.
    """

    boot_id: str = ""
    epoch: Count = 0
    incidents: tuple[Incident, ...] = ()
    allowed: tuple[str, ...] = ()
    posture: Posture = Posture.HELD
    clock: ClockMark | None = None
