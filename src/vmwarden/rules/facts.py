# SPDX-License-Identifier: Apache-2.0
"""What all evidence on one subject adds up to.

Evidence counts if it is there, reaches the proof asked for, and is young enough; whatever does not
count is kept with the reason.  The order in which evidence comes never matters.
"""

import unicodedata
from collections.abc import Iterable

import msgspec

from vmwarden.model.evidence import Evidence, Proof, Subject, Value
from vmwarden.model.fact import Fact, Standing
from vmwarden.model.moment import Moment
from vmwarden.rules import postal

#: Which proofs reach which: declared < signed < fresh < attested.  measured bounds a distance and
#: reaches nothing but itself.
_REACHED_BY: dict[Proof, tuple[Proof, ...]] = {
    Proof.DECLARED: (Proof.DECLARED, Proof.SIGNED, Proof.FRESH, Proof.ATTESTED),
    Proof.SIGNED: (Proof.SIGNED, Proof.FRESH, Proof.ATTESTED),
    Proof.FRESH: (Proof.FRESH, Proof.ATTESTED),
    Proof.ATTESTED: (Proof.ATTESTED,),
    Proof.MEASURED: (Proof.MEASURED,),
}
_STRONGEST_FIRST = (Proof.ATTESTED, Proof.FRESH, Proof.SIGNED, Proof.DECLARED, Proof.MEASURED)

#: Proofs that answer a nonce of ours: made after we asked, whatever any clock says.
_NONCE_BOUND = (Proof.FRESH, Proof.ATTESTED)

UNAVAILABLE = "evidence.unavailable"
UNUSABLE = "evidence.unusable"
TOO_WEAK = "evidence.too-weak"
STALE = "evidence.stale"
OTHER_BOOT = "evidence.other-boot"
EXPIRED = "evidence.expired"
UNDATED = "evidence.undated"
ISSUED_TOO_LONG_AGO = "evidence.issued-too-long-ago"
TIME_UNKNOWN = "evidence.time-unknown"

_LABELS = Subject.COMPLIANCE
_NUMBERS = (Subject.CLOCK, Subject.RTC_OFFSET)


def reaches(proof: Proof, at_least: Proof) -> bool:
    """Whether a claim with this proof is proven at least that well."""
    return proof in _REACHED_BY[at_least]


def normalise(subject: Subject, value: Value, country: str = "") -> Value:
    """The form in which values of a subject are compared; None if it cannot be a value of it.

    country: for postal codes, where their customary prefix depends on it.
    """
    if subject is _LABELS:
        return tuple(sorted(set(value))) if isinstance(value, tuple) else None
    if isinstance(value, int):
        return value if subject in _NUMBERS else None
    if not isinstance(value, str) or not value:
        return None
    if subject is Subject.COUNTRY or subject is Subject.SUBDIVISION:
        return value.strip().upper() or None
    if subject is Subject.POSTAL_CODE:
        return postal.normalise(country, value) or None
    if subject is Subject.CITY:
        return " ".join(unicodedata.normalize("NFC", value).casefold().split()) or None
    return value


def ordered(evidence: Iterable[Evidence]) -> tuple[Evidence, ...]:
    """The same pieces in one canonical order: what is written about them does not depend on arrival."""
    pieces = sorted(evidence, key=_id)
    if len({piece.id for piece in pieces}) != len(pieces):
        pieces.sort(key=msgspec.json.encode)
    return tuple(pieces)


def _id(piece: Evidence) -> str:
    return piece.id


def establish(
    evidence: Iterable[Evidence],
    subject: Subject,
    *,
    at_least: Proof,
    now: Moment,
    utc_ms: int | None,
    recheck_ms: int,
    issued_within_ms: int | None,
    agree: int = 1,
    country: str = "",
) -> Fact:
    """The fact on subject.

    utc_ms: rules.trusted_time.utc, None = unknown.  recheck_ms: greatest age since we saw it, on
    CLOCK_BOOTTIME.  issued_within_ms: greatest age of the issuer's own stamp; None = any.
    agree: how many different keys the caller wants; only good_until_boot_ms depends on it.
    country: for the normal form of postal codes.

    Two pieces that count and differ make it contradicted, also two of one source and one key: a newer
    piece does not silently replace an older one here.  The caller's store drops a source's earlier
    gathering as a whole; two documents that one source carries at once must not hide each other.
    Labels (host.compliance) do not contradict one another here: value is what every piece names, and
    evidence has them all.
    """
    counted: list[tuple[Evidence, Value, int]] = []
    discounted: list[tuple[Evidence, str]] = []
    enough = _REACHED_BY[at_least]
    for piece in ordered([e for e in evidence if e.subject == subject]):
        value = None if piece.unavailable else normalise(subject, piece.value, country)
        if value is None:
            reason = (piece.finding or UNAVAILABLE) if piece.unavailable else UNUSABLE
        elif piece.proof not in enough:
            reason = TOO_WEAK
        else:
            end = _end(piece, now=now, utc_ms=utc_ms, recheck_ms=recheck_ms, within_ms=issued_within_ms)
            if isinstance(end, int):
                counted.append((piece, value, end))
                continue
            reason = end
        discounted.append((piece, reason))

    if not counted:
        return Fact(
            subject=subject, at_least=at_least, standing=Standing.UNKNOWN, discounted=tuple(discounted)
        )
    pieces = tuple([piece for piece, _, _ in counted])
    first = counted[0][1]
    if isinstance(first, tuple):
        shared = set(first).intersection(*[v for _, v, _ in counted if isinstance(v, tuple)])
        first = tuple(sorted(shared))
    elif any(value != first for _, value, _ in counted):
        return Fact(
            subject=subject,
            at_least=at_least,
            standing=Standing.CONTRADICTED,
            evidence=pieces,
            discounted=tuple(discounted),
        )
    reached = {piece.proof for piece in pieces}
    return Fact(
        subject=subject,
        at_least=at_least,
        standing=Standing.KNOWN,
        value=first,
        proof=next(proof for proof in _STRONGEST_FIRST if proof in reached),
        signers=tuple(sorted({piece.signer for piece in pieces if piece.signer})),
        evidence=pieces,
        discounted=tuple(discounted),
        good_until_boot_ms=_good_until(counted, agree),
    )


def _end(
    piece: Evidence, *, now: Moment, utc_ms: int | None, recheck_ms: int, within_ms: int | None
) -> int | str:
    """CLOCK_BOOTTIME until which a piece counts, or the finding id of why it does not."""
    seen = piece.observed_boot_ms
    if seen > now.boot_ms:
        return OTHER_BOOT
    end = seen + recheck_ms
    if now.boot_ms > end:
        return STALE
    until, issued = piece.valid_until_ms, piece.issued_at_ms
    if piece.proof in _NONCE_BOUND:
        # Its stamp was made for our question, so its own lifetime runs from when we saw it.
        if until is not None and issued is not None:
            end = min(end, seen + until - issued - 1)
            if now.boot_ms > end:
                return EXPIRED
        if within_ms is not None:
            end = min(end, seen + within_ms)
            if now.boot_ms > end:
                return ISSUED_TOO_LONG_AGO
        return end
    if within_ms is not None and issued is None:
        return UNDATED
    if until is None and within_ms is None:
        return end
    if utc_ms is None:
        return TIME_UNKNOWN
    if until is not None:
        if utc_ms >= until:
            return EXPIRED
        end = min(end, now.boot_ms + (until - utc_ms) - 1)
    if within_ms is not None and issued is not None:
        if utc_ms > issued + within_ms:
            return ISSUED_TOO_LONG_AGO
        end = min(end, now.boot_ms + (issued + within_ms - utc_ms))
    return end


def _good_until(counted: list[tuple[Evidence, Value, int]], agree: int) -> int:
    """When fewer than agree keys are left, if nothing new comes: the agree-th last end of a key."""
    if agree <= 1:
        return max(end for _, _, end in counted)
    ends: dict[str, int] = {}
    for piece, _, end in counted:
        if piece.signer:
            ends[piece.signer] = max(end, ends.get(piece.signer, end))
    last_first = sorted(ends.values(), reverse=True)
    return last_first[agree - 1] if len(last_first) >= agree else max(end for _, _, end in counted)
