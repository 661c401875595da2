# SPDX-License-Identifier: Apache-2.0
"""The outcome of one turn, and what is to be done about it."""

from vmwarden.model.posture import Posture
from vmwarden.model.verdict import Answer, Finding, Verdict
from vmwarden.model.wire import Wire


class Ask(Wire, frozen=True, kw_only=True):
    """A request of the ladder: what, of whom, because of which fence."""

    ask: str
    of: str
    fence: str


class Opening(Wire, frozen=True, kw_only=True):
    """A slot of the hours that is running.  Times are CLOCK_BOOTTIME.

    service: name of one of hours.services; "" = the rest of the VM.  until_boot_ms: its end, or that of the
    proof that it is running; None = none.
    drain_from_boot_ms: from then on new flows are refused, and those that are open live until the end; None =
    they are refused at the end.  draining: that is so now.
    """

    service: str = ""
    until_boot_ms: int | None = None
    drain_from_boot_ms: int | None = None
    draining: bool = False


class Decision(Wire, frozen=True, kw_only=True):
    """posture: what the VM should be in.  answer: the sum over all fences (deny over unknown over allow).

    lease_until_boot_ms: CLOCK_BOOTTIME until which the gate may stay open; None unless posture is
    open or guarded.  next_change_boot_ms: when the ladder would step, or the hours change, without any new
    evidence; None = never.  findings: those that belong to no single fence (policy expiry, circuit-breaker).
    scheduled: the calendar alone closes the VM; nothing is wrong.  opening: the slot of the rest of the VM;
    None = there are no hours, or none is running.  services: those that may pass now, in whatever posture; a
    service of the policy that is not among them is closed, also while the posture is open.
    services_until_boot_ms: CLOCK_BOOTTIME at which their common support ends; None = never.
    wants_stamp: authenticated time, asked for now, would change the decision.
    """

    posture: Posture
    answer: Answer
    verdicts: tuple[Verdict, ...] = ()
    findings: tuple[Finding, ...] = ()
    asks: tuple[Ask, ...] = ()
    lease_until_boot_ms: int | None = None
    next_change_boot_ms: int | None = None
    scheduled: bool = False
    opening: Opening | None = None
    services: tuple[Opening, ...] = ()
    services_until_boot_ms: int | None = None
    wants_stamp: bool = False
