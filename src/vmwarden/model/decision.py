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


class Decision(Wire, frozen=True, kw_only=True):
    """posture: what the VM should be in.  answer: the sum over all fences (deny over unknown over allow).

    lease_until_boot_ms: CLOCK_BOOTTIME until which the gate may stay open; None unless posture is
    open or guarded.  next_change_boot_ms: when the ladder would step without any new evidence; None = never.
    findings: those that belong to no single fence (policy expiry, circuit-breaker).
    """

    posture: Posture
    answer: Answer
    verdicts: tuple[Verdict, ...] = ()
    findings: tuple[Finding, ...] = ()
    asks: tuple[Ask, ...] = ()
    lease_until_boot_ms: int | None = None
    next_change_boot_ms: int | None = None
