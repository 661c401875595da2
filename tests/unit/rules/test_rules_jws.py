# SPDX-License-Identifier: Apache-2.0
import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vmwarden.errors import BadSignature, Malformed, TooLarge
from vmwarden.rules import jws, sshkey

KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)
TRUSTED = {jws.public_key(KEY).fingerprint: jws.public_key(KEY)}
TYP = "test+jwt"


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def made(header: bytes, payload: bytes = b"{}", key: Ed25519PrivateKey = KEY) -> str:
    signed = f"{encode(header)}.{encode(payload)}"
    return f"{signed}.{encode(key.sign(signed.encode()))}"


def header(alg: str = "Ed25519", typ: str = TYP, kid: str = "") -> bytes:
    kid = kid or jws.public_key(KEY).fingerprint
    return f'{{"alg":"{alg}","kid":"{kid}","typ":"{typ}"}}'.encode()


def test_what_was_signed_comes_back_with_its_key() -> None:
    token = jws.sign(b'{"a":1}', KEY, TYP)
    payload, key = jws.verify(token, TRUSTED, TYP, 8192)
    assert payload == b'{"a":1}'
    assert key == jws.public_key(KEY)
    assert jws.signer(token, TYP, 8192) == key.fingerprint
    assert token == made(header(), b'{"a":1}')


@pytest.mark.parametrize("alg", ["none", "HS256", "EdDSA", "ed25519", ""])
def test_no_other_algorithm_is_even_tried(alg: str) -> None:
    with pytest.raises(Malformed):
        jws.verify(made(header(alg=alg)), TRUSTED, TYP, 8192)


@pytest.mark.parametrize(
    "head",
    [
        b'{"kid":"x","alg":"Ed25519","typ":"test+jwt"}',  # other order
        b'{"alg":"Ed25519","kid":"x","typ":"test+jwt","x":1}',
        b'{"alg":"Ed25519","alg":"Ed25519","kid":"x","typ":"test+jwt"}',
        b'{"alg":"Ed25519", "kid":"x","typ":"test+jwt"}',
        b'{"alg":"Ed25519","kid":"x"}',
        b'{"alg":"Ed25519","jwk":{},"kid":"x","typ":"test+jwt"}',
        b'{"alg":"Ed25519","crit":["b64"],"kid":"x","typ":"test+jwt"}',
        b"[]",
        b"\xff",
        b"{" * 200,
    ],
)
def test_a_header_in_any_other_form_is_refused(head: bytes) -> None:
    with pytest.raises(Malformed):
        jws.verify(made(head), TRUSTED, TYP, 8192)


def test_a_token_of_another_type_is_refused() -> None:
    with pytest.raises(Malformed, match="type"):
        jws.verify(jws.sign(b"{}", KEY, "other+jwt"), TRUSTED, TYP, 8192)


def test_an_unknown_key_and_a_borrowed_name_are_refused() -> None:
    with pytest.raises(BadSignature, match="not trusted"):
        jws.verify(jws.sign(b"{}", OTHER, TYP), TRUSTED, TYP, 8192)
    with pytest.raises(BadSignature, match="does not fit"):
        jws.verify(made(header(), key=OTHER), TRUSTED, TYP, 8192)


def test_a_trusted_key_of_another_kind_verifies_nothing() -> None:
    ecdsa = sshkey.from_public_key(ec.generate_private_key(ec.SECP256R1()).public_key())
    with pytest.raises(BadSignature, match="ecdsa"):
        jws.verify(made(header(kid=ecdsa.fingerprint)), {ecdsa.fingerprint: ecdsa}, TYP, 8192)


def test_the_bound_is_on_the_whole_token() -> None:
    token = jws.sign(b"{}", KEY, TYP)
    jws.verify(token, TRUSTED, TYP, len(token))
    with pytest.raises(TooLarge):
        jws.verify(token, TRUSTED, TYP, len(token) - 1)


@pytest.mark.parametrize(
    "change", [lambda t: t + "=", lambda t: t + ".", lambda t: t + "\n", lambda t: " " + t]
)
def test_one_token_has_one_spelling(change) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises((Malformed, BadSignature)):
        jws.verify(change(jws.sign(b"{}", KEY, TYP)), TRUSTED, TYP, 8192)


def test_stray_bits_at_the_end_of_base64_are_refused() -> None:
    token = jws.sign(b"{}", KEY, TYP)  # a signature of 64 bytes leaves four unused bits in its last character
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    stray = alphabet[alphabet.index(token[-1]) + 1]
    with pytest.raises(Malformed, match="stray"):
        jws.verify(token[:-1] + stray, TRUSTED, TYP, 8192)
