# SPDX-License-Identifier: Apache-2.0
"""All fences of a policy, judged."""

from collections.abc import Callable
from typing import Any

from vmwarden.model.evidence import Evidence
from vmwarden.model.moment import Moment
from vmwarden.model.policy import Policy
from vmwarden.model.verdict import Verdict
from vmwarden.rules.fences import host, place

#: The fences there are, in the order in which verdicts are told.  The name is the policy's field and
#: the verdict's `fence`.  To add one: a file in rules/fences, a clause in model.policy, a line here.
FENCES: tuple[tuple[str, Callable[..., Verdict]], ...] = (
    (place.FENCE, place.judge),
    (host.FENCE, host.judge),
)


def clauses(policy: Policy) -> tuple[tuple[str, Any], ...]:
    """Name and clause of every fence that this policy sets up."""
    return tuple([(name, clause) for name, _ in FENCES if (clause := getattr(policy, name)) is not None])


def judge(
    policy: Policy, evidence: tuple[Evidence, ...], *, now: Moment, utc_ms: int | None
) -> tuple[Verdict, ...]:
    """One verdict for each fence in the policy; none for a policy without fences.

    evidence: everything there is, with what rules.derive makes of it; what cannot count is needed too,
    for the findings.  utc_ms: rules.trusted_time.utc, None = unknown.
    """
    return tuple(
        [
            fence(clause, evidence, now=now, utc_ms=utc_ms)
            for name, fence in FENCES
            if (clause := getattr(policy, name)) is not None
        ]
    )
