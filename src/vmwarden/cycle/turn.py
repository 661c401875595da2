# SPDX-License-Identifier: Apache-2.0
"""One turn: evidence, facts, fences, verdicts, posture.  The sentence of design.md, as one function."""

from vmwarden.model.decision import Decision
from vmwarden.model.escalation import Escalation
from vmwarden.model.evidence import Evidence
from vmwarden.model.moment import Moment
from vmwarden.model.policy import Policy
from vmwarden.rules import steady
from vmwarden.rules.calendar.timetable import Timetable
from vmwarden.rules.decide import decide
from vmwarden.rules.fences import hours
from vmwarden.rules.trusted_time import TimeAnchor


def take_turn(
    policy: Policy,
    evidence: tuple[Evidence, ...],
    before: Escalation,
    *,
    now: Moment,
    utc_ms: int | None,
    stamp: TimeAnchor | None = None,
    timetable: Timetable | None = None,
    failing: tuple[str, ...] = (),
    sources: int = 0,
) -> tuple[Decision, Escalation]:
    """What the VM should be in, and what is to be remembered.

    evidence: all of it, also what cannot count.  utc_ms: best known time, None = unknown; stamp: what it
    rests on, if anything authenticated.  timetable: policy.hours, compiled; None also if that cannot be done.
    failing, sources: for the circuit-breaker: sources with nothing but failures, and all of them.
    """
    verdicts = steady.verdicts(policy, evidence, now=now, utc_ms=utc_ms)
    by_calendar = None
    if policy.hours is not None:
        by_calendar = hours.judge(
            policy.hours, timetable, now=now, utc_ms=utc_ms, stamp=stamp, mark=before.clock
        )
    return decide(
        policy,
        verdicts,
        before,
        now=now,
        utc_ms=utc_ms,
        by_calendar=by_calendar,
        failing=failing,
        sources=sources,
    )
