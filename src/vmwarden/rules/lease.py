# SPDX-License-Identifier: Apache-2.0
"""How long the gate may stay open without another word."""

from vmwarden.model.decision import Decision, Opening
from vmwarden.model.moment import Moment
from vmwarden.model.policy import Policy
from vmwarden.model.posture import Posture
from vmwarden.rules.ladders import cached_milliseconds

#: The longest lease, whatever a policy says: a frozen warden overruns by no more than this.
LONGEST_MS = 30_000


def milliseconds(decision: Decision, policy: Policy, *, now: Moment, uncertainty_ms: int) -> int:
    """The lease to be asked of the gate for the VM, from now; 0 = none.

    min(T, what is left of the support and of the slot) - uncertainty_ms, which covers the way from this
    reading of the clock to the kernel.  The end of the policy's period is no end of a lease: a policy that
    has expired stays in force, with a finding.
    """
    if decision.posture not in (Posture.OPEN, Posture.GUARDED):
        return 0
    return _left(policy, now, uncertainty_ms, decision.lease_until_boot_ms, None)


def services(decision: Decision, policy: Policy, *, now: Moment, uncertainty_ms: int) -> dict[str, int]:
    """The same for each service that may pass now, by name; those that are not there have none."""
    leases = {
        opening.service: _left(
            policy, now, uncertainty_ms, decision.services_until_boot_ms, opening.until_boot_ms
        )
        for opening in decision.services
    }
    return {name: ms for name, ms in leases.items() if ms > 0}


def for_new_flows(opening: Opening | None, lease_ms: int, *, now: Moment, uncertainty_ms: int) -> int:
    """How much of a lease new flows have: up to where the drain of the slot that it is for begins."""
    if opening is None or opening.drain_from_boot_ms is None:
        return lease_ms
    return max(0, min(lease_ms, opening.drain_from_boot_ms - now.boot_ms - uncertainty_ms))


def _left(policy: Policy, now: Moment, uncertainty_ms: int, one: int | None, other: int | None) -> int:
    left = min(cached_milliseconds(policy.gate.lease), LONGEST_MS)
    for end in (one, other):
        if end is not None:
            left = min(left, end - now.boot_ms)
    return max(0, left - uncertainty_ms)
