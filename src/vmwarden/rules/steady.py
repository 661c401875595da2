# SPDX-License-Identifier: Apache-2.0
"""The same evidence has the same verdicts until one of its pieces begins or ceases to count.

A warden judges a gathering a dozen times before there is a new one.  The last few cases are remembered with
the stretch of time in which nothing about them can change; within it they are not judged again.
"""

from operator import is_
from typing import NamedTuple

from vmwarden.model.evidence import Evidence
from vmwarden.model.moment import Moment
from vmwarden.model.policy import Policy
from vmwarden.model.verdict import Verdict
from vmwarden.rules import facts
from vmwarden.rules.derive import derive
from vmwarden.rules.judge import judge
from vmwarden.rules.ladders import cached_milliseconds

#: cases that are remembered: of two clocks, read one after the other, the difference varies by a millisecond
_REMEMBERED = 4
#: longer than any boot, milliseconds
_NEVER = 2**63


class _Case(NamedTuple):
    """offset_ms: UTC minus CLOCK_BOOTTIME, None = the time is not known.  from, until: both included."""

    policy: Policy
    evidence: tuple[Evidence, ...]
    offset_ms: int | None
    from_boot_ms: int
    until_boot_ms: int
    verdicts: tuple[Verdict, ...]


_cases: list[_Case] = []


def verdicts(
    policy: Policy, evidence: tuple[Evidence, ...], *, now: Moment, utc_ms: int | None
) -> tuple[Verdict, ...]:
    """What rules.judge says of evidence with all that rules.derive makes of it."""
    boot_ms = now.boot_ms
    offset_ms = None if utc_ms is None else utc_ms - boot_ms
    for case in _cases:
        if (
            case.from_boot_ms <= boot_ms <= case.until_boot_ms
            and case.offset_ms == offset_ms
            and case.policy is policy
            and len(case.evidence) == len(evidence)
            and all(map(is_, case.evidence, evidence))
        ):
            return case.verdicts
    claims = evidence + derive(evidence, policy.trust.facilities)
    judged = judge(policy, claims, now=now, utc_ms=utc_ms)
    until = _steady_until(policy, claims, boot_ms, offset_ms)
    _cases.insert(0, _Case(policy, evidence, offset_ms, boot_ms, until, judged))
    del _cases[_REMEMBERED:]
    return judged


def _steady_until(policy: Policy, claims: tuple[Evidence, ...], boot_ms: int, offset_ms: int | None) -> int:
    """The last CLOCK_BOOTTIME at which all that can be said of each piece is what can be said of it now."""
    place, host = policy.place, policy.host
    terms: list[tuple[int, int | None]] = []
    if place is not None:
        recheck_ms, within = cached_milliseconds(place.recheck), place.issued_within
        terms.append((recheck_ms, None))
        if within is not None:
            terms.append((recheck_ms, cached_milliseconds(within)))
    if host is not None:
        terms.append((cached_milliseconds(host.recheck), None))
    ends = [_NEVER]
    for piece in claims:
        if piece.unavailable:
            continue
        seen = piece.observed_boot_ms
        ends.append(seen - 1)
        for recheck_ms, within_ms in terms:
            boot_end, utc_end = facts.last_moments(piece, recheck_ms, within_ms)
            ends += (seen + recheck_ms, boot_end)
            if utc_end is not None and offset_ms is not None:
                ends.append(utc_end - offset_ms)
    return min([end for end in ends if end >= boot_ms])
