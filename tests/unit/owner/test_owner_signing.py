# SPDX-License-Identifier: Apache-2.0
"""owner.signing, owner.keys, owner.rotation."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from vmwarden.errors import BadSignature, Malformed, UsageError
from vmwarden.model.installed import PurgeOrder
from vmwarden.model.policy import Policy, Valid
from vmwarden.model.signed import OWNERS_NAMESPACE, POLICY_NAMESPACE, PURGE_NAMESPACE, SignedDocument
from vmwarden.owner import keys, rotation, signing
from vmwarden.rules import sshkey, sshsig, threshold
from vmwarden.rules.sshwire import string

ANNA = Ed25519PrivateKey.from_private_bytes(b"a" * 32)
BEN = Ed25519PrivateKey.from_private_bytes(b"b" * 32)
POLICY = Policy(
    format="vmwarden.policy/1",
    name="payments",
    version=7,
    vms=("payments-*",),
    valid=Valid(from_="2026-11-01T00:00Z", until="2027-11-01T00:00Z"),
    mode="observe",
)


def _line(key: Ed25519PrivateKey) -> str:
    return sshkey.from_public_key(key.public_key()).line


def _nobody() -> bytes:
    raise AssertionError("the passphrase of a key without one is not asked for")


def test_signatures_come_one_after_the_other() -> None:
    document = signing.sign(signing.sign(signing.document_of(POLICY), ANNA), BEN)
    assert [key.line for key in signing.keys_that_signed(document)] == [_line(ANNA), _line(BEN)]
    assert signing.noun_of(document) == POLICY


def test_signing_again_replaces() -> None:
    document = signing.sign(signing.sign(signing.document_of(POLICY), ANNA), ANNA)
    assert len(document.signatures) == 1


def test_what_is_signed_decides_the_namespace() -> None:
    owners = rotation.first([("anna", _line(ANNA))])
    order = PurgeOrder(vm="payments-1", generation=1, identity="SHA256:" + "A" * 43)
    assert signing.namespace_of(signing.document_of(POLICY)) == POLICY_NAMESPACE
    assert signing.namespace_of(signing.document_of(owners)) == OWNERS_NAMESPACE
    assert signing.namespace_of(signing.document_of(order)) == PURGE_NAMESPACE
    for payload in ("", "{}", "[]", "x" * 10):
        with pytest.raises(Malformed, match="nothing that people sign"):
            signing.namespace_of(SignedDocument(payload=payload))


def test_only_a_signature_of_this_very_document_is_attached() -> None:
    document = signing.document_of(POLICY)
    good = sshsig.sign(ANNA, threshold.signed_bytes(document), POLICY_NAMESPACE)
    assert signing.attach(document, good).signatures == (good,)
    for other in (
        sshsig.sign(ANNA, b"other", POLICY_NAMESPACE),
        sshsig.sign(ANNA, threshold.signed_bytes(document), OWNERS_NAMESPACE),
    ):
        with pytest.raises(BadSignature):
            signing.attach(document, other)
    with pytest.raises(Malformed):
        signing.attach(document, "rubbish")


def test_a_document_does_not_grow_beyond_what_is_looked_at() -> None:
    full = SignedDocument(
        payload=signing.document_of(POLICY).payload, signatures=("x",) * threshold.SIGNATURES
    )
    with pytest.raises(Malformed, match="64 signatures"):
        signing.sign(full, ANNA)


@pytest.mark.parametrize("form", [PrivateFormat.OpenSSH, PrivateFormat.PKCS8])
def test_private_keys_are_read_in_both_forms(form: PrivateFormat) -> None:
    data = ANNA.private_bytes(Encoding.PEM, form, NoEncryption())
    assert not keys.is_public(data)
    assert not keys.on_security_key(data)
    loaded = keys.load(data, _nobody)
    assert sshkey.from_public_key(loaded.public_key()).line == _line(ANNA)


def test_a_passphrase_is_asked_for_when_there_is_one() -> None:
    data = ANNA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    assert keys.load(data, lambda: b"secret")
    with pytest.raises(Malformed, match="private key"):
        keys.load(data, lambda: b"wrong")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"rubbish",
        b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        ec.generate_private_key(ec.SECP256K1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        ),
        dsa.generate_private_key(1024).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    ],
)
def test_what_is_no_key_of_ours_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        keys.load(data, _nobody)


def test_a_file_that_stands_for_a_security_key_is_known() -> None:
    public = string(sshkey.SK_ED25519.encode()) + string(b"x" * 32) + string(b"ssh:")
    head = b"openssh-key-v1\0" + string(b"none") + string(b"none") + string(b"")
    body = base64.b64encode(head + (1).to_bytes(4, "big") + string(public) + string(b""))
    data = b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + body + b"\n-----END OPENSSH PRIVATE KEY-----\n"
    assert keys.on_security_key(data)
    assert not keys.on_security_key(data.replace(b"BEGIN OPENSSH", b"BEGIN"))
    assert not keys.on_security_key(b"")


def test_a_public_key_is_known() -> None:
    assert keys.is_public(_line(ANNA).encode())


def test_owners_lose_the_comments_of_their_keys() -> None:
    owners = rotation.first([("anna", _line(ANNA) + " anna@her-laptop\n")])
    assert owners.version == 1
    assert owners.keys[0].key == _line(ANNA)


def test_a_successor_changes_what_is_said_and_nothing_else() -> None:
    owners = rotation.first([("anna", _line(ANNA)), ("ben", _line(BEN))], policy_threshold=2)
    after = rotation.successor(owners, owners_threshold=2)
    assert (after.version, after.keys) == (2, owners.keys)
    assert (after.policy_threshold, after.owners_threshold) == (2, 2)
    swapped = rotation.successor(
        rotation.first([("anna", _line(ANNA))]), remove=["anna"], add=[("anna", _line(BEN))]
    )
    assert [key.key for key in swapped.keys] == [_line(BEN)]


def test_successors_that_could_never_sign_or_change_nothing_are_refused() -> None:
    owners = rotation.first([("anna", _line(ANNA)), ("ben", _line(BEN))], policy_threshold=2)
    with pytest.raises(Malformed, match="2 signatures wanted of 1"):
        rotation.successor(owners, remove=["ben"])
    with pytest.raises(Malformed, match="nobody is left"):
        rotation.successor(owners, remove=["anna", "ben"])
    with pytest.raises(UsageError, match="eve"):
        rotation.successor(owners, remove=["eve"])
    with pytest.raises(UsageError, match="nothing to change"):
        rotation.successor(owners)
    with pytest.raises(Malformed):
        rotation.first([("anna", _line(ANNA)), ("ben", _line(ANNA))])
    with pytest.raises(Malformed):
        rotation.first([("Anna!", _line(ANNA))])
    with pytest.raises(Malformed):
        rotation.first([("anna", "no key")])
