# SPDX-License-Identifier: Apache-2.0
from itertools import permutations
from typing import Any

import msgspec
import pytest

from vmwarden.model.evidence import Evidence, Proof, Subject
from vmwarden.model.fact import Fact, Standing
from vmwarden.rules.facts import by_subject, establish, normalise, reaches
from vmwarden.testing.claims import NOW, absent, claim


def fact(*evidence: Evidence, subject: Subject = Subject.COUNTRY, **other: Any) -> Fact:
    arguments: dict[str, Any] = {
        "at_least": Proof.SIGNED,
        "now": NOW,
        "utc_ms": NOW.utc_ms,
        "recheck_ms": 60_000,
        "issued_within_ms": None,
    }
    return establish(evidence, subject, **(arguments | other))


def why(*evidence: Evidence, **other: Any) -> list[str]:
    """The reasons of a fact that is unknown because nothing counts."""
    unknown = fact(*evidence, **other)
    assert unknown.standing is Standing.UNKNOWN
    assert unknown.value is None and unknown.proof is None and unknown.good_until_boot_ms is None
    return [reason for _, reason in unknown.discounted]


@pytest.mark.parametrize(
    ("proof", "reached"),
    [
        (Proof.DECLARED, {Proof.DECLARED}),
        (Proof.SIGNED, {Proof.DECLARED, Proof.SIGNED}),
        (Proof.FRESH, {Proof.DECLARED, Proof.SIGNED, Proof.FRESH}),
        (Proof.ATTESTED, {Proof.DECLARED, Proof.SIGNED, Proof.FRESH, Proof.ATTESTED}),
        (Proof.MEASURED, {Proof.MEASURED}),
    ],
)
def test_which_proof_reaches_which(proof: Proof, reached: set[Proof]) -> None:
    assert {least for least in Proof if reaches(proof, least)} == reached


def test_one_signed_claim_makes_a_fact() -> None:
    piece = claim(Subject.COUNTRY, "de ")
    known = fact(piece)
    assert (known.standing, known.value, known.proof) == (Standing.KNOWN, "DE", Proof.SIGNED)
    assert known.signers == ("SHA256:fw_cfg",)
    assert known.evidence == (piece,)


def test_no_evidence_is_unknown() -> None:
    assert why() == []


def test_evidence_on_other_subjects_is_not_looked_at() -> None:
    assert why(claim(Subject.TIME_ZONE, "Europe/Berlin")) == []


def test_a_weak_claim_does_not_count_and_does_not_contradict() -> None:
    weak = claim(Subject.COUNTRY, "NL", source="dmi", proof=Proof.DECLARED)
    assert why(weak) == ["evidence.too-weak"]
    assert fact(weak, claim(Subject.COUNTRY, "DE")).value == "DE"


def test_two_claims_that_count_and_differ_contradict_even_from_one_source_and_key() -> None:
    other = fact(claim(Subject.COUNTRY, "DE"), claim(Subject.COUNTRY, "NL", source="virtio-serial"))
    same = fact(claim(Subject.COUNTRY, "DE", age_ms=9), claim(Subject.COUNTRY, "NL", age_ms=1))
    for contradicted in (other, same):
        assert contradicted.standing is Standing.CONTRADICTED
        assert contradicted.value is None and len(contradicted.evidence) == 2


def test_a_dead_source_says_why() -> None:
    assert why(absent(Subject.COUNTRY, "source.denied")) == ["source.denied"]
    assert why(absent(Subject.COUNTRY, "")) == ["evidence.unavailable"]


@pytest.mark.parametrize(
    ("subject", "value"),
    [
        (Subject.COUNTRY, 49),
        (Subject.COUNTRY, ("DE",)),
        (Subject.COUNTRY, " "),
        (Subject.COUNTRY, None),
        (Subject.CITY, "  "),
        (Subject.POSTAL_CODE, 10115),
        (Subject.POSTAL_CODE, "- -"),
        (Subject.TIME_ZONE, ""),
        (Subject.TIME_ZONE, 1),
        (Subject.COMPLIANCE, "iso27001"),
        (Subject.RTC_OFFSET, 2**63),
        (Subject.RTC_OFFSET, ("0",)),
    ],
)
def test_a_value_of_the_wrong_kind_does_not_count(subject: Subject, value: Any) -> None:
    assert why(claim(subject, value), subject=subject) == ["evidence.unusable"]


def test_age_counts_on_the_boot_clock() -> None:
    assert fact(claim(Subject.COUNTRY, "DE", age_ms=60_000)).standing is Standing.KNOWN
    assert why(claim(Subject.COUNTRY, "DE", age_ms=60_001)) == ["evidence.stale"]
    stepped = msgspec.structs.replace(NOW, utc_ms=NOW.utc_ms + 10**9)
    assert fact(claim(Subject.COUNTRY, "DE"), now=stepped).standing is Standing.KNOWN


def test_all_reasons_are_kept_together() -> None:
    weak = claim(Subject.COUNTRY, "NL", source="dmi", proof=Proof.DECLARED)
    stale = claim(Subject.COUNTRY, "DE", age_ms=60_001)
    assert set(why(weak, stale)) == {"evidence.too-weak", "evidence.stale"}
    known = fact(weak, stale, claim(Subject.COUNTRY, "FR", source="c"))
    assert known.value == "FR"
    assert {reason for _, reason in known.discounted} == {"evidence.too-weak", "evidence.stale"}


def test_what_was_seen_later_than_now_was_seen_in_another_boot() -> None:
    assert why(claim(Subject.COUNTRY, "DE", age_ms=-1)) == ["evidence.other-boot"]


def test_a_static_claim_ends_with_its_period() -> None:
    assert fact(claim(Subject.COUNTRY, "DE", lasts_ms=1)).standing is Standing.KNOWN
    assert why(claim(Subject.COUNTRY, "DE", lasts_ms=0)) == ["evidence.expired"]


def test_a_static_period_needs_a_clock() -> None:
    assert why(claim(Subject.COUNTRY, "DE"), utc_ms=None) == ["evidence.time-unknown"]
    assert fact(claim(Subject.COUNTRY, "DE", lasts_ms=None), utc_ms=None).standing is Standing.KNOWN
    assert why(claim(Subject.COUNTRY, "DE", lasts_ms=None), utc_ms=None, issued_within_ms=1) == [
        "evidence.time-unknown"
    ]


def test_issued_within() -> None:
    piece = claim(Subject.COUNTRY, "DE", issued_ago_ms=5_000)
    assert fact(piece, issued_within_ms=5_000).standing is Standing.KNOWN
    assert why(piece, issued_within_ms=4_999) == ["evidence.issued-too-long-ago"]
    undated = claim(Subject.COUNTRY, "DE", issued_ago_ms=None, lasts_ms=None)
    assert why(undated, issued_within_ms=5_000) == ["evidence.undated"]


def test_a_fresh_claim_needs_no_wall_clock() -> None:
    """Its stamps lie in 1970 by our clock, and it was seen ten seconds ago: it lives for its 30 seconds."""
    piece = msgspec.structs.replace(
        claim(Subject.COUNTRY, "DE", proof=Proof.FRESH), issued_at_ms=1_000, valid_until_ms=31_000
    )
    for utc_ms in (None, 0, NOW.utc_ms):
        known = fact(piece, utc_ms=utc_ms, issued_within_ms=20_000)
        assert known.good_until_boot_ms == piece.observed_boot_ms + 20_000
        assert fact(piece, utc_ms=utc_ms).good_until_boot_ms == piece.observed_boot_ms + 29_999


def test_a_fresh_claim_ends_with_its_own_lifetime_and_with_its_age() -> None:
    piece = claim(Subject.COUNTRY, "DE", proof=Proof.FRESH, age_ms=10_000)
    stamped = NOW.utc_ms - 10_000
    short = msgspec.structs.replace(piece, issued_at_ms=stamped, valid_until_ms=stamped + 10_000)
    assert why(short, utc_ms=None) == ["evidence.expired"]
    assert why(piece, issued_within_ms=9_999, utc_ms=None) == ["evidence.issued-too-long-ago"]
    assert why(piece, recheck_ms=9_999) == ["evidence.stale"]
    endless = msgspec.structs.replace(piece, issued_at_ms=None, valid_until_ms=0)
    assert fact(endless).standing is Standing.KNOWN  # how long it lives, it does not say: recheck ends it


@pytest.mark.parametrize(
    ("arguments", "other"),
    [
        ({}, {}),
        ({"lasts_ms": 7_000}, {}),
        ({}, {"issued_within_ms": 15_000}),
        ({"lasts_ms": None}, {"utc_ms": None}),
        ({"proof": Proof.FRESH}, {"issued_within_ms": 15_000, "utc_ms": None}),
    ],
)
def test_good_until_is_the_last_moment_at_which_it_is_good(
    arguments: dict[str, Any], other: dict[str, Any]
) -> None:
    piece = claim(Subject.COUNTRY, "DE", **arguments)
    end = fact(piece, **other).good_until_boot_ms
    assert end is not None

    def at(boot_ms: int) -> Fact:
        utc_ms = None if other.get("utc_ms", 0) is None else NOW.utc_ms + boot_ms - NOW.boot_ms
        now = msgspec.structs.replace(NOW, boot_ms=boot_ms)
        return fact(piece, **(other | {"now": now, "utc_ms": utc_ms}))

    assert at(end).standing is Standing.KNOWN
    assert at(end + 1).standing is Standing.UNKNOWN


def test_good_until_is_when_the_last_support_ends_or_too_few_keys_are_left() -> None:
    a = claim(Subject.COUNTRY, "DE", source="a", lasts_ms=1_000)
    b = claim(Subject.COUNTRY, "DE", source="b", lasts_ms=2_000)
    c = claim(Subject.COUNTRY, "DE", source="c", lasts_ms=3_000)
    again = claim(Subject.COUNTRY, "DE", source="a2", signer="SHA256:a", lasts_ms=2_500)
    assert [fact(a, b, c, agree=n).good_until_boot_ms for n in (1, 2, 3)] == [
        NOW.boot_ms + ms for ms in (2_999, 1_999, 999)
    ]
    assert fact(a, b, c, again, agree=2).good_until_boot_ms == NOW.boot_ms + 2_499
    unsigned = claim(Subject.COUNTRY, "DE", source="d", proof=Proof.DECLARED)
    known = fact(a, b, unsigned, agree=2, at_least=Proof.DECLARED)
    assert known.good_until_boot_ms == NOW.boot_ms + 999


def test_a_key_counts_once_and_declared_claims_have_none() -> None:
    pieces = [
        claim(Subject.COUNTRY, "DE", source="a", signer="SHA256:k"),
        claim(Subject.COUNTRY, "DE", source="b", signer="SHA256:k", proof=Proof.FRESH),
        claim(Subject.COUNTRY, "DE", source="c", proof=Proof.DECLARED),
    ]
    known = fact(*pieces, at_least=Proof.DECLARED)
    assert known.signers == ("SHA256:k",)
    assert known.proof is Proof.FRESH


def test_the_order_of_evidence_does_not_matter_even_where_ids_collide() -> None:
    pieces = [
        claim(Subject.COUNTRY, "DE"),
        claim(Subject.COUNTRY, "DE", age_ms=5),
        claim(Subject.COUNTRY, "NL", source="dmi", proof=Proof.DECLARED),
        absent(Subject.COUNTRY, "statement.expired"),
    ]
    assert len({fact(*order) for order in permutations(pieces)}) == 1


@pytest.mark.parametrize(
    ("subject", "one", "other"),
    [
        (Subject.COUNTRY, "de", "DE "),
        (Subject.SUBDIVISION, "de-he", "DE-HE"),
        (Subject.CITY, "Frankfurt  am MAIN", "frankfurt am main"),
        (Subject.CITY, "Du\u0308sseldorf", "D\u00fcsseldorf"),
        (Subject.POSTAL_CODE, "101 15", "10115"),
        (Subject.COMPLIANCE, ("b", "a", "b"), ("a", "b")),
    ],
)
def test_two_ways_to_write_one_value(subject: Subject, one: Any, other: Any) -> None:
    assert normalise(subject, one) == normalise(subject, other)


@pytest.mark.parametrize(
    ("subject", "one", "other"),
    [
        (Subject.TIME_ZONE, "Europe/Berlin", "europe/berlin"),
        (Subject.HYPERVISOR, "kvm", "KVM"),
        (Subject.BUILDING, "B1", "b1"),
        (Subject.RTC_OFFSET, 0, 1),
        (Subject.POSTAL_CODE, "D-10115", "10115"),  # without the country
    ],
)
def test_values_that_are_not_one(subject: Subject, one: Any, other: Any) -> None:
    assert normalise(subject, one) != normalise(subject, other)


def test_postal_codes_are_compared_as_their_country_writes_them() -> None:
    pieces = [claim(Subject.POSTAL_CODE, "D-10115"), claim(Subject.POSTAL_CODE, "10115", source="b")]
    assert fact(*pieces, subject=Subject.POSTAL_CODE, country="DE").value == "10115"
    assert fact(*pieces, subject=Subject.POSTAL_CODE).standing is Standing.CONTRADICTED


def test_of_labels_the_value_is_what_all_name() -> None:
    known = fact(
        claim(Subject.COMPLIANCE, ("iso27001", "c5")),
        claim(Subject.COMPLIANCE, ("soc2", "iso27001"), source="b"),
        subject=Subject.COMPLIANCE,
    )
    assert (known.standing, known.value) == (Standing.KNOWN, ("iso27001",))


def test_by_subject_sorts_and_loses_nothing() -> None:
    pieces = (claim(Subject.COUNTRY, "DE"), claim(Subject.CITY, "x"), claim(Subject.COUNTRY, "NL"))
    assert by_subject(pieces) == {Subject.COUNTRY: [pieces[0], pieces[2]], Subject.CITY: [pieces[1]]}
