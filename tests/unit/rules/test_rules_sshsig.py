# SPDX-License-Identifier: Apache-2.0
"""rules.sshsig: what is signed verifies, and nothing else does.  With ssh-keygen: tests/integration."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from vmwarden.errors import BadSignature, Malformed
from vmwarden.rules import sshkey, sshsig
from vmwarden.rules.sshwire import mpint, string

SPACE = "policy@vmwarden"
ED25519 = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
RSA = rsa.generate_private_key(65537, 2048)
KEYS: list[sshsig.PrivateKey] = [
    ED25519,
    RSA,
    ec.generate_private_key(ec.SECP256R1()),
    ec.generate_private_key(ec.SECP384R1()),
    ec.generate_private_key(ec.SECP521R1()),
]


def _armor(blob: bytes) -> str:
    text = base64.b64encode(blob).decode()
    lines = [text[at : at + 70] for at in range(0, len(text), 70)]
    return "\n".join([sshsig.BEGIN, *lines, sshsig.END, ""])


def _blob(
    *,
    key: bytes = sshkey.from_public_key(ED25519.public_key()).blob,
    magic: bytes = b"SSHSIG",
    version: int = 1,
    space: bytes = SPACE.encode(),
    reserved: bytes = b"",
    hash_name: bytes = b"sha512",
    signature: bytes | None = None,
    more: bytes = b"",
    message: bytes = b"hello",
) -> bytes:
    """A signature of ED25519 that is right but for what a test changes."""
    digest = hashlib.new("sha256" if hash_name == b"sha256" else "sha512", message).digest()
    data = b"SSHSIG" + string(space) + string(reserved) + string(hash_name) + string(digest)
    if signature is None:
        signature = string(b"ssh-ed25519") + string(ED25519.sign(data))
    return (
        magic
        + version.to_bytes(4, "big")
        + string(key)
        + string(space)
        + string(reserved)
        + string(hash_name)
        + string(signature)
        + more
    )


@pytest.mark.parametrize("key", KEYS, ids=lambda key: type(key).__name__)
def test_a_signature_verifies_and_names_its_key(key: sshsig.PrivateKey) -> None:
    signature = sshsig.sign(key, b"hello", SPACE)
    assert sshsig.verify(signature, b"hello", SPACE) == sshkey.from_public_key(key.public_key())
    with pytest.raises(BadSignature):
        sshsig.verify(signature, b"hellp", SPACE)
    with pytest.raises(BadSignature, match="made for namespace"):
        sshsig.verify(signature, b"hello", "owners@vmwarden")


def test_the_namespace_is_under_the_signature_not_only_beside_it() -> None:
    forged = _blob().replace(string(SPACE.encode()), string(b"owners@vmwarden"))
    with pytest.raises(BadSignature, match="did not sign this"):
        sshsig.verify(_armor(forged), b"hello", "owners@vmwarden")


def test_sha256_and_a_reserved_field_are_taken() -> None:
    assert sshsig.verify(_armor(_blob(hash_name=b"sha256", reserved=b"tag")), b"hello", SPACE)


@pytest.mark.parametrize(
    ("blob", "why"),
    [
        (_blob(magic=b"SSHSIH"), "begin with SSHSIG"),
        (_blob(version=2), "version 1"),
        (_blob(hash_name=b"sha1"), "sha1"),
        (_blob(hash_name=b"md5"), "md5"),
        (_blob(more=b"x"), "1 bytes too many"),
        (_blob(signature=string(b"ssh-rsa") + string(bytes(64))), "ssh-rsa"),
        (_blob(signature=string(b"ssh-ed25519") + string(bytes(64)) + b"x"), "too many"),
        (_blob(signature=b""), "cut off"),
        (_blob()[:-1], "cut off"),
        (_blob(key=b""), "cut off"),
        (b"", "END line|empty"),
    ],
)
def test_broken_blobs_are_malformed(blob: bytes, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        sshsig.verify(_armor(blob), b"hello", SPACE)


_GOOD = _armor(_blob())


@pytest.mark.parametrize(
    "armored",
    [
        "",
        "\n",
        " " + _GOOD,
        _GOOD + "\n",
        _GOOD.replace("\n", "\r\n"),
        _GOOD.replace("\n", "\n\n", 1),
        _GOOD.removesuffix(sshsig.END + "\n"),
        _GOOD.replace("SSH SIGNATURE", "PGP SIGNATURE"),
        sshsig.BEGIN + "\n" + "".join(_GOOD.split("\n")[1:-2]) + "\n" + sshsig.END,
        _GOOD.replace("A", "\u0410", 1),
        _GOOD.replace("A", "\ud800", 1),
        "A" * 8193,
    ],
)
def test_armor_is_strict(armored: str) -> None:
    with pytest.raises(Malformed):
        sshsig.verify(armored, b"hello", SPACE)


def test_a_final_line_feed_may_be_missing() -> None:
    assert sshsig.verify(_GOOD.removesuffix("\n"), b"hello", SPACE)


@pytest.mark.parametrize(
    ("algorithm", "digest", "good"),
    [(b"rsa-sha2-256", SHA256(), True), (b"ssh-rsa", SHA1(), False), (b"rsa-sha2-512", SHA256(), False)],
)
def test_rsa_signs_with_sha2_only(algorithm: bytes, digest: HashAlgorithm, good: bool) -> None:
    data = b"SSHSIG" + string(SPACE.encode()) + string(b"") + string(b"sha512")
    data += string(hashlib.sha512(b"hello").digest())
    key = sshkey.from_public_key(RSA.public_key())
    signature = string(algorithm) + string(RSA.sign(data, PKCS1v15(), digest))
    armored = _armor(_blob(key=key.blob, signature=signature))
    if good:
        assert sshsig.verify(armored, b"hello", SPACE) == key
    else:
        with pytest.raises((Malformed, BadSignature)):
            sshsig.verify(armored, b"hello", SPACE)


def test_an_ecdsa_pair_is_in_its_shortest_form() -> None:
    private = KEYS[2]
    key = sshkey.from_public_key(private.public_key())
    signature = string(key.kind.encode()) + string(string(b"\x00" + mpint(5)) + string(mpint(7)))
    with pytest.raises(Malformed, match="shortest"):
        sshsig.verify(_armor(_blob(key=key.blob, signature=signature)), b"hello", SPACE)


def _security_key(flags: int, *, application: bytes = b"ssh:", counter: int = 7) -> str:
    """What a FIDO token would answer (OpenSSH PROTOCOL.u2f), made in software."""
    raw = ED25519.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    kind = sshkey.SK_ED25519.encode()
    blob = string(kind) + string(raw) + string(b"ssh:")
    data = b"SSHSIG" + string(SPACE.encode()) + string(b"") + string(b"sha512")
    data += string(hashlib.sha512(b"hello").digest())
    tail = bytes([flags]) + counter.to_bytes(4, "big")
    token = hashlib.sha256(application).digest() + tail + hashlib.sha256(data).digest()
    return _armor(_blob(key=blob, signature=string(kind) + string(ED25519.sign(token)) + tail))


def test_a_security_key_counts_when_it_was_touched() -> None:
    assert sshsig.verify(_security_key(0x01), b"hello", SPACE).kind == sshkey.SK_ED25519
    assert sshsig.verify(_security_key(0x05), b"hello", SPACE).kind == sshkey.SK_ED25519
    with pytest.raises(BadSignature, match="touched"):
        sshsig.verify(_security_key(0x00), b"hello", SPACE)
    with pytest.raises(BadSignature, match="did not sign"):
        sshsig.verify(_security_key(0x01, application=b"other"), b"hello", SPACE)


def test_a_key_on_a_foreign_curve_does_not_sign() -> None:
    with pytest.raises(Malformed, match="secp256k1"):
        sshsig.sign(ec.generate_private_key(ec.SECP256K1()), b"hello", SPACE)
