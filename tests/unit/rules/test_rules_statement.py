# SPDX-License-Identifier: Apache-2.0
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vmwarden.errors import TooLarge
from vmwarden.model.evidence import Proof, Subject
from vmwarden.model.moment import Moment
from vmwarden.model.policy import TrustedHost
from vmwarden.model.statement import STATEMENT_BYTES, STATEMENT_TYPE, Audience, HostStatement, Label
from vmwarden.rules import canonical, jws, statement
from vmwarden.rules.statement import Admitted

KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)
HOSTS = (TrustedHost(name="rack-7", key=jws.public_key(KEY).line),)
ME = Audience(vm="web-1", generation=1)
NONCE = "n" * 32
T = 1_795_435_200  # 2026-11-23T12:00:00Z
NOW = Moment(boot_ms=60_000, utc_ms=T * 1000, boot_id="boot-1")

STATIC = HostStatement(
    aud=ME,
    iat=T - 10,
    exp=T + 86_400,
    host_id="h-1",
    country="DE",
    postal_code="60311",
    time_zone="Europe/Berlin",
    compliance=(Label(name="iso27001", until=T + 100), Label(name="c5", until=T + 200_000)),
)
FRESH = msgspec.structs.replace(STATIC, exp=T + 50, nonce=NONCE)


def admit(token: str, **other: Any) -> Admitted:
    arguments: dict[str, Any] = {
        "source": "fw_cfg",
        "boot_frozen": True,
        "hosts": HOSTS,
        "audience": ME,
        "nonces": frozenset(),
        "now": NOW,
        "utc_ms": T * 1000,
    }
    return statement.admit(token, **(arguments | other))


def live(token: str, **other: Any) -> Admitted:
    arguments: dict[str, Any] = {
        "source": "virtio-serial",
        "boot_frozen": False,
        "nonces": frozenset({NONCE, "m" * 32}),
        "utc_ms": None,
    }
    return admit(token, **(arguments | other))


def signed(noun: HostStatement = STATIC, key: Ed25519PrivateKey = KEY, **changes: Any) -> str:
    return statement.issue(msgspec.structs.replace(noun, **changes), key)


def refusal(admitted: Admitted) -> str:
    (piece,) = admitted.evidence
    assert piece.subject is Subject.STATEMENT
    assert piece.value is None
    assert piece.unavailable
    assert admitted.nonce is None
    assert admitted.stamped_utc_ms is None
    assert piece.finding in statement.FINDINGS
    return piece.finding


def test_a_static_statement_is_signed_evidence_of_each_field() -> None:
    admitted = admit(signed())
    found = {piece.subject: piece for piece in admitted.evidence}
    assert found[Subject.COUNTRY].value == "DE"
    assert found[Subject.POSTAL_CODE].value == "60311"
    assert found[Subject.TIME_ZONE].value == "Europe/Berlin"
    assert found[Subject.HOST_ID].value == "h-1"
    assert found[Subject.COMPLIANCE].value == ("c5", "iso27001")
    assert Subject.CITY not in found
    assert len({piece.id for piece in admitted.evidence}) == len(admitted.evidence)
    country = found[Subject.COUNTRY]
    assert country.proof is Proof.SIGNED
    assert country.signer == jws.public_key(KEY).fingerprint
    assert (country.issued_at_ms, country.valid_until_ms) == ((T - 10) * 1000, (T + 86_400) * 1000)
    assert (country.observed_at_ms, country.observed_boot_ms, country.boot_frozen) == (T * 1000, 60_000, True)
    assert (admitted.nonce, admitted.stamped_utc_ms) == (None, None)


def test_compliance_ends_with_the_first_label_that_lapses() -> None:
    found = {piece.subject: piece for piece in admit(signed()).evidence}
    assert found[Subject.COMPLIANCE].valid_until_ms == (T + 100) * 1000
    assert found[Subject.COUNTRY].valid_until_ms == (T + 86_400) * 1000


def test_a_lapsed_label_is_left_out_and_told() -> None:
    lapsed = (Label(name="iso27001", until=T), Label(name="c5", until=T + 5), Label(name="old", until=1))
    pieces = [p for p in admit(signed(compliance=lapsed)).evidence if p.subject is Subject.COMPLIANCE]
    assert [(p.value, p.finding) for p in pieces] == [
        (("c5",), ""),
        (None, "statement.label-expired"),
        (None, "statement.label-expired"),
    ]
    assert len({p.id for p in pieces}) == 3
    assert "iso27001" in pieces[1].unavailable


def test_a_nonce_makes_it_fresh_without_any_trusted_time() -> None:
    admitted = live(signed(FRESH))
    assert {piece.proof for piece in admitted.evidence} == {Proof.FRESH}
    assert admitted.nonce == NONCE
    assert admitted.stamped_utc_ms == (T - 10) * 1000


def test_labels_of_a_fresh_statement_are_judged_by_its_own_clock() -> None:
    labels = (Label(name="c5", until=T - 10),)
    pieces = [p for p in live(signed(FRESH, compliance=labels)).evidence if p.subject is Subject.COMPLIANCE]
    assert [p.finding for p in pieces] == ["statement.label-expired"]


def test_a_fresh_statement_from_a_host_whose_clock_is_in_1970_is_still_fresh() -> None:
    assert live(signed(FRESH, iat=100, exp=150)).stamped_utc_ms == 100_000


@pytest.mark.parametrize(
    ("token", "finding"),
    [
        ("", "statement.garbled"),
        ("a.b.c", "statement.garbled"),
        ("é" * 40, "statement.garbled"),
        ("x" * (STATEMENT_BYTES + 1), "statement.too-large"),
        (signed(key=OTHER), "statement.unknown-key"),
        (signed()[:-4] + "AAAA", "statement.bad-signature"),
        (jws.sign(b'{"aud":1}', KEY, STATEMENT_TYPE), "statement.garbled"),
        (jws.sign(canonical.encode(STATIC) + b" ", KEY, STATEMENT_TYPE), "statement.garbled"),
        (jws.sign(canonical.encode(STATIC), KEY, "policy+jwt"), "statement.garbled"),
        (signed(aud=Audience(vm="web-2", generation=1)), "statement.other-vm"),
        (signed(aud=Audience(vm="web-1", generation=2)), "statement.other-generation"),
        (signed(exp=T - 10), "statement.expired"),
        (signed(iat=T - 100, exp=T), "statement.expired"),
        (signed(iat=T + 61), "statement.not-yet-valid"),
        (signed(nonce=NONCE), "statement.replayed"),
        (signed(host_name="rack\x1b[2J"), "statement.garbled"),
        (signed(compliance=(Label(name="a\nb", until=T + 5),)), "statement.garbled"),
    ],
)
def test_what_is_wrong_with_a_static_statement(token: str, finding: str) -> None:
    assert refusal(admit(token)) == finding


def test_the_edges_of_a_static_period() -> None:
    assert admit(signed(iat=T + 60)).evidence[0].value == "h-1"
    assert admit(signed(exp=T + 1)).evidence[0].value == "h-1"


def test_without_trusted_time_a_static_statement_is_not_believed() -> None:
    assert refusal(admit(signed(), utc_ms=None)) == "statement.time-unknown"


@pytest.mark.parametrize(
    ("token", "finding"),
    [
        (signed(), "statement.no-nonce"),
        (signed(FRESH, nonce="o" * 32), "statement.replayed"),
        (signed(FRESH, iat=T, exp=T + 301), "statement.too-long"),
        (signed(FRESH, iat=T, exp=T), "statement.expired"),
        (signed(FRESH, aud=Audience(vm="web-2", generation=1)), "statement.other-vm"),
        (signed(FRESH, key=OTHER), "statement.unknown-key"),
    ],
)
def test_what_is_wrong_with_an_answer_to_a_challenge(token: str, finding: str) -> None:
    assert refusal(live(token)) == finding


def test_five_minutes_are_the_longest_fresh_period() -> None:
    assert live(signed(FRESH, iat=T, exp=T + 300)).nonce == NONCE


def test_a_nonce_is_good_for_one_statement() -> None:
    token = signed(FRESH)
    used = live(token).nonce
    assert refusal(live(token, nonces=frozenset({NONCE}) - {used})) == "statement.replayed"


def test_who_signed_a_refused_statement_is_told_once_the_signature_fits() -> None:
    assert admit(signed(exp=T - 10)).evidence[0].signer == jws.public_key(KEY).fingerprint
    assert admit(signed(key=OTHER)).evidence[0].signer == ""


def test_an_unusable_key_in_the_policy_trusts_nobody_and_breaks_nothing() -> None:
    broken = TrustedHost(name="x", key="ssh-ed25519 AAAA")
    assert refusal(admit(signed(), hosts=(broken,))) == "statement.unknown-key"
    assert admit(signed(), hosts=(broken, *HOSTS)).evidence[0].value == "h-1"


def test_a_statement_nobody_would_read_is_not_issued() -> None:
    labels = tuple(Label(name=f"{n:0200}", until=T) for n in range(32))
    with pytest.raises(TooLarge):
        signed(compliance=labels)
