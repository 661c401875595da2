# SPDX-License-Identifier: Apache-2.0
"""Steps of the clock, and what hours make of them.

A slot opens by the clock as it is.  It ends by the latest clock of this boot, so that putting the clock back
neither puts off the end of a slot that is running, nor opens one again that is over.  A clock that was ahead
for less than a minute leaves nothing behind: that is a real-time clock that was wrong until NTP had put it
right, and it must not cost a day.
"""

import msgspec

from vmwarden.model.clock_mark import ClockMark
from vmwarden.model.moment import Moment

#: a difference of this much is a step.  Less is a leap second, or the time between reading one clock and the
#: other; slewing moves both clocks alike (Linux, Documentation/core-api/timekeeping.rst).
STEP_MS = 2_000
#: for so long a clock has to go on without a step before slots end by it
LASTS_MS = 60_000


def advance(mark: ClockMark | None, now: Moment, utc_ms: int, *, authenticated: bool) -> ClockMark:
    """The mark after this reading; mark itself if nothing has happened.

    mark: None at the very first.  utc_ms: by the clock in use.  authenticated: it rests on a stamp of this
    boot (rules.trusted_time), and whatever a clock said before counts no more.
    """
    offset = utc_ms - now.boot_ms
    if mark is None or mark.boot_id != now.boot_id:
        begun = ClockMark(boot_id=now.boot_id, offset_ms=offset, since_boot_ms=now.boot_ms)
        return msgspec.structs.replace(begun, ends_by_ms=offset) if authenticated else begun
    steady = abs(offset - mark.offset_ms) < STEP_MS
    if authenticated:
        if steady and mark.ends_by_ms == mark.offset_ms:
            return mark
        return ClockMark(boot_id=now.boot_id, offset_ms=offset, since_boot_ms=now.boot_ms, ends_by_ms=offset)
    ends_by = mark.ends_by_ms
    if steady:
        if (ends_by is None or mark.offset_ms > ends_by) and now.boot_ms - mark.since_boot_ms >= LASTS_MS:
            return msgspec.structs.replace(mark, ends_by_ms=mark.offset_ms)
        return mark
    put_back = ends_by is not None and offset <= ends_by - STEP_MS
    return ClockMark(
        boot_id=mark.boot_id,
        offset_ms=offset,
        since_boot_ms=now.boot_ms,
        ends_by_ms=ends_by,
        set_back_utc_ms=now.boot_ms + ends_by if ends_by is not None and put_back else None,
    )


def ahead_ms(mark: ClockMark) -> int:
    """By how much the clock by which slots end is ahead of the clock in use; 0 = it is not."""
    return max(0, mark.ends_by_ms - mark.offset_ms) if mark.ends_by_ms is not None else 0


def forgiven(mark: ClockMark, now: Moment) -> ClockMark:
    """The clock in use is the only one again: no slot that runs now could have been seen by the other."""
    return ClockMark(boot_id=mark.boot_id, offset_ms=mark.offset_ms, since_boot_ms=now.boot_ms)
