# SPDX-License-Identifier: Apache-2.0
"""What a host's signed statement is worth, here and now."""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vmwarden.errors import BadSignature, Malformed, TooLarge, UntrustedInput
from vmwarden.model.evidence import Evidence, Proof, Subject, Value
from vmwarden.model.moment import Moment
from vmwarden.model.policy import TrustedHost
from vmwarden.model.statement import STATEMENT_BYTES, STATEMENT_TYPE, Audience, HostStatement
from vmwarden.rules import canonical, claim, instant, jws, sshkey
from vmwarden.rules.sshkey import SshPublicKey

#: The longest life of a nonce-bound statement, seconds.  It answers "who are you, now?", and the warden asks
#: again every recheck (60 s by default).  An answer that holds longer than five rechecks would let evidence
#: outlive a move that nobody noticed; what should hold longer is a static statement, which is only `signed`.
FRESH_SECONDS = 300
#: How far ahead of trusted time a static statement's iat may lie, seconds: clocks of hosts differ a little.
AHEAD_SECONDS = 60

#: 2100-01-01T00:00Z, seconds: no clock of a host that is right shows that.  Such a stamp would be taken for
#: trusted time, and the floor that it raises is never lowered.
NEVER_BEFORE = 4_102_444_800

#: every finding that this rule gives, with its meaning (docs/reference/statement.md lists the same)
FINDINGS = {
    "statement.none": "no statement arrived, or the channel is not there",
    "statement.too-large": "longer than a statement may be",
    "statement.garbled": "not a statement: form, algorithm, type, fields or canonical encoding",
    "statement.unknown-key": "signed with a key that the policy does not trust",
    "statement.bad-signature": "the signature does not fit the content",
    "statement.other-vm": "made for another VM",
    "statement.other-generation": "made for another generation of this VM",
    "statement.too-long": "bound to a nonce, and good for longer than five minutes",
    "statement.replayed": "its nonce is not one that is being waited for",
    "statement.no-nonce": "a channel to which a challenge was sent answered without its nonce",
    "statement.time-unknown": "it has a period, and this VM has no trusted time to judge it by",
    "statement.not-yet-valid": "its period has not begun",
    "statement.expired": "its period is over, by trusted time or by its own",
    "statement.label-expired": "a compliance label in it has lapsed; the rest of it counts",
}

_FIELDS = (
    (Subject.HOST_ID, "host_id"),
    (Subject.HOST_NAME, "host_name"),
    (Subject.COUNTRY, "country"),
    (Subject.SUBDIVISION, "subdivision"),
    (Subject.CITY, "city"),
    (Subject.POSTAL_CODE, "postal_code"),
    (Subject.TIME_ZONE, "time_zone"),
    (Subject.BUILDING, "building"),
    (Subject.HYPERVISOR, "hypervisor"),
    (Subject.HYPERVISOR_VERSION, "hypervisor_version"),
)


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """evidence: one piece a field, or one unavailable piece that says what is wrong.

    nonce: the nonce that this statement used up; take it out of those waited for.
    stamped_utc_ms: the statement's iat if it is nonce-bound: a trusted host's clock, read after we asked.
    """

    evidence: tuple[Evidence, ...]
    nonce: str | None = None
    stamped_utc_ms: int | None = None


class _Refused(NamedTuple):
    finding: str
    reason: str


def issue(statement: HostStatement, key: Ed25519PrivateKey) -> str:
    """The host's side: a compact JWS.  Raises TooLarge when nobody would read it."""
    token = jws.sign(canonical.encode(statement), key, STATEMENT_TYPE)
    if len(token) > STATEMENT_BYTES:
        raise TooLarge(
            f"statement: {len(token)} bytes, at most {STATEMENT_BYTES} are read", mend="fewer labels"
        )
    return token


def admit(
    token: str,
    *,
    source: str,
    boot_frozen: bool,
    hosts: tuple[TrustedHost, ...],
    audience: Audience,
    nonces: frozenset[str],
    now: Moment,
    utc_ms: int | None,
) -> Admitted:
    """Judge one token.  Never raises for what is in it.

    source: where it came from, the first part of evidence ids.  boot_frozen: it came from a static channel.
    nonces: those sent and not yet answered; each is good for one statement.
    utc_ms: trusted time, milliseconds since 1970; None = unknown.  A nonce-bound statement needs none: that
    it is new follows from the nonce.  A static one without trusted time is not believed.
    """
    read = _read(token, hosts)
    if isinstance(read, _Refused):
        return _refuse(read, source, boot_frozen, now, signer="")
    statement, key = read
    wrong = _misaddressed(statement, audience) or (
        _untimely(statement, utc_ms, challenged=bool(nonces) and not boot_frozen)
        if statement.nonce is None
        else _unbound(statement, nonces)
    )
    if wrong is not None:
        return _refuse(wrong, source, boot_frozen, now, signer=key.fingerprint)
    fresh = statement.nonce is not None
    # A nonce-bound iat is this moment by a trusted host's clock; static ones were judged by utc_ms.
    judged_at_ms = statement.iat * 1000 if fresh or utc_ms is None else utc_ms
    pieces = _evidence(statement, source, boot_frozen, now, key.fingerprint, judged_at_ms)
    return Admitted(
        evidence=tuple(pieces),
        nonce=statement.nonce,
        stamped_utc_ms=statement.iat * 1000 if fresh else None,
    )


def _read(token: str, hosts: tuple[TrustedHost, ...]) -> tuple[HostStatement, SshPublicKey] | _Refused:
    try:
        kid = jws.signer(token, STATEMENT_TYPE, STATEMENT_BYTES)
        keys = dict(_usable(hosts))
        if kid not in keys:
            return _Refused("statement.unknown-key", f"signed by {claim.shorten(kid)}, which is not trusted")
        payload, key = jws.verify(token, keys, STATEMENT_TYPE, STATEMENT_BYTES)
        statement = canonical.decode(payload, HostStatement, limit=STATEMENT_BYTES, what="statement")
        for _, field in _FIELDS:
            value = getattr(statement, field)
            if value is not None:
                claim.text(value, f"statement: {field}")
        for label in statement.compliance:
            claim.text(label.name, "statement: compliance")
    except TooLarge as error:
        return _Refused("statement.too-large", str(error))
    except BadSignature as error:
        return _Refused("statement.bad-signature", str(error))
    except Malformed as error:
        return _Refused("statement.garbled", str(error))
    return statement, key


def fingerprints(hosts: tuple[TrustedHost, ...]) -> frozenset[str]:
    """Of the keys that count."""
    return frozenset(fingerprint for fingerprint, _ in _usable(hosts))


def _usable(hosts: tuple[TrustedHost, ...]) -> Iterator[tuple[str, SshPublicKey]]:
    for host in hosts:
        try:
            key = sshkey.parse(host.key)
        except UntrustedInput:
            continue  # lint refuses such a key; a policy that carries one trusts nobody by it
        yield key.fingerprint, key


def _misaddressed(statement: HostStatement, audience: Audience) -> _Refused | None:
    if statement.aud.vm != audience.vm:
        return _Refused("statement.other-vm", f"made for {statement.aud.vm}, this is {audience.vm}")
    if statement.aud.generation != audience.generation:
        return _Refused(
            "statement.other-generation",
            f"made for generation {statement.aud.generation}, this is {audience.generation}",
        )
    if statement.exp <= statement.iat:
        return _Refused("statement.expired", "it was over when it was issued")
    if statement.iat >= NEVER_BEFORE:
        return _Refused("statement.not-yet-valid", "its stamp lies beyond the year 2099")
    return None


def _unbound(statement: HostStatement, nonces: frozenset[str]) -> _Refused | None:
    if statement.nonce not in nonces:
        return _Refused("statement.replayed", "its nonce is not one that is being waited for")
    if statement.exp - statement.iat > FRESH_SECONDS:
        return _Refused(
            "statement.too-long",
            f"bound to a nonce and good for {statement.exp - statement.iat} s, at most {FRESH_SECONDS} s",
        )
    return None


def _untimely(statement: HostStatement, utc_ms: int | None, *, challenged: bool) -> _Refused | None:
    if challenged:
        return _Refused("statement.no-nonce", "asked with a nonce, answered without")
    if utc_ms is None:
        return _Refused("statement.time-unknown", "no trusted time to judge its period by")
    if statement.iat * 1000 > utc_ms + AHEAD_SECONDS * 1000:
        return _Refused("statement.not-yet-valid", f"begins {statement.iat - utc_ms // 1000} s from now")
    if statement.exp * 1000 <= utc_ms:
        return _Refused("statement.expired", f"ended {instant.text(statement.exp * 1000)}")
    return None


def _refuse(wrong: _Refused, source: str, boot_frozen: bool, now: Moment, *, signer: str) -> Admitted:
    piece = claim.unavailable(
        source, Subject.STATEMENT, wrong.reason, now, finding=wrong.finding, boot_frozen=boot_frozen
    )
    return Admitted(evidence=(msgspec.structs.replace(piece, signer=signer),))


def _evidence(
    statement: HostStatement, source: str, boot_frozen: bool, now: Moment, signer: str, judged_at_ms: int
) -> Iterator[Evidence]:
    def piece(subject: Subject, value: Value, until_s: int) -> Evidence:
        return Evidence(
            id=f"{source}/{subject}",
            subject=subject,
            source=source,
            value=value,
            proof=Proof.SIGNED if statement.nonce is None else Proof.FRESH,
            signer=signer,
            issued_at_ms=statement.iat * 1000,
            observed_at_ms=now.utc_ms,
            observed_boot_ms=now.boot_ms,
            valid_until_ms=until_s * 1000,
            boot_frozen=boot_frozen,
        )

    for subject, field in _FIELDS:
        value = getattr(statement, field)
        if value is not None:
            yield piece(subject, value, statement.exp)
    current = [label for label in statement.compliance if label.until * 1000 > judged_at_ms]
    if current:
        names = tuple(sorted({label.name for label in current}))
        yield piece(Subject.COMPLIANCE, names, min(statement.exp, *(label.until for label in current)))
    for n, label in enumerate((label for label in statement.compliance if label not in current), 1):
        lapsed = claim.unavailable(
            source,
            Subject.COMPLIANCE,
            f"the label {label.name} has lapsed",
            now,
            finding="statement.label-expired",
            boot_frozen=boot_frozen,
        )
        yield msgspec.structs.replace(lapsed, id=f"{lapsed.id}/{n}", signer=signer)
