# SPDX-License-Identifier: Apache-2.0
"""What all evidence on one subject adds up to.

Evidence counts if it is there, reaches the proof asked for, and is young enough; whatever does not
count is kept with the reason.  The order in which evidence comes never matters.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple

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
_STRENGTH = {proof: rank for rank, proof in enumerate(_REACHED_BY)}

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
MORE = "evidence.more"

# Looked up once: on Python 3.11 a member of an enumeration costs more than the comparison with it.
_POSTAL_CODE, _COMPLIANCE, _CITY = Subject.POSTAL_CODE, Subject.COMPLIANCE, Subject.CITY
_KNOWN = Standing.KNOWN

_NUMBERS = (Subject.CLOCK, Subject.RTC_OFFSET)
_CODES = (Subject.COUNTRY, Subject.SUBDIVISION)
_AS_WRITTEN = frozenset(Subject) - {
    *_NUMBERS,
    *_CODES,
    Subject.CITY,
    Subject.POSTAL_CODE,
    Subject.COMPLIANCE,
}

_NOBODY = {""}

_id, _proof, _signer = attrgetter("id"), attrgetter("proof"), attrgetter("signer")
_strength = _STRENGTH.__getitem__

# CLOCK_BOOTTIME that nothing reaches, and that everything has passed: 2**63 ms are 292 million years.
# A number beyond is no value either.
_FOR_EVER, _NEVER = 2**63, -(2**63)


def reaches(proof: Proof, at_least: Proof) -> bool:
    """Whether a claim with this proof is proven at least that well."""
    return proof in _REACHED_BY[at_least]


def normalise(subject: Subject, value: Value, country: str = "") -> Value:
    """The form in which values of a subject are compared; None if it cannot be a value of it.

    country: for postal codes, where their customary prefix depends on it.
    """
    if subject in _AS_WRITTEN:
        return value or None if isinstance(value, str) else None
    if subject in _CODES:
        return (value.strip().upper() or None) if isinstance(value, str) else None
    if subject is _POSTAL_CODE:
        return (postal.normalise(country, value) or None) if isinstance(value, str) else None
    if subject is _COMPLIANCE:
        return tuple(sorted(set(value))) if isinstance(value, tuple) else None
    if subject is _CITY:
        return _city(value) or None if isinstance(value, str) else None
    if isinstance(value, str):
        return value or None
    return value if isinstance(value, int) and abs(value) < _FOR_EVER else None


@lru_cache(maxsize=256)
def _city(value: str) -> str:
    return " ".join(unicodedata.normalize("NFC", value).casefold().split())


def by_subject(evidence: Iterable[Evidence]) -> dict[Subject, list[Evidence]]:
    """The same pieces by what they speak about, for callers that establish several facts."""
    sorted_out: defaultdict[Subject, list[Evidence]] = defaultdict(list)
    for piece in evidence:
        sorted_out[piece.subject].append(piece)
    return sorted_out


def ordered(evidence: Iterable[Evidence]) -> tuple[Evidence, ...]:
    """The same pieces in one canonical order: what is written about them does not depend on arrival."""
    pieces = sorted(evidence, key=_id)
    if len(pieces) > 1 and len(set(map(_id, pieces))) != len(pieces):
        pieces.sort(key=msgspec.json.encode)
    return tuple(pieces)


class Terms(NamedTuple):
    """On what terms evidence counts.

    utc_ms: rules.trusted_time.utc, None = unknown.  recheck_ms: greatest age since we saw it, on
    CLOCK_BOOTTIME.  issued_within_ms: greatest age of the issuer's own stamp; None = any.
    agree: how many different keys the caller wants; only good_until_boot_ms depends on it.
    """

    at_least: Proof
    now: Moment
    utc_ms: int | None
    recheck_ms: int
    issued_within_ms: int | None
    agree: int = 1


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
    """weigh, for a caller with evidence on all subjects and a single question."""
    terms = Terms(at_least, now, utc_ms, recheck_ms, issued_within_ms, agree)
    return weigh([piece for piece in evidence if piece.subject == subject], subject, terms, country)


def weigh(evidence: Sequence[Evidence], subject: Subject, terms: Terms, country: str = "") -> Fact:
    """The fact on subject; all evidence is on it.  country: for the normal form of postal codes.

    Two pieces that count and differ make it contradicted, also two of one source and one key: a newer
    piece does not silently replace an older one here.  The caller's store drops a source's earlier
    gathering as a whole; two documents that one source carries at once must not hide each other.
    Labels (host.compliance) do not contradict one another here: value is what every piece names, and
    evidence has them all.
    """
    at_least, now, _, recheck_ms, within_ms, agree = terms
    boot_ms, enough = now.boot_ms, _REACHED_BY[at_least]
    pieces: list[Evidence] = []
    values: list[Value] = []
    ends: list[int] = []
    discounted: list[tuple[Evidence, str]] = []
    for piece in evidence if len(evidence) < 2 else ordered(evidence):
        if piece.unavailable:
            reason = piece.finding or UNAVAILABLE
        elif piece.proof not in enough:
            reason = TOO_WEAK
        elif (value := normalise(subject, piece.value, country)) is None:
            reason = UNUSABLE
        else:
            seen = piece.observed_boot_ms
            end = seen + recheck_ms
            if piece.valid_until_ms is not None or within_ms is not None:
                period_ends = _end_of_period(piece, terms)
                if period_ends < end:
                    end = period_ends
            if seen <= boot_ms <= end:
                pieces.append(piece)
                values.append(value)
                ends.append(end)
                continue
            reason = _too_late(piece, terms)
        discounted.append((piece, reason))

    if not pieces:
        return Fact(
            subject=subject, at_least=at_least, standing=Standing.UNKNOWN, discounted=tuple(discounted)
        )
    value = values[0]
    if isinstance(value, tuple):
        value = tuple([label for label in value if all(label in v for v in values if isinstance(v, tuple))])
    elif values.count(value) != len(values):
        return Fact(
            subject=subject,
            at_least=at_least,
            standing=Standing.CONTRADICTED,
            evidence=tuple(pieces),
            discounted=tuple(discounted),
        )
    return Fact(
        subject=subject,
        at_least=at_least,
        standing=_KNOWN,
        value=value,
        proof=max(map(_proof, pieces), key=_strength),
        signers=tuple(sorted({*map(_signer, pieces)} - _NOBODY)),
        evidence=tuple(pieces),
        discounted=tuple(discounted),
        good_until_boot_ms=max(ends) if agree <= 1 else _good_until(pieces, ends, agree),
    )


def _end_of_period(piece: Evidence, terms: Terms) -> int:
    """The last CLOCK_BOOTTIME within its own period and within terms.issued_within_ms.

    _NEVER if there is no clock to judge the period by, or no stamp to judge its age by.
    """
    _, now, utc_ms, _, within_ms, _ = terms
    until, issued = piece.valid_until_ms, piece.issued_at_ms
    if piece.proof in _NONCE_BOUND:
        # Its stamp was made for our question: whatever it says, that was when we saw it.
        lead = None if issued is None else piece.observed_boot_ms - issued
        end = _FOR_EVER if within_ms is None else piece.observed_boot_ms + within_ms
    elif utc_ms is None:
        return _NEVER
    else:
        lead = now.boot_ms - utc_ms
        if within_ms is None:
            end = _FOR_EVER
        elif issued is None:
            return _NEVER
        else:
            end = issued + within_ms + lead
    if until is None or lead is None:
        return end
    return min(end, until + lead - 1)


def _too_late(piece: Evidence, terms: Terms) -> str:
    """Why a piece does not count that would if time did not pass: the finding id."""
    age_ms = terms.now.boot_ms - piece.observed_boot_ms
    if age_ms < 0:
        return OTHER_BOOT
    if age_ms > terms.recheck_ms:
        return STALE
    if piece.proof not in _NONCE_BOUND:
        if terms.issued_within_ms is not None and piece.issued_at_ms is None:
            return UNDATED
        if terms.utc_ms is None:
            return TIME_UNKNOWN
    of_its_own = terms._replace(issued_within_ms=None)
    expired = piece.valid_until_ms is not None and _end_of_period(piece, of_its_own) < terms.now.boot_ms
    return EXPIRED if expired else ISSUED_TOO_LONG_AGO


def _good_until(pieces: list[Evidence], ends: list[int], agree: int) -> int:
    """When fewer than agree keys are left, if nothing new comes: the agree-th last end of a key."""
    by_key: dict[str, int] = {}
    for piece, end in zip(pieces, ends, strict=True):
        if piece.signer:
            by_key[piece.signer] = max(end, by_key.get(piece.signer, end))
    last_first = sorted(by_key.values(), reverse=True)
    return last_first[agree - 1] if len(last_first) >= agree else max(ends)
