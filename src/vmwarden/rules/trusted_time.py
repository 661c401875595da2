# SPDX-License-Identifier: Apache-2.0
"""What time it is, as far as that is proven.

The host sets this VM's clocks.  So the floor, which is kept on disk, moves only by authenticated
stamps: a real-time clock that says 2035 for a while leaves nothing behind when it is right again.

A stamp says that its instant has passed.  What is added to it by CLOCK_BOOTTIME is only as good as the host:
while the VM is paused that clock stands, so the sum may be too low by any amount, and where the host speeds
the clock up it may be too high.
"""

from vmwarden.model.moment import Moment
from vmwarden.model.verdict import Answer, Finding
from vmwarden.model.wire import Wire

#: A statement's stamp is cut to whole seconds, and two honest hosts kept by NTP are well within one
#: second of one another.  An anchor that lies below the floor by no more than this is not a rollback.
STAMP_SLACK_MS = 2_000
#: how far CLOCK_BOOTTIME may run off, parts in a million: the most that the kernel lets NTP slew a clock by
#: (include/linux/timex.h, MAXFREQ)
DRIFT_PPM = 500


class TimeAnchor(Wire, frozen=True, kw_only=True):
    """An authenticated stamp: when CLOCK_BOOTTIME of the boot boot_id stood at boot_ms, it was utc_ms or up
    to spread_ms later, and certainly not earlier."""

    utc_ms: int
    boot_ms: int
    boot_id: str
    spread_ms: int = 0


def utc(now: Moment, anchor: TimeAnchor | None, floor_ms: int) -> int | None:
    """Milliseconds since 1970 by the best clock there is, or None: unknown.

    With an anchor of this boot: its stamp plus the time that passed on CLOCK_BOOTTIME, which nobody
    can step.  Without: the local clock, if it is not below the floor.  A time below the floor is
    wrong, and is not rolled up to the floor either: how far it is off, nobody knows.
    """
    if anchor is not None and counts(anchor, now):
        proven = anchor.utc_ms + (now.boot_ms - anchor.boot_ms)
        return max(proven, floor_ms) if proven + STAMP_SLACK_MS >= floor_ms else None
    return now.utc_ms if now.utc_ms >= floor_ms else None


def counts(anchor: TimeAnchor, now: Moment) -> bool:
    """Whether it was made in this boot, and not in its future."""
    return anchor.boot_id == now.boot_id and anchor.boot_ms <= now.boot_ms


def reached(anchor: TimeAnchor, instant_ms: int) -> bool:
    """Whether the stamp itself proves that the instant has come: the only reason to open a slot by trusted
    time.  What CLOCK_BOOTTIME adds is no proof, however much it is."""
    return anchor.utc_ms >= instant_ms


def best(network: TimeAnchor | None, host: TimeAnchor | None, now: Moment) -> TimeAnchor | None:
    """The anchor to go by.  Network time is what several servers agree on, and not the host's to make; a
    host's stamp stands in only where there is none of this boot."""
    for anchor in (network, host):
        if anchor is not None and counts(anchor, now):
            return anchor
    return None


def host_differs(network: TimeAnchor, host: TimeAnchor) -> tuple[Finding, ...]:
    """What is to be said of a host whose stamp contradicts network time of the same boot; usually nothing.

    It never changes an answer: network time counts.
    """
    first, second = sorted((network, host), key=lambda anchor: anchor.boot_ms)
    gained, drift = _gained(first, second), drift_ms(second.boot_ms - first.boot_ms)
    apart = max(gained - first.spread_ms, -gained - second.spread_ms) - drift
    if apart <= STAMP_SLACK_MS:
        return ()
    return (_finding("time.host-differs", "the time that several servers agree on", "another time"),)


def stalled_ms(before: TimeAnchor, after: TimeAnchor) -> int:
    """For how long at least CLOCK_BOOTTIME stood between two anchors of one boot: the host paused this VM,
    or put it back to an earlier state of its memory.  0 = nothing of that shows."""
    return max(0, _gained(before, after) - before.spread_ms - drift_ms(after.boot_ms - before.boot_ms))


def drift_ms(passed_ms: int) -> int:
    """How far CLOCK_BOOTTIME may have run off after that, unless the host changes its rate."""
    return -(-passed_ms * DRIFT_PPM // 1_000_000)


def advance(floor_ms: int, anchor: TimeAnchor) -> int:
    """The floor after this stamp.  Never lower; the local clock has no part in it."""
    return max(floor_ms, anchor.utc_ms)


def _gained(before: TimeAnchor, after: TimeAnchor) -> int:
    """What UTC gained on CLOCK_BOOTTIME, by the lower bounds of both; milliseconds."""
    return (after.utc_ms - after.boot_ms) - (before.utc_ms - before.boot_ms)


def _finding(finding_id: str, expected: str, found: str) -> Finding:
    return Finding(id=finding_id, answer=Answer.ALLOW, subject="time", expected=expected, found=found)
