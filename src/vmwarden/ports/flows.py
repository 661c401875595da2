# SPDX-License-Identifier: Apache-2.0
"""Ending the VM's own flows."""

from typing import Protocol

from vmwarden.model.flow import Progress
from vmwarden.model.policy import Policy

#: what a turn of the warden may give to it, milliseconds: a renewal of the shortest lease comes every 333
TURN_MS = 10.0


class Flows(Protocol):
    """Ends the connections of this VM's own sockets, but for those that the closed gate keeps.

    It knows nothing of the gate, so the order is the caller's.  Begun while the gate is open, the other end
    of each TCP flow is told by a RST.  After the gate has closed only the programs here are told.  Closing
    must never wait for it.

    Sockets that listen or are not connected stay.
    """

    def begin(self, policy: Policy) -> None:
        """Start from the beginning, by this policy.  Ends none yet.

        Raises ControlFailed: this kernel cannot end flows; Malformed: an address of the policy is none.
        """
        ...

    def go_on(self, within_ms: float) -> Progress:
        """End some more for about so long; what is left is for the next call.

        Before begin, and when it is done, there is nothing to do.  Raises ControlFailed; then begin again.
        """
        ...

    def ends(self) -> str:
        """For people: what can be ended on this kernel, and if nothing, why."""
        ...
