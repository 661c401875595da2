# SPDX-License-Identifier: Apache-2.0
"""What hangs from vmwarden-open.target: data volumes and services."""

from vmwarden.errors import CommandFailed, ControlFailed
from vmwarden.linux import systemd

TARGET = "vmwarden-open.target"


class Services:
    """Starts what may run once the VM is open.  It stops nothing: held and quarantined keep data open."""

    def open(self) -> bool:
        """Queue the start of everything behind the target.  False without systemd.  Raises ControlFailed."""
        if not systemd.booted():
            return False
        try:
            systemd.start_unit(TARGET)
        except CommandFailed as error:
            raise ControlFailed(f"{TARGET} was not started: {error}") from error
        return True
