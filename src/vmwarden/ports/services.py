# SPDX-License-Identifier: Apache-2.0
"""What hangs from the warden's word."""

from typing import Protocol


class Services(Protocol):
    """What may run once the VM is open."""

    def open(self) -> bool:
        """Start it; False where there is nothing to start.  Raises ControlFailed."""
        ...
