# SPDX-License-Identifier: Apache-2.0
"""Asking systemd for units and for the end."""

from pathlib import Path

from vmwarden.linux.process import run

#: systemctl only queues the job (--no-block); 10 s is for a starved machine
_TIMEOUT_S = 10.0


def booted() -> bool:
    """Whether systemd is the init system (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


def start_unit(unit: str) -> None:
    """Queue the start of unit.  Raises CommandFailed."""
    run(["systemctl", "start", "--no-block", unit], timeout_s=_TIMEOUT_S)


def power_off() -> None:
    """Queue an orderly power-off.  Raises CommandFailed."""
    run(["systemctl", "poweroff", "--no-block"], timeout_s=_TIMEOUT_S)
