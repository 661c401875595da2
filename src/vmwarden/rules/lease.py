# SPDX-License-Identifier: Apache-2.0
"""How long the gate may stay open without another word."""

from vmwarden.model.decision import Decision
from vmwarden.model.moment import Moment
from vmwarden.model.policy import Policy
from vmwarden.model.posture import Posture
from vmwarden.rules.ladders import cached_milliseconds

#: The longest lease, whatever a policy says: a frozen warden overruns by no more than this.
LONGEST_MS = 30_000


def milliseconds(decision: Decision, policy: Policy, *, now: Moment, uncertainty_ms: int) -> int:
    """The lease to be asked of the gate, from now; 0 = none.

    min(T, what is left of the support) - uncertainty_ms, which covers the way from this reading of the
    clock to the kernel.  The end of the policy's period is no end of a lease: a policy that has
    expired stays in force, with a finding.
    """
    if decision.posture not in (Posture.OPEN, Posture.GUARDED):
        return 0
    left = min(cached_milliseconds(policy.gate.lease), LONGEST_MS)
    if decision.lease_until_boot_ms is not None:
        left = min(left, decision.lease_until_boot_ms - now.boot_ms)
    return max(0, left - uncertainty_ms)
