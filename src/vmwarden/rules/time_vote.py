# SPDX-License-Identifier: Apache-2.0
"""What time it is by the servers that agree; liars are outvoted.

One answer bounds the difference between UTC and this VM's CLOCK_BOOTTIME: the server made its stamp after we
asked and before we read it, whatever the way did.  Of n listed servers at most f = (n - 1) // 2 may lie.  The
most that share an instant must be more than half of all that are *listed*: whoever owns the network can
silence honest servers, and must not be able to leave the liars among themselves.  Of m that share one, at
least m - f are honest, so the truth lies where at least m - f of their bounds do.
"""

from typing import NamedTuple


class Bound(NamedTuple):
    """By one server: UTC minus CLOCK_BOOTTIME lies between these, milliseconds, both included."""

    server: str
    earliest_ms: int
    latest_ms: int


class Vote(NamedTuple):
    """UTC minus CLOCK_BOOTTIME, milliseconds, both included; who agreed on it, and who did not."""

    earliest_ms: int
    latest_ms: int
    agreeing: tuple[str, ...]
    outvoted: tuple[str, ...]


def bound(
    server: str, *, sent_boot_ms: int, received_boot_ms: int, stamp_ms: int, root_distance_ms: int
) -> Bound:
    """From one answer.  All milliseconds are cut off, so that each may be up to one more."""
    return Bound(
        server,
        stamp_ms - root_distance_ms - (received_boot_ms + 1),
        stamp_ms + 1 + root_distance_ms - sent_boot_ms,
    )


def quorum(listed: int) -> int:
    """How many of the listed servers have to agree: more than half."""
    return listed // 2 + 1


def vote(bounds: tuple[Bound, ...], *, listed: int) -> Vote | None:
    """None: too few share an instant.  At most one bound a server; the order of bounds never matters."""
    # the most bounds share an instant at one of their beginnings
    votes = [
        _counted(bounds, at, listed)
        for at in sorted({b.earliest_ms for b in bounds})
        if sum(_covers(b, at) for b in bounds) >= quorum(listed)
    ]
    if not votes:
        return None
    # of as many the narrower, of as narrow ones the earlier
    return min(votes, key=lambda v: (-len(v.agreeing), v.latest_ms - v.earliest_ms, v.earliest_ms))


def _counted(bounds: tuple[Bound, ...], at_ms: int, listed: int) -> Vote:
    sharing = [b for b in bounds if _covers(b, at_ms)]
    honest = max(1, len(sharing) - (listed - 1) // 2)
    return Vote(
        earliest_ms=sorted(b.earliest_ms for b in sharing)[honest - 1],
        latest_ms=sorted((b.latest_ms for b in sharing), reverse=True)[honest - 1],
        agreeing=tuple(sorted(b.server for b in sharing)),
        outvoted=tuple(sorted(b.server for b in bounds if not _covers(b, at_ms))),
    )


def _covers(bound: Bound, at_ms: int) -> bool:
    return bound.earliest_ms <= at_ms <= bound.latest_ms
