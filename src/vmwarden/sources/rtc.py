# SPDX-License-Identifier: Apache-2.0
"""The distance between the real-time clock and the system clock.

An RTC that runs in local time shows the host's offset from UTC, as long as nobody has written it: chronyd
and the kernel do so every 11 minutes once the clock is synchronised.
"""

from vmwarden.errors import SourceUnavailable
from vmwarden.model.evidence import Evidence, Subject
from vmwarden.model.moment import Moment
from vmwarden.ports.tree import Tree
from vmwarden.rules import claim

_PATH = "/sys/class/rtc/rtc0/since_epoch"
#: digits of seconds since 1970 up to the year 9999
_DIGITS = 12


class Rtc:
    """RTC minus system clock in whole seconds, rounded; the reading itself is off by up to one."""

    name = "rtc"
    live_only = True

    def read(self, tree: Tree, now: Moment) -> tuple[Evidence, ...]:
        if not tree.live:
            return (claim.unavailable(self.name, Subject.RTC_OFFSET, claim.NOT_LIVE, now),)
        try:
            text = tree.read(_PATH, 64).strip()
        except SourceUnavailable as error:
            return (claim.unavailable(self.name, Subject.RTC_OFFSET, str(error), now),)
        if not text.isdigit() or len(text) > _DIGITS:
            return (claim.unavailable(self.name, Subject.RTC_OFFSET, f"{_PATH}: not a number", now),)
        offset = (int(text) * 1000 - now.utc_ms + 500) // 1000
        return (claim.declared(self.name, Subject.RTC_OFFSET, offset, now),)

    def statements(self, tree: Tree) -> tuple[str, ...]:
        return ()
