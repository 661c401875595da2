# SPDX-License-Identifier: Apache-2.0
from itertools import product

import msgspec

from vmwarden.model.decision import Decision
from vmwarden.model.escalation import Escalation
from vmwarden.model.moment import Moment
from vmwarden.model.policy import Host, HostClause, Place, PlaceEntry
from vmwarden.model.posture import Posture
from vmwarden.model.verdict import Answer, Verdict
from vmwarden.rules.decide import answer, decide, stricter
from vmwarden.testing.claims import NOW, guarding

POLICY = guarding(
    place=Place(any_of=(PlaceEntry(country="DE"),)),
    host=Host(all_of=(HostClause(fact="host.hypervisor", equals="kvm"),)),
)
ALLOW, DENY, UNKNOWN = Answer.ALLOW, Answer.DENY, Answer.UNKNOWN


def verdicts(place: Answer, host: Answer, *, ends: tuple[int | None, int | None]) -> tuple[Verdict, ...]:
    return (
        Verdict(fence="place", answer=place, good_until_boot_ms=ends[0] if place is ALLOW else None),
        Verdict(fence="host", answer=host, good_until_boot_ms=ends[1] if host is ALLOW else None),
    )


def taken(
    *turns: tuple[Answer, Answer], ends: tuple[int | None, int | None] = (None, None), now: Moment = NOW
) -> Decision:
    """The decision of the last turn."""
    escalation = Escalation()
    for place, host in turns:
        decision, escalation = decide(
            POLICY, verdicts(place, host, ends=ends), escalation, now=now, utc_ms=now.utc_ms
        )
    assert escalation.posture is decision.posture
    return decision


def test_the_sum_is_deny_over_unknown_over_allow() -> None:
    for place, host in product(Answer, Answer):
        total = answer(verdicts(place, host, ends=(None, None)))
        assert total is (DENY if DENY in (place, host) else UNKNOWN if UNKNOWN in (place, host) else ALLOW)
    assert answer(()) is ALLOW


def test_open_lasts_as_long_as_the_shortest_support() -> None:
    decision = taken((ALLOW, ALLOW), ends=(NOW.boot_ms + 7_000, NOW.boot_ms + 3_000))
    assert (decision.posture, decision.answer) == (Posture.OPEN, ALLOW)
    assert decision.lease_until_boot_ms == NOW.boot_ms + 3_000
    assert decision.next_change_boot_ms is None
    assert taken((ALLOW, ALLOW), ends=(None, 5)).lease_until_boot_ms == 5
    assert taken((ALLOW, ALLOW)).lease_until_boot_ms is None


def test_in_its_grace_it_is_open_no_longer_than_the_grace_and_the_other_support() -> None:
    grace = taken((ALLOW, ALLOW), (ALLOW, UNKNOWN), ends=(NOW.boot_ms + 900_000, None))
    assert (grace.posture, grace.answer) == (Posture.OPEN, UNKNOWN)
    assert grace.lease_until_boot_ms == grace.next_change_boot_ms == NOW.boot_ms + 120_000
    short = taken((ALLOW, ALLOW), (ALLOW, UNKNOWN), ends=(NOW.boot_ms + 9, None))
    assert short.lease_until_boot_ms == NOW.boot_ms + 9


def test_guarded_has_a_lease_too() -> None:
    first, escalation = decide(
        POLICY, verdicts(ALLOW, ALLOW, ends=(None, None)), Escalation(), now=NOW, utc_ms=None
    )
    assert first.posture is Posture.OPEN
    for minutes in (0, 2):
        now = msgspec.structs.replace(NOW, boot_ms=NOW.boot_ms + minutes * 60_000)
        decision, escalation = decide(
            POLICY, verdicts(ALLOW, UNKNOWN, ends=(None, None)), escalation, now=now, utc_ms=None
        )
    assert decision.posture is Posture.GUARDED
    assert decision.lease_until_boot_ms == NOW.boot_ms + 900_000


def test_closed_has_no_lease() -> None:
    decision = taken((ALLOW, DENY), ends=(NOW.boot_ms + 900_000, None))
    assert (decision.posture, decision.answer) == (Posture.HELD, DENY)
    assert decision.lease_until_boot_ms is None
    assert decision.next_change_boot_ms == NOW.boot_ms + 60_000


def test_a_fence_that_nobody_judged_is_unknown_and_said_so() -> None:
    decision, _ = decide(POLICY, (), Escalation(), now=NOW, utc_ms=NOW.utc_ms)
    assert (decision.posture, decision.answer) == (Posture.HELD, UNKNOWN)
    assert [f.id for v in decision.verdicts for f in v.findings] == ["fence.not-judged"] * 2


def test_the_period_of_the_policy_is_told_and_changes_nothing() -> None:
    late = msgspec.structs.replace(NOW, utc_ms=NOW.utc_ms + 400 * 86_400_000)
    decision = taken((ALLOW, ALLOW), now=late)
    assert "policy.expired" in {finding.id for finding in decision.findings}
    assert (decision.posture, decision.answer) == (Posture.OPEN, ALLOW)


def test_stricter_is_at_hand_here() -> None:
    assert stricter(Posture.OPEN, Posture.HELD) is Posture.HELD
