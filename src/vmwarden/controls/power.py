# SPDX-License-Identifier: Apache-2.0
"""Turning the VM off."""

from vmwarden.errors import CommandFailed, ControlFailed
from vmwarden.linux import systemd


class Power:
    """An orderly power-off by the init system."""

    def off(self) -> None:
        """Queue it; returns at once.  Raises ControlFailed."""
        if not systemd.booted():
            raise ControlFailed("no systemd to power this VM off", mend="use the posture quarantined instead")
        try:
            systemd.power_off()
        except CommandFailed as error:
            raise ControlFailed(f"power-off was refused: {error}") from error
