# SPDX-License-Identifier: Apache-2.0
"""The network gate."""

from typing import Protocol

from vmwarden.model.policy import Policy


class Gate(Protocol):
    """Closes the VM's network, except manage, and holds it open by leases that lapse by themselves.

    All methods raise ControlFailed; the gate is then as closed as it was.
    """

    def install(self, policy: Policy) -> None:
        """Put the closed rules in place, atomically; an open lease is not carried over."""
        ...

    def lease(self, milliseconds: int, *, guarded: bool = False) -> None:
        """Renew: permit traffic for so long from now.  guarded: only the named scopes."""
        ...

    def flush(self) -> None:
        """End every lease at once."""
        ...

    def installed(self) -> bool:
        """Whether all our rules stand."""
        ...

    def remove(self) -> None:
        """Leave no trace.  Removing twice is no error."""
        ...
