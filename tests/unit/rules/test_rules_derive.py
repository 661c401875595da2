# SPDX-License-Identifier: Apache-2.0
import msgspec

from vmwarden.model.evidence import Evidence, Proof, Subject
from vmwarden.model.policy import Facility
from vmwarden.rules.derive import derive
from vmwarden.testing.claims import absent, claim

FRANKFURT = Facility(region="eu-central-1", country="DE", postal_code="60314", time_zone="Europe/Berlin")


def told(derived: tuple[Evidence, ...]) -> set[tuple[str, object]]:
    return {(piece.subject, piece.value) for piece in derived}


def test_a_row_says_what_a_region_implies_with_the_proof_of_the_claim() -> None:
    origin = claim(Subject.REGION, "eu-central-1", proof=Proof.FRESH)
    derived = derive((origin,), (FRANKFURT,))
    assert told(derived) == {
        (Subject.COUNTRY, "DE"),
        (Subject.POSTAL_CODE, "60314"),
        (Subject.TIME_ZONE, "Europe/Berlin"),
    }
    for piece in derived:
        changed = {"id": origin.id, "subject": origin.subject, "value": origin.value}
        assert msgspec.structs.replace(piece, **changed) == origin
        assert piece.id.startswith(f"{origin.id}/facility-1/")


def test_another_region_implies_nothing() -> None:
    assert derive((claim(Subject.REGION, "eu-west-1"),), (FRANKFURT,)) == ()
    assert derive((absent(Subject.REGION, ""),), (FRANKFURT,)) == ()
    assert derive((claim(Subject.ZONE, "eu-central-1"),), (FRANKFURT,)) == ()
    gone = msgspec.structs.replace(claim(Subject.REGION, "eu-central-1"), unavailable="gone")
    assert derive((gone,), (FRANKFURT,)) == ()


def test_a_row_with_two_names_needs_both_from_one_document() -> None:
    row = Facility(region="r", building="b", country="DE")
    region, building = claim(Subject.REGION, "r"), claim(Subject.BUILDING, "b")
    assert told(derive((region, building), (row,))) == {(Subject.COUNTRY, "DE")}
    assert derive((region,), (row,)) == ()
    assert derive((region, claim(Subject.BUILDING, "b", source="dmi")), (row,)) == ()
    assert derive((region, claim(Subject.BUILDING, "b", proof=Proof.DECLARED)), (row,)) == ()


def test_of_two_origins_the_shorter_life_counts() -> None:
    row = Facility(region="r", building="b", country="DE")
    region = claim(Subject.REGION, "r", lasts_ms=50, issued_ago_ms=7)
    building = claim(Subject.BUILDING, "b", lasts_ms=None, issued_ago_ms=9)
    (piece,) = derive((building, region), (row,))
    assert piece.valid_until_ms == region.valid_until_ms
    assert piece.issued_at_ms == building.issued_at_ms
    (undated,) = derive((region, msgspec.structs.replace(building, issued_at_ms=None)), (row,))
    assert undated.issued_at_ms is None


def test_a_row_that_gives_nothing_applies_to_nothing() -> None:
    assert derive((claim(Subject.REGION, "r"),), (Facility(country="DE"),)) == ()


def test_two_rows_that_differ_both_speak() -> None:
    rows = (Facility(region="r", country="DE"), Facility(region="r", country="NL"))
    derived = derive((claim(Subject.REGION, "r"),), rows)
    assert told(derived) == {(Subject.COUNTRY, "DE"), (Subject.COUNTRY, "NL")}
    assert len({piece.id for piece in derived}) == 2


def test_order_does_not_matter() -> None:
    pieces = tuple(claim(Subject.REGION, "r", source=s, number=n) for s in "ab" for n in (0, 1))
    rows = (Facility(region="r", country="DE"),)
    assert derive(pieces, rows) == derive(pieces[::-1], rows)
