# SPDX-License-Identifier: Apache-2.0
"""The state that the VM should be in."""

from enum import StrEnum


class Posture(StrEnum):
    """Mildest first; compare with vmwarden.rules.decide.stricter."""

    OPEN = "open"
    GUARDED = "guarded"
    HELD = "held"
    QUARANTINED = "quarantined"
    SEALED = "sealed"
    POWEROFF = "poweroff"
    ERASED = "erased"


#: postures that this version can take; the others are refused at lint
BUILT = (Posture.OPEN, Posture.GUARDED, Posture.HELD, Posture.QUARANTINED, Posture.POWEROFF)
