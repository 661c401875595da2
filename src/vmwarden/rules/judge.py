# SPDX-License-Identifier: Apache-2.0
"""The fences of a policy that are judged on evidence.

`hours` is judged on the time alone, and beside these: vmwarden.rules.fences.hours.
"""

from collections.abc import Callable
from typing import Any

from vmwarden.model.evidence import Evidence
from vmwarden.model.moment import Moment
from vmwarden.model.policy import Policy
from vmwarden.model.verdict import Verdict
from vmwarden.rules import facts
from vmwarden.rules.fences import host, hours, place

#: The fences there are, in the order in which verdicts are told.  The name is the policy's field and
#: the verdict's `fence`.
FENCES = (place.FENCE, host.FENCE, hours.FENCE)
#: Those that are judged on evidence.  To add one: a file in rules/fences, a clause in model.policy, a line
#: in both tables.
_ON_EVIDENCE: tuple[tuple[str, Callable[..., Verdict]], ...] = (
    (place.FENCE, place.judge),
    (host.FENCE, host.judge),
)


def clauses(policy: Policy) -> tuple[tuple[str, Any], ...]:
    """Name and clause of every fence that this policy sets up."""
    return tuple([(name, clause) for name in FENCES if (clause := getattr(policy, name)) is not None])


def judge(
    policy: Policy, evidence: tuple[Evidence, ...], *, now: Moment, utc_ms: int | None
) -> tuple[Verdict, ...]:
    """One verdict for each of these fences in the policy; none for a policy without them.

    evidence: everything there is, with what rules.derive makes of it; what cannot count is needed too,
    for the findings.  utc_ms: rules.trusted_time.utc, None = unknown.
    """
    by_subject = facts.by_subject(evidence)
    return tuple(
        [
            fence(clause, by_subject, now=now, utc_ms=utc_ms)
            for name, fence in _ON_EVIDENCE
            if (clause := getattr(policy, name)) is not None
        ]
    )
