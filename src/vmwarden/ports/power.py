# SPDX-License-Identifier: Apache-2.0
"""The VM's power."""

from typing import Protocol


class Power(Protocol):
    """The way off."""

    def off(self) -> None:
        """Ask for it; returns at once.  Raises ControlFailed."""
        ...
