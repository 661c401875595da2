# SPDX-License-Identifier: Apache-2.0
"""A time zone: at which instants its distance from UTC changes, and to what.

zoneinfo answers what the offset is at an instant and keeps the instants of its changes to itself, so whoever
asks it for the next change has to sample.  Here the changes are data (vmwarden.rules.calendar.tzif reads
them from the same files), and zoneinfo is the second opinion of the tests.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from vmwarden.rules.calendar import yearly
from vmwarden.rules.calendar.days import DAY, EPOCH_DAY, year_of
from vmwarden.rules.calendar.yearly import Yearly


@dataclass(frozen=True, slots=True)
class Zone:
    """instants: where the offset changes, ascending, utc_s.  offsets: seconds east of UTC, one more than
    instants: offsets[0] holds before the first.  yearly: what goes on after the last one; None = nothing.
    """

    name: str
    instants: tuple[int, ...] = ()
    offsets: tuple[int, ...] = (0,)
    yearly: Yearly | None = None

    def offset(self, utc_s: int) -> int:
        """Seconds east of UTC in the second that begins at utc_s."""
        if self.yearly is not None and (not self.instants or utc_s >= self.instants[-1]):
            year = year_of(utc_s)
            # hours of a rule reach up to a week into a neighbouring year
            for near in (year + 1, year, year - 1):
                for instant, offset in reversed(yearly.changes(self.yearly, near)):
                    if instant <= utc_s and (not self.instants or instant > self.instants[-1]):
                        return offset
        return self.offsets[bisect_right(self.instants, utc_s)]

    def local(self, utc_s: int) -> int:
        """The local reading: day * 86400 + second of the day."""
        return utc_s + self.offset(utc_s) + EPOCH_DAY * DAY

    def changes(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """(instant, offset from then on), first < instant < last, ascending."""
        at = bisect_right(self.instants, first)
        while at < len(self.instants) and self.instants[at] < last:
            yield self.instants[at], self.offsets[at + 1]
            at += 1
        if self.yearly is None or (self.instants and last <= self.instants[-1]):
            return
        after = max(first, self.instants[-1]) if self.instants else first
        year = year_of(after) - 1
        while True:
            for instant, offset in yearly.changes(self.yearly, year):
                if instant >= last:
                    return
                if instant > after:
                    yield instant, offset
            year += 1

    def stretches(self, first: int, last: int) -> Iterator[tuple[int, int, int]]:
        """[first, last) cut where the offset changes: (from, until, offset)."""
        if first >= last:
            return
        begins, offset = first, self.offset(first)
        for instant, following in self.changes(first, last):
            if following != offset:
                yield begins, instant, offset
                begins, offset = instant, following
        if begins < last:
            yield begins, last, offset


UTC = Zone("UTC")
