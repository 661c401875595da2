# SPDX-License-Identifier: Apache-2.0
"""How many records somebody else may cause."""

from typing import NamedTuple

from vmwarden.model.moment import Moment

#: a quiet VM writes a few of these a day; a captured watcher must not be able to roll the journal over
MOST = 60
WINDOW_MS = 600_000


class Spent(NamedTuple):
    """Of one kind: when its window began, how many were let through, how many were not."""

    since_boot_ms: int
    passed: int = 0
    withheld: int = 0


def spend(before: Spent | None, now: Moment) -> tuple[Spent, int | None]:
    """One more.  The second is None if it is to be withheld, otherwise how many were withheld before it."""
    if (
        before is None
        or now.boot_ms - before.since_boot_ms >= WINDOW_MS
        or now.boot_ms < before.since_boot_ms
    ):
        return Spent(now.boot_ms, passed=1), before.withheld if before is not None else 0
    if before.passed >= MOST:
        return before._replace(withheld=before.withheld + 1), None
    return before._replace(passed=before.passed + 1), 0
