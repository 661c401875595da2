# SPDX-License-Identifier: Apache-2.0
"""One reading of the clocks."""

import msgspec


class Moment(msgspec.Struct, frozen=True):
    """All clocks, read together.  The only form in which time reaches a rule.

    boot_ms: CLOCK_BOOTTIME in milliseconds: ages are measured on it, because nobody can step it.
    utc_ms: CLOCK_REALTIME in milliseconds since 1970: what the host made us believe.
    boot_id: names the boot to which boot_ms belongs.
    """

    boot_ms: int
    utc_ms: int
    boot_id: str = ""
