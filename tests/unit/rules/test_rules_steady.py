# SPDX-License-Identifier: Apache-2.0
"""rules.steady: nothing is judged twice, and nothing is remembered for too long."""

import msgspec
import pytest

from vmwarden.model.evidence import Evidence, Proof, Subject
from vmwarden.model.moment import Moment
from vmwarden.model.policy import Place, PlaceEntry, Policy
from vmwarden.model.verdict import Answer, Verdict
from vmwarden.rules import steady
from vmwarden.testing.claims import NOW, claim, guarding

POLICY = guarding(place=Place(any_of=(PlaceEntry(country="DE"),)))
SEEN = NOW.boot_ms - 10_000


def at(boot_ms: int, jitter_ms: int = 0) -> Moment:
    return Moment(boot_ms=boot_ms, utc_ms=NOW.utc_ms + boot_ms - NOW.boot_ms + jitter_ms, boot_id=NOW.boot_id)


def judged(now: Moment, *evidence: Evidence, policy: Policy = POLICY) -> tuple[Verdict, ...]:
    return steady.verdicts(policy, evidence, now=now, utc_ms=now.utc_ms)


def ids(verdicts: tuple[Verdict, ...]) -> set[str]:
    return {finding.id for verdict in verdicts for finding in verdict.findings}


def test_the_same_evidence_is_judged_once() -> None:
    piece = claim(Subject.COUNTRY, "DE")
    first = judged(at(NOW.boot_ms), piece)
    assert judged(at(NOW.boot_ms + 40_000), piece) is first
    # two clocks are read one after the other: both differences are remembered
    other = judged(at(NOW.boot_ms + 41_000, jitter_ms=1), piece)
    assert judged(at(NOW.boot_ms + 42_000), piece) is first
    assert judged(at(NOW.boot_ms + 43_000, jitter_ms=1), piece) is other


@pytest.mark.parametrize(
    ("piece", "moments"),
    [
        (
            claim(Subject.COUNTRY, "DE"),
            {SEEN + 60_000: "place.country.match", SEEN + 60_001: "evidence.stale"},
        ),
        (
            claim(Subject.COUNTRY, "DE", lasts_ms=5_000),
            {NOW.boot_ms + 4_999: "place.country.match", NOW.boot_ms + 5_000: "evidence.expired"},
        ),
        (
            # what it says of itself goes on to change: over, and then too old
            claim(Subject.COUNTRY, "DE", proof=Proof.FRESH, lasts_ms=5_000),
            {
                SEEN + 14_999: "place.country.match",
                SEEN + 15_000: "evidence.expired",
                SEEN + 60_000: "evidence.expired",
                SEEN + 60_001: "evidence.stale",
            },
        ),
        (
            claim(Subject.COUNTRY, "DE", age_ms=-1_000),
            {NOW.boot_ms + 999: "evidence.other-boot", NOW.boot_ms + 1_000: "place.country.match"},
        ),
    ],
)
def test_it_is_judged_again_at_every_edge(piece: Evidence, moments: dict[int, str]) -> None:
    for boot_ms, expected in moments.items():
        for _ in range(2):
            assert expected in ids(judged(at(boot_ms), piece))
    # and in between, from anywhere before
    judged(at(min(moments)), piece)
    assert list(moments.values())[-1] in ids(judged(at(max(moments)), piece))


def test_issued_too_long_ago_becomes_expired() -> None:
    policy = guarding(place=Place(any_of=(PlaceEntry(country="DE"),), issued_within="20s"))
    piece = claim(Subject.COUNTRY, "DE", lasts_ms=30_000)
    for after_ms, expected in (
        (10_000, "place.country.match"),
        (10_001, "evidence.issued-too-long-ago"),
        (29_999, "evidence.issued-too-long-ago"),
        (30_000, "evidence.expired"),
    ):
        assert expected in ids(judged(at(NOW.boot_ms + after_ms), piece, policy=policy))


def test_another_policy_other_evidence_and_another_clock_are_other_cases() -> None:
    piece = claim(Subject.COUNTRY, "DE")
    assert judged(NOW, piece)[0].answer is Answer.ALLOW
    assert judged(NOW, piece, policy=guarding(place=Place(any_of=(PlaceEntry(country="NL"),))))[0].answer
    denied = judged(NOW, piece, policy=guarding(place=Place(any_of=(PlaceEntry(country="NL"),))))
    assert denied[0].answer is Answer.DENY
    assert judged(NOW, piece, msgspec.structs.replace(piece, id="2", value="NL"))[0].answer is Answer.DENY
    assert judged(NOW)[0].answer is Answer.UNKNOWN
    unknown = steady.verdicts(POLICY, (piece,), now=NOW, utc_ms=None)
    assert ids(unknown) >= {"evidence.time-unknown"}
    assert judged(at(NOW.boot_ms, jitter_ms=3_700_000), piece)[0].answer is Answer.UNKNOWN
