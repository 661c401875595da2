# SPDX-License-Identifier: Apache-2.0
"""From verdicts to the posture that the VM should be in."""

from vmwarden.model.decision import Decision
from vmwarden.model.escalation import Escalation
from vmwarden.model.moment import Moment
from vmwarden.model.policy import Policy
from vmwarden.model.posture import Posture
from vmwarden.model.verdict import Answer, Finding, Verdict
from vmwarden.rules import escalate
from vmwarden.rules.judge import clauses
from vmwarden.rules.ladders import stricter
from vmwarden.rules.trust import policy_findings

__all__ = ["decide", "stricter"]

_MAY_BE_OPEN = (Posture.OPEN, Posture.GUARDED)


def decide(
    policy: Policy,
    verdicts: tuple[Verdict, ...],
    before: Escalation,
    *,
    now: Moment,
    utc_ms: int | None,
    failing: tuple[str, ...] = (),
    sources: int = 0,
) -> tuple[Decision, Escalation]:
    """One turn's outcome, and what is to be remembered for the next.

    before: Escalation() at the very first; a new boot is noticed here, a movement is told by
    rules.escalate.new_epoch.  utc_ms: rules.trusted_time.utc, None = unknown; it only adds findings
    on the policy's period.  failing, sources: for the circuit-breaker, names of the sources that fail
    in this turn and how many there are.
    """
    judged = [verdict.fence for verdict in verdicts]
    missing = [name for name, _ in clauses(policy) if name not in judged]
    verdicts += tuple(
        [Verdict(fence=name, answer=Answer.UNKNOWN, findings=(_not_judged(name),)) for name in missing]
    )
    step = escalate.step(policy, verdicts, before, now, failing=failing, sources=sources)
    lease_until = None
    if step.posture in _MAY_BE_OPEN:
        ends = [v.good_until_boot_ms for v in verdicts if v.answer is Answer.ALLOW]
        known = [end for end in (*ends, step.next_change_boot_ms) if end is not None]
        lease_until = min(known, default=None)
    decision = Decision(
        posture=step.posture,
        answer=answer(verdicts),
        verdicts=verdicts,
        findings=step.findings + policy_findings(policy, utc_ms),
        asks=step.asks,
        lease_until_boot_ms=lease_until,
        next_change_boot_ms=step.next_change_boot_ms,
    )
    return decision, step.escalation


def answer(verdicts: tuple[Verdict, ...]) -> Answer:
    """The sum: deny over unknown over allow; allow where there is no fence."""
    answers = [verdict.answer for verdict in verdicts]
    if Answer.DENY in answers:
        return Answer.DENY
    return Answer.UNKNOWN if Answer.UNKNOWN in answers else Answer.ALLOW


def _not_judged(fence: str) -> Finding:
    return Finding(
        id="fence.not-judged", answer=Answer.UNKNOWN, subject=fence, expected="a verdict", found="none"
    )
