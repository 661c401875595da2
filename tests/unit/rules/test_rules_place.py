# SPDX-License-Identifier: Apache-2.0
from typing import Any

import msgspec
import pytest

from vmwarden.model.evidence import Evidence, Proof, Subject
from vmwarden.model.policy import Place, PlaceEntry
from vmwarden.model.verdict import Answer, Verdict
from vmwarden.rules.facts import by_subject
from vmwarden.rules.fences.place import judge
from vmwarden.testing.claims import NOW, absent, claim

BERLIN = PlaceEntry(country="DE", postal_codes=("10*", "603*"), time_zones=("Europe/Berlin",))
NETHERLANDS = PlaceEntry(country="NL")


def place(*entries: PlaceEntry, **other: Any) -> Place:
    return Place(any_of=entries or (BERLIN, NETHERLANDS), **other)


def look(clause: Place, *evidence: Evidence, utc_ms: int | None = NOW.utc_ms) -> Verdict:
    verdict = judge(clause, by_subject(evidence), now=NOW, utc_ms=utc_ms)
    assert verdict.fence == "place"
    assert len(set(verdict.findings)) == len(verdict.findings)
    return verdict


def ids(verdict: Verdict) -> set[str]:
    return {finding.id for finding in verdict.findings}


def in_berlin(**other: Any) -> tuple[Evidence, ...]:
    return (
        claim(Subject.COUNTRY, "DE", **other),
        claim(Subject.POSTAL_CODE, "D-10115", **other),
        claim(Subject.TIME_ZONE, "Europe/Berlin", **other),
    )


def test_the_right_place_is_allowed_with_its_end_and_all_findings() -> None:
    verdict = look(place(), *in_berlin(lasts_ms=5_000))
    assert verdict.answer is Answer.ALLOW
    assert verdict.good_until_boot_ms == NOW.boot_ms + 4_999
    assert ids(verdict) == {
        "place.country.match",
        "place.postal_code.match",
        "place.time_zone.match",
        "place.country.mismatch",  # the other entry's
    }
    match = next(f for f in verdict.findings if f.id == "place.postal_code.match")
    assert (match.expected, match.found, match.source) == ("10* or 603*", "10115, signed", "fw_cfg")


@pytest.mark.parametrize(
    ("subject", "value", "finding"),
    [
        (Subject.COUNTRY, "FR", "place.country.mismatch"),
        (Subject.POSTAL_CODE, "20095", "place.postal_code.mismatch"),
        (Subject.TIME_ZONE, "Europe/Paris", "place.time_zone.mismatch"),
    ],
)
def test_one_wrong_field_denies(subject: Subject, value: str, finding: str) -> None:
    evidence = [msgspec.structs.replace(e, value=value) if e.subject is subject else e for e in in_berlin()]
    verdict = look(place(BERLIN), *evidence)
    assert verdict.answer is Answer.DENY
    assert finding in ids(verdict)
    assert verdict.good_until_boot_ms is None


def test_a_missing_field_is_unknown_unless_another_denies() -> None:
    assert look(place(BERLIN), *in_berlin()[:2]).answer is Answer.UNKNOWN
    assert look(place(BERLIN), claim(Subject.COUNTRY, "FR")).answer is Answer.DENY
    assert "place.postal_code.unknown" in ids(look(place(BERLIN), claim(Subject.COUNTRY, "FR")))


def test_an_unknown_entry_beside_a_denying_one_is_unknown() -> None:
    assert look(place(), claim(Subject.COUNTRY, "DE")).answer is Answer.UNKNOWN
    assert look(place(), claim(Subject.COUNTRY, "FR")).answer is Answer.DENY
    assert look(place(), claim(Subject.COUNTRY, "NL")).answer is Answer.ALLOW


def test_nothing_at_all_is_unknown() -> None:
    verdict = look(place())
    assert verdict.answer is Answer.UNKNOWN
    assert ids(verdict) == {
        "place.country.unknown",
        "place.postal_code.unknown",
        "place.time_zone.unknown",
    }


def test_refused_statements_are_named_with_the_ids_that_refused_them() -> None:
    verdict = look(
        place(NETHERLANDS),
        absent(Subject.STATEMENT, "statement.expired", reason="ended 9 s ago"),
        absent(Subject.STATEMENT, "statement.unknown-key", source="virtio-serial"),
        absent(Subject.STATEMENT, "", source="oem"),
    )
    assert ids(verdict) == {
        "place.country.unknown",
        "statement.expired",
        "statement.unknown-key",
        "evidence.unavailable",
    }
    expired = next(f for f in verdict.findings if f.id == "statement.expired")
    assert (expired.found, expired.source) == ("ended 9 s ago", "fw_cfg")


def test_a_claim_that_is_too_weak_is_shown() -> None:
    verdict = look(place(NETHERLANDS), claim(Subject.COUNTRY, "NL", source="dmi", proof=Proof.DECLARED))
    assert verdict.answer is Answer.UNKNOWN
    assert ids(verdict) == {"place.country.too-weak", "evidence.too-weak"}
    weak = verdict.findings[0]
    assert (weak.expected, weak.found, weak.source) == ("NL, at least signed", "NL (declared)", "dmi")


def test_why_a_claim_did_not_count_is_told() -> None:
    assert "evidence.expired" in ids(look(place(NETHERLANDS), claim(Subject.COUNTRY, "NL", lasts_ms=0)))
    stale = look(place(NETHERLANDS), claim(Subject.COUNTRY, "NL", age_ms=60_001))
    assert ids(stale) == {"place.country.unknown", "evidence.stale"}


def test_a_flood_of_claims_that_do_not_count_is_told_in_short() -> None:
    flood = [
        claim(Subject.COUNTRY, f"{n:02}" + "x" * 999, proof=Proof.DECLARED, source=f"s{n}") for n in range(64)
    ]
    verdict = look(place(NETHERLANDS), *flood)
    assert sum(finding.id == "evidence.too-weak" for finding in verdict.findings) == 16
    (more,) = (finding for finding in verdict.findings if finding.id == "evidence.more")
    assert more.found == "48 more pieces that do not count"
    assert look(place(NETHERLANDS), *flood[::-1]) == verdict
    assert len(look(place(NETHERLANDS, proof="declared"), *flood).findings[0].found) == 200
    assert all(len(finding.found) <= 200 and len(finding.source) <= 200 for finding in verdict.findings)


def test_a_contradiction_denies_even_where_both_are_accepted() -> None:
    both = place(PlaceEntry(country="DE"), NETHERLANDS)
    verdict = look(both, claim(Subject.COUNTRY, "DE"), claim(Subject.COUNTRY, "NL", source="virtio-serial"))
    assert verdict.answer is Answer.DENY
    assert ids(verdict) == {"place.country.contradicted"}
    assert verdict.findings[0].found == "DE (fw_cfg); NL (virtio-serial)"


def test_agree_counts_keys() -> None:
    clause = place(NETHERLANDS, agree=2)
    one = look(clause, claim(Subject.COUNTRY, "NL"))
    assert one.answer is Answer.UNKNOWN
    assert ids(one) == {"place.country.disagree"}
    assert one.findings[0].found == "NL, signed, by 1"
    same = claim(Subject.COUNTRY, "NL", source="b", signer="SHA256:fw_cfg")
    assert look(clause, claim(Subject.COUNTRY, "NL"), same).answer is Answer.UNKNOWN
    assert look(clause, claim(Subject.COUNTRY, "NL"), claim(Subject.COUNTRY, "NL", source="b")).answer is (
        Answer.ALLOW
    )


def test_agree_is_never_met_by_declared_claims() -> None:
    pieces = [claim(Subject.COUNTRY, "NL", source=s, proof=Proof.DECLARED) for s in "abc"]
    verdict = look(place(NETHERLANDS, agree=2, proof="declared"), *pieces)
    assert verdict.answer is Answer.UNKNOWN
    assert "declared claims carry no key" in verdict.findings[0].found


def test_one_key_is_enough_to_deny() -> None:
    assert look(place(NETHERLANDS, agree=2), claim(Subject.COUNTRY, "FR")).answer is Answer.DENY


def test_issued_within_and_recheck_are_the_clauses() -> None:
    piece = claim(Subject.COUNTRY, "NL", age_ms=10_000, issued_ago_ms=10_000)
    assert look(place(NETHERLANDS, issued_within="9s"), piece).answer is Answer.UNKNOWN
    assert look(place(NETHERLANDS, issued_within="10s"), piece).answer is Answer.ALLOW
    assert look(place(NETHERLANDS, recheck="9s"), piece).answer is Answer.UNKNOWN
    assert look(place(NETHERLANDS, recheck="10s"), piece).answer is Answer.ALLOW


def test_postal_codes_without_a_country_need_to_know_which_it_is() -> None:
    clause = place(PlaceEntry(postal_codes=("10115",)))
    code = claim(Subject.POSTAL_CODE, "D-10115", lasts_ms=9_000)
    alone = look(clause, code)
    assert alone.answer is Answer.UNKNOWN
    assert ids(alone) == {"place.country.unknown"}
    known = look(clause, code, claim(Subject.COUNTRY, "DE", lasts_ms=4_000))
    assert known.answer is Answer.ALLOW
    assert known.good_until_boot_ms == NOW.boot_ms + 3_999
    assert look(clause, code, claim(Subject.COUNTRY, "FR")).answer is Answer.DENY
    two = look(clause, code, claim(Subject.COUNTRY, "DE"), claim(Subject.COUNTRY, "NL", source="b"))
    assert two.answer is Answer.DENY
    assert "place.country.contradicted" in ids(two)
    agreed = look(msgspec.structs.replace(clause, agree=2), code, claim(Subject.COUNTRY, "DE"))
    assert agreed.answer is Answer.UNKNOWN


def test_every_field_is_judged_on_its_own_subject() -> None:
    entry = PlaceEntry(
        country="DE",
        subdivisions=("DE-HE",),
        cities=("Frankfurt am Main",),
        postal_codes=("60314",),
        time_zones=("Europe/Berlin",),
        buildings=("FRA-7",),
    )
    values = {
        Subject.COUNTRY: "DE",
        Subject.SUBDIVISION: "de-he",
        Subject.CITY: "frankfurt am main",
        Subject.POSTAL_CODE: "60314",
        Subject.TIME_ZONE: "Europe/Berlin",
        Subject.BUILDING: "FRA-7",
    }
    whole = [claim(subject, value) for subject, value in values.items()]
    assert look(place(entry), *whole).answer is Answer.ALLOW
    for piece in whole:
        rest = [other for other in whole if other is not piece]
        assert look(place(entry), *rest).answer is Answer.UNKNOWN
        wrong = msgspec.structs.replace(piece, value="XX")
        verdict = look(place(entry), *rest, wrong)
        assert verdict.answer is Answer.DENY
        assert f"{piece.subject}.mismatch" in ids(verdict)


def test_the_entry_that_lasts_longest_counts() -> None:
    clause = place(
        PlaceEntry(country="NL", time_zones=("Europe/Amsterdam",)), PlaceEntry(cities=("Delft",)), NETHERLANDS
    )
    verdict = look(
        clause,
        claim(Subject.COUNTRY, "NL", lasts_ms=9_001),
        claim(Subject.TIME_ZONE, "Europe/Amsterdam", lasts_ms=2_001),
        claim(Subject.CITY, "Delft", lasts_ms=5_001),
    )
    assert verdict.good_until_boot_ms == NOW.boot_ms + 9_000


def test_what_lint_refuses_is_never_an_allow() -> None:
    empty = look(place(PlaceEntry()), *in_berlin())
    assert empty.answer is Answer.UNKNOWN
    assert ids(empty) == {"place.empty-entry"}
    none = judge(Place(any_of=()), by_subject(in_berlin()), now=NOW, utc_ms=None)
    assert none.answer is Answer.DENY
    assert ids(none) == {"place.no-entries"}
