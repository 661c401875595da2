# SPDX-License-Identifier: Apache-2.0
"""The clocks of the running machine."""

import time

from vmwarden.errors import SourceUnavailable
from vmwarden.model.moment import Moment

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
#: a reading counts as "together" if no more than this passed between its two halves, nanoseconds
_TOGETHER_NS = 2_000_000
_TRIES = 4


def elapsed_s() -> float:
    """CLOCK_BOOTTIME in seconds: for bounds on waiting."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def pause(seconds: float) -> None:
    """Do nothing for so long."""
    time.sleep(seconds)


class SystemClock:
    """CLOCK_BOOTTIME, CLOCK_REALTIME and the boot id (a ports.Clock).

    boot_id: taken instead of the kernel's, where /proc must not be opened.
    Raises SourceUnavailable when /proc does not tell the boot id: without it no age can be
    compared over a reboot.
    """

    def __init__(self, boot_id: str | None = None) -> None:
        if boot_id is not None:
            self._boot_id = boot_id
            return
        try:
            with open(_BOOT_ID, encoding="ascii") as file:
                self._boot_id = file.read(64).strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SourceUnavailable(f"{_BOOT_ID}: {error}", mend="mount /proc") from error

    def now(self) -> Moment:
        """Both clocks, re-read if we were interrupted between them (a guest is paused at any point)."""
        for _ in range(_TRIES):
            before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            utc = time.clock_gettime_ns(time.CLOCK_REALTIME)
            after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            if after - before <= _TOGETHER_NS:
                break
        return Moment(boot_ms=after // 1_000_000, utc_ms=utc // 1_000_000, boot_id=self._boot_id)
