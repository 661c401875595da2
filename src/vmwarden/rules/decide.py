# SPDX-License-Identifier: Apache-2.0
"""From verdicts to the posture that the VM should be in."""

import msgspec

from vmwarden.model.decision import Decision, Opening
from vmwarden.model.escalation import Escalation
from vmwarden.model.moment import Moment
from vmwarden.model.policy import Policy
from vmwarden.model.posture import Posture
from vmwarden.model.verdict import Answer, Finding, Verdict
from vmwarden.rules import escalate
from vmwarden.rules.fences import hours
from vmwarden.rules.fences.hours import Judged
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
    by_calendar: Judged | None = None,
    failing: tuple[str, ...] = (),
    sources: int = 0,
) -> tuple[Decision, Escalation]:
    """One turn's outcome, and what is to be remembered for the next.

    verdicts: of the fences that are judged on evidence.  by_calendar: what rules.fences.hours says; a policy
    with hours and without this is held.

    before: Escalation() at the very first; a new boot is noticed here, a movement is told by
    rules.escalate.new_epoch.  utc_ms: rules.trusted_time.utc, None = unknown; it only adds findings
    on the policy's period.  failing, sources: for the circuit-breaker, names of the sources that fail
    in this turn and how many there are.
    """
    at_least = Posture.OPEN if policy.hours is None else Posture.HELD
    if by_calendar is not None:
        verdicts += (by_calendar.verdict,)
        at_least = by_calendar.at_least
    judged = [verdict.fence for verdict in verdicts]
    missing = [name for name, _ in clauses(policy) if name not in judged]
    verdicts += tuple(
        [Verdict(fence=name, answer=Answer.UNKNOWN, findings=(_not_judged(name),)) for name in missing]
    )
    step = escalate.step(policy, verdicts, before, now, at_least=at_least, failing=failing, sources=sources)
    support = [step.next_change_boot_ms]
    support += [v.good_until_boot_ms for v in verdicts if v.answer is Answer.ALLOW and v.fence != hours.FENCE]
    opening: Opening | None = None
    services: tuple[Opening, ...] = ()
    changes, clock = step.next_change_boot_ms, before.clock
    if by_calendar is not None:
        opening = by_calendar.opening
        # services pass beside a rest that the calendar closes, and not beside one that a ladder does
        services = by_calendar.services if step.by_ladders is Posture.OPEN else ()
        changes = _first([changes, by_calendar.changes_boot_ms])
        clock = by_calendar.mark
    slot_ends = None if opening is None else opening.until_boot_ms
    decision = Decision(
        posture=step.posture,
        answer=answer(verdicts),
        verdicts=verdicts,
        findings=step.findings + policy_findings(policy, utc_ms),
        asks=step.asks,
        lease_until_boot_ms=_first([*support, slot_ends]) if step.posture in _MAY_BE_OPEN else None,
        next_change_boot_ms=changes,
        scheduled=_scheduled(verdicts),
        opening=opening if step.posture is Posture.OPEN else None,
        services=services,
        services_until_boot_ms=_first(support) if services else None,
        wants_stamp=by_calendar is not None and by_calendar.wants_stamp,
    )
    return decision, msgspec.structs.replace(step.escalation, clock=clock)


def answer(verdicts: tuple[Verdict, ...]) -> Answer:
    """The sum: deny over unknown over allow; allow where there is no fence."""
    answers = [verdict.answer for verdict in verdicts]
    if Answer.DENY in answers:
        return Answer.DENY
    return Answer.UNKNOWN if Answer.UNKNOWN in answers else Answer.ALLOW


def _scheduled(verdicts: tuple[Verdict, ...]) -> bool:
    denying = [verdict for verdict in verdicts if verdict.answer is not Answer.ALLOW]
    return bool(denying) and all(verdict.scheduled for verdict in denying)


def _first(instants: list[int | None]) -> int | None:
    return min([instant for instant in instants if instant is not None], default=None)


def _not_judged(fence: str) -> Finding:
    return Finding(
        id="fence.not-judged", answer=Answer.UNKNOWN, subject=fence, expected="a verdict", found="none"
    )
