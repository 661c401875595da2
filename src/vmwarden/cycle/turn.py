# SPDX-License-Identifier: Apache-2.0
"""One turn: evidence, facts, fences, verdicts, posture.  The sentence of design.md, as one function."""

from vmwarden.model.decision import Decision
from vmwarden.model.escalation import Escalation
from vmwarden.model.evidence import Evidence
from vmwarden.model.moment import Moment
from vmwarden.model.policy import Policy
from vmwarden.rules.decide import decide
from vmwarden.rules.derive import derive
from vmwarden.rules.judge import judge


def take_turn(
    policy: Policy,
    evidence: tuple[Evidence, ...],
    before: Escalation,
    *,
    now: Moment,
    utc_ms: int | None,
    failing: tuple[str, ...] = (),
    sources: int = 0,
) -> tuple[Decision, Escalation]:
    """What the VM should be in, and what is to be remembered.

    evidence: all of it, also what cannot count.  utc_ms: best known time, None = unknown.
    failing, sources: for the circuit-breaker: sources with nothing but failures, and all of them.
    """
    claims = evidence + derive(evidence, policy.trust.facilities)
    verdicts = judge(policy, claims, now=now, utc_ms=utc_ms)
    return decide(policy, verdicts, before, now=now, utc_ms=utc_ms, failing=failing, sources=sources)
