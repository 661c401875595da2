# SPDX-License-Identifier: Apache-2.0
"""What the owner's table of facilities makes of a provider's own names."""

from itertools import groupby

from vmwarden.model.evidence import Evidence, Proof, Subject
from vmwarden.model.policy import Facility
from vmwarden.rules import facts

_GIVEN = ((Subject.REGION, "region"), (Subject.ZONE, "zone"), (Subject.BUILDING, "building"))
_IMPLIED = (
    (Subject.COUNTRY, "country"),
    (Subject.POSTAL_CODE, "postal_code"),
    (Subject.TIME_ZONE, "time_zone"),
)
_KEYS = frozenset(subject for subject, _ in _GIVEN)


def derive(evidence: tuple[Evidence, ...], facilities: tuple[Facility, ...]) -> tuple[Evidence, ...]:
    """The derived claims alone, without what they come from.

    A row applies to one document (one source, signer and proof) that claims everything that the row
    gives.  What it implies has the proof, the signer and the times of that document: a table lends no
    proof.  Two rows that apply and differ contradict each other, and they should: the table is wrong.
    A row that gives nothing applies to nothing.
    """
    if not facilities:
        return ()
    claims = [
        piece
        for piece in evidence
        if piece.subject in _KEYS and not piece.unavailable and isinstance(piece.value, str)
    ]
    derived: list[Evidence] = []
    for _, document in groupby(sorted(facts.ordered(claims), key=_document), key=_document):
        pieces = tuple(document)
        for number, row in enumerate(facilities, 1):
            origins = _origins(pieces, row)
            if origins:
                derived += _implied(origins, row, number)
    return tuple(derived)


def _document(piece: Evidence) -> tuple[str, str, Proof, int]:
    return (piece.source, piece.signer, piece.proof, piece.observed_boot_ms)


def _origins(pieces: tuple[Evidence, ...], row: Facility) -> tuple[Evidence, ...]:
    """One piece for each name that the row gives; empty if one is not claimed."""
    origins = []
    for subject, field in _GIVEN:
        wanted = getattr(row, field)
        if wanted is None:
            continue
        origin = next((p for p in pieces if p.subject == subject and p.value == wanted), None)
        if origin is None:
            return ()
        origins.append(origin)
    return tuple(origins)


def _implied(origins: tuple[Evidence, ...], row: Facility, number: int) -> list[Evidence]:
    first = origins[0]
    return [
        Evidence(
            id=f"{first.id}/facility-{number}/{subject}",
            subject=subject,
            source=first.source,
            value=value,
            proof=first.proof,
            signer=first.signer,
            issued_at_ms=_earliest([piece.issued_at_ms for piece in origins], all_known=True),
            observed_at_ms=min(piece.observed_at_ms for piece in origins),
            observed_boot_ms=first.observed_boot_ms,
            valid_until_ms=_earliest([piece.valid_until_ms for piece in origins], all_known=False),
            boot_frozen=any(piece.boot_frozen for piece in origins),
        )
        for subject, value in ((s, getattr(row, field)) for s, field in _IMPLIED)
        if value is not None
    ]


def _earliest(times: list[int | None], *, all_known: bool) -> int | None:
    """The earliest; with all_known None as soon as one is not known, because then the age is not."""
    known = [time for time in times if time is not None]
    if not known or (all_known and len(known) < len(times)):
        return None
    return min(known)
