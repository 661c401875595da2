# SPDX-License-Identifier: Apache-2.0
"""How the clock has gone so far."""

from vmwarden.model.wire import Count, Number, Wire


class ClockMark(Wire, frozen=True, kw_only=True):
    """Of one boot.  An offset is UTC minus CLOCK_BOOTTIME, milliseconds: it changes when somebody steps the
    clock, and with nothing else.

    offset_ms: as the clock in use has it, since since_boot_ms.
    ends_by_ms: by which slots end: the greatest that has lasted; None = none has lasted yet.
    set_back_utc_ms: while offset_ms is below ends_by_ms: the UTC that had been reached when the clock was put
    back.  None = it is not behind.
    """

    boot_id: str
    offset_ms: Number
    since_boot_ms: Count
    ends_by_ms: Number | None = None
    set_back_utc_ms: Number | None = None
