# SPDX-License-Identifier: Apache-2.0
"""What all evidence on one subject adds up to.

Evidence counts if it is there, reaches the proof asked for, and is young enough; whatever does not
count is kept with the reason.  The order in which evidence comes never matters.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
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

_id = attrgetter("id")

_NUMBERS = (Subject.CLOCK, Subject.RTC_OFFSET)
_KNOWN = Standing.KNOWN

#: evidence by what it speaks about
BySubject = Mapping[Subject, Sequence[Evidence]]

#: a CLOCK_BOOTTIME that has always passed
_NEVER = -(2**63)


def reaches(proof: Proof, at_least: Proof) -> bool:
    """Whether a claim with this proof is proven at least that well."""
    return proof in _REACHED_BY[at_least]


def normalise(subject: Subject, value: Value, country: str = "") -> Value:
    """The form in which values of a subject are compared; None if it cannot be a value of it.

    country: for postal codes, where their customary prefix depends on it.
    """
    if isinstance(value, tuple):
        return tuple(sorted(set(value))) if subject is Subject.COMPLIANCE else None
    if isinstance(value, int):
        return value if subject in _NUMBERS and value.bit_length() < 64 else None
    if value is None or subject is Subject.COMPLIANCE:
        return None
    if subject in (Subject.COUNTRY, Subject.SUBDIVISION):
        value = value.strip().upper()
    elif subject is Subject.POSTAL_CODE:
        value = postal.normalise(country, value)
    elif subject is Subject.CITY:
        value = " ".join(unicodedata.normalize("NFC", value).casefold().split())
    return value or None


def by_subject(evidence: Iterable[Evidence]) -> BySubject:
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
    at_least, now, utc_ms, recheck_ms, within_ms, agree = terms
    prepared = _prepare(tuple(evidence), subject, at_least, recheck_ms, within_ms, country)
    boot_ms = now.boot_ms
    ends: list[int] = []
    for _, _, seen, boot_end, utc_end in prepared.candidates:
        if utc_end is not None:
            boot_end = _NEVER if utc_ms is None else min(boot_end, boot_ms + utc_end - utc_ms)
        if not seen <= boot_ms <= boot_end:
            return _without_the_late(prepared, subject, terms)
        ends.append(boot_end)
    return _lasting(prepared.fact, ends, agree)


class _Candidate(NamedTuple):
    """A piece that counts from seen to boot_end (CLOCK_BOOTTIME) and, if dates judge it, to utc_end."""

    piece: Evidence
    value: Value
    seen: int
    boot_end: int
    utc_end: int | None


class _Prepared(NamedTuple):
    """What can be said without looking at a clock.  fact: if every candidate is in time."""

    candidates: tuple[_Candidate, ...]
    refused: tuple[tuple[Evidence, str], ...]
    fact: Fact


@lru_cache(maxsize=256)
def _prepare(
    evidence: tuple[Evidence, ...],
    subject: Subject,
    at_least: Proof,
    recheck_ms: int,
    within_ms: int | None,
    country: str,
) -> _Prepared:
    """Remembered, because a warden judges the same evidence a dozen times before it has gathered anew."""
    candidates: list[_Candidate] = []
    refused: list[tuple[Evidence, str]] = []
    for piece in ordered(evidence):
        if piece.unavailable:
            refused.append((piece, piece.finding or UNAVAILABLE))
        elif not reaches(piece.proof, at_least):
            refused.append((piece, TOO_WEAK))
        elif (value := normalise(subject, piece.value, country)) is None:
            refused.append((piece, UNUSABLE))
        elif within_ms is not None and piece.issued_at_ms is None and piece.proof not in _NONCE_BOUND:
            refused.append((piece, UNDATED))
        else:
            seen = piece.observed_boot_ms
            candidates.append(_Candidate(piece, value, seen, *last_moments(piece, recheck_ms, within_ms)))
    fact = _add_up(subject, at_least, candidates, tuple(refused))
    return _Prepared(tuple(candidates), tuple(refused), fact)


def last_moments(piece: Evidence, recheck_ms: int, within_ms: int | None) -> tuple[int, int | None]:
    """The last moments at which a piece counts: on CLOCK_BOOTTIME, and by date if it is judged by one."""
    seen, issued, until = piece.observed_boot_ms, piece.issued_at_ms, piece.valid_until_ms
    boot_ends = [seen + recheck_ms]
    if piece.proof in _NONCE_BOUND:
        # Its stamp was made for our question: whatever it says, that was when we saw it.
        if issued is not None and until is not None:
            boot_ends.append(seen + until - issued - 1)
        if within_ms is not None:
            boot_ends.append(seen + within_ms)
        return min(boot_ends), None
    utc_ends = [] if until is None else [until - 1]
    if within_ms is not None and issued is not None:
        utc_ends.append(issued + within_ms)
    return min(boot_ends), min(utc_ends, default=None)


def _add_up(
    subject: Subject,
    at_least: Proof,
    counted: Sequence[_Candidate],
    discounted: tuple[tuple[Evidence, str], ...],
) -> Fact:
    """The fact that these make together; how long it lasts is not said yet."""
    pieces = tuple([candidate.piece for candidate in counted])
    values = [candidate.value for candidate in counted]
    value = values[0] if values else None
    if isinstance(value, tuple):
        value = tuple([label for label in value if all(label in v for v in values if isinstance(v, tuple))])
    elif values.count(value) != len(values):
        value = None
    if value is None:
        return Fact(
            subject=subject,
            at_least=at_least,
            standing=Standing.CONTRADICTED if pieces else Standing.UNKNOWN,
            evidence=pieces,
            discounted=discounted,
        )
    return Fact(
        subject=subject,
        at_least=at_least,
        standing=Standing.KNOWN,
        value=value,
        proof=max((piece.proof for piece in pieces), key=list(_REACHED_BY).index),
        signers=tuple(sorted({piece.signer for piece in pieces if piece.signer})),
        evidence=pieces,
        discounted=discounted,
    )


def _without_the_late(prepared: _Prepared, subject: Subject, terms: Terms) -> Fact:
    """The fact, where not every candidate is in time."""
    in_time: list[_Candidate] = []
    ends: list[int] = []
    late: list[tuple[Evidence, str]] = []
    boot_ms, utc_ms = terms.now.boot_ms, terms.utc_ms
    for candidate in prepared.candidates:
        end = candidate.boot_end
        if boot_ms < candidate.seen:
            late.append((candidate.piece, OTHER_BOOT))
        elif boot_ms > candidate.seen + terms.recheck_ms:
            late.append((candidate.piece, STALE))
        elif candidate.utc_end is not None and utc_ms is None:
            late.append((candidate.piece, TIME_UNKNOWN))
        else:
            if candidate.utc_end is not None and utc_ms is not None:
                end = min(end, boot_ms + candidate.utc_end - utc_ms)
            if boot_ms <= end:
                in_time.append(candidate)
                ends.append(end)
            else:
                late.append(
                    (candidate.piece, EXPIRED if _expired(candidate.piece, terms) else ISSUED_TOO_LONG_AGO)
                )
    fact = _add_up(subject, terms.at_least, in_time, (*prepared.refused, *late))
    return _lasting(fact, ends, terms.agree)


def _expired(piece: Evidence, terms: Terms) -> bool:
    """Whether its own period is over, leaving issued_within aside."""
    boot_end, utc_end = last_moments(piece, terms.recheck_ms, None)
    over = utc_end is not None and terms.utc_ms is not None and terms.utc_ms > utc_end
    return over or terms.now.boot_ms > boot_end


def _lasting(fact: Fact, ends: Sequence[int], agree: int) -> Fact:
    """fact, with the moment from which on fewer than agree keys are left; ends are those of its evidence."""
    if fact.standing is not _KNOWN:
        return fact
    good_until = max(ends)
    if agree > 1:
        by_key: dict[str, int] = {}
        for piece, end in zip(fact.evidence, ends, strict=True):
            if piece.signer:
                by_key[piece.signer] = max(end, by_key.get(piece.signer, end))
        last_first = sorted(by_key.values(), reverse=True)
        good_until = last_first[agree - 1] if len(last_first) >= agree else good_until
    return Fact(
        subject=fact.subject,
        at_least=fact.at_least,
        standing=_KNOWN,
        value=fact.value,
        proof=fact.proof,
        signers=fact.signers,
        evidence=fact.evidence,
        discounted=fact.discounted,
        good_until_boot_ms=good_until,
    )
