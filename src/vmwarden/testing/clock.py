# SPDX-License-Identifier: Apache-2.0
"""A clock that moves only when told."""

from vmwarden.model.moment import Moment


class FakeClock:
    """A ports.Clock.  2026-11-23T12:00:00Z, one minute after boot, unless told otherwise."""

    def __init__(
        self, *, boot_ms: int = 60_000, utc_ms: int = 1_795_435_200_000, boot_id: str = "boot-1"
    ) -> None:
        self._boot_ms = boot_ms
        self._utc_ms = utc_ms
        self._boot_id = boot_id

    def now(self) -> Moment:
        return Moment(boot_ms=self._boot_ms, utc_ms=self._utc_ms, boot_id=self._boot_id)

    def advance(self, ms: int) -> Moment:
        """Time passes on both clocks."""
        self._boot_ms += ms
        self._utc_ms += ms
        return self.now()

    def step_utc(self, ms: int) -> Moment:
        """Somebody sets the wall clock; CLOCK_BOOTTIME cannot be set."""
        self._utc_ms += ms
        return self.now()

    def reboot(self, boot_id: str, *, after_ms: int = 10_000) -> Moment:
        """CLOCK_BOOTTIME begins again at 0, after_ms of wall time later."""
        self._boot_ms = 0
        self._utc_ms += after_ms
        self._boot_id = boot_id
        return self.now()
