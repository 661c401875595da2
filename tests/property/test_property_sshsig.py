# SPDX-License-Identifier: Apache-2.0
"""rules.sshsig and rules.sshkey: total on anything, and no changed byte is ever accepted."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from vmwarden.errors import BadSignature, Malformed
from vmwarden.rules import sshkey, sshsig
from vmwarden.rules.sshwire import mpint, string

SPACE = "policy@vmwarden"
KEYS: dict[str, sshsig.PrivateKey] = {
    "ed25519": Ed25519PrivateKey.from_private_bytes(b"k" * 32),
    "p256": ec.derive_private_key(12345, ec.SECP256R1()),
    "p384": ec.derive_private_key(12345, ec.SECP384R1()),
    "p521": ec.derive_private_key(12345, ec.SECP521R1()),
    "rsa": rsa.generate_private_key(65537, 2048),
}
MESSAGE = b'{"name":"payments"}'
SIGNED = {name: sshsig.sign(key, MESSAGE, SPACE) for name, key in KEYS.items()}
names = st.sampled_from(sorted(KEYS))
kinds = st.sampled_from([sshkey.ED25519, sshkey.SK_ED25519, sshkey.RSA, *sshkey.CURVES, "ssh-dss", ""])


def _blob(armored: str) -> bytes:
    return base64.b64decode("".join(armored.split("\n")[1:-2]))


def _armored(blob: bytes) -> str:
    text = base64.b64encode(blob).decode()
    return "\n".join([sshsig.BEGIN, *(text[at : at + 70] for at in range(0, len(text), 70)), sshsig.END, ""])


def _refused(armored: str, message: bytes = MESSAGE, space: str = SPACE) -> None:
    with pytest.raises((Malformed, BadSignature)):
        sshsig.verify(armored, message, space)


@settings(max_examples=60, deadline=None)
@given(names, st.binary(max_size=300), st.from_regex(r"[ -~]{0,40}", fullmatch=True))
def test_what_is_signed_verifies(name: str, message: bytes, space: str) -> None:
    key = sshsig.verify(sshsig.sign(KEYS[name], message, space), message, space)
    assert key == sshkey.from_public_key(KEYS[name].public_key())


@settings(max_examples=150, deadline=None)
@given(names, st.data())
def test_any_changed_byte_of_a_signature_is_refused(name: str, data: st.DataObject) -> None:
    blob = bytearray(_blob(SIGNED[name]))
    at = data.draw(st.integers(0, len(blob) - 1))
    blob[at] ^= data.draw(st.integers(1, 255))
    _refused(_armored(bytes(blob)))


@settings(max_examples=100, deadline=None)
@given(names, st.data())
def test_any_changed_character_of_the_armor_is_refused(name: str, data: st.DataObject) -> None:
    armored = SIGNED[name]
    at = data.draw(st.integers(0, len(armored) - 1))
    other = data.draw(st.characters().filter(lambda character: character != armored[at]))
    _refused(armored[:at] + other + armored[at + 1 :])


@settings(max_examples=100, deadline=None)
@given(names, st.data())
def test_any_cut_of_a_signature_is_refused(name: str, data: st.DataObject) -> None:
    blob = _blob(SIGNED[name])
    _refused(_armored(blob[: data.draw(st.integers(0, len(blob) - 1))]))
    _refused(_armored(blob + data.draw(st.binary(min_size=1, max_size=20))))


@settings(max_examples=60, deadline=None)
@given(names, st.data())
def test_any_changed_byte_of_the_message_is_refused(name: str, data: st.DataObject) -> None:
    message = bytearray(MESSAGE)
    message[data.draw(st.integers(0, len(message) - 1))] ^= data.draw(st.integers(1, 255))
    _refused(SIGNED[name], bytes(message))


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(max_size=400), st.binary(max_size=300).map(_armored)))
def test_verify_is_total(armored: str) -> None:
    _refused(armored)


@settings(max_examples=200, deadline=None)
@given(kinds, st.lists(st.one_of(st.binary(max_size=80), st.integers(0, 2**2100).map(mpint)), max_size=4))
def test_key_parser_is_total_on_blobs_of_the_right_shape(kind: str, parts: list[bytes]) -> None:
    blob = b"".join(string(part) for part in [kind.encode(), *parts])
    try:
        key = sshkey.from_blob(blob)
    except Malformed:
        return
    assert sshkey.parse(key.line) == key
    assert sshkey.public_key(key)


@settings(max_examples=200, deadline=None)
@given(
    names,
    st.lists(st.binary(max_size=150), max_size=3),
    st.sampled_from(
        ["ssh-ed25519", "ssh-rsa", "rsa-sha2-256", "rsa-sha2-512", *sshkey.CURVES, sshkey.SK_ED25519]
    ),
    st.sampled_from([b"sha256", b"sha512", b"sha1"]),
)
def test_verify_is_total_on_signatures_of_the_right_shape(
    name: str, parts: list[bytes], algorithm: str, hash_name: bytes
) -> None:
    key = sshkey.from_public_key(KEYS[name].public_key())
    inner = string(algorithm.encode()) + string(b"".join(string(part) for part in parts))
    body = b"".join(string(part) for part in [key.blob, SPACE.encode(), b"", hash_name, inner])
    _refused(_armored(b"SSHSIG" + (1).to_bytes(4, "big") + body))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=120))
def test_key_line_parser_is_total(line: str) -> None:
    try:
        sshkey.parse(line)
    except Malformed:
        pass
