# SPDX-License-Identifier: Apache-2.0
"""rules.checkpoint: signed notes that others can read, and notes of others that we can."""

import base64
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from vmwarden.errors import BadSignature, Malformed, TooLarge, UntrustedInput, WrongAudience
from vmwarden.rules import checkpoint

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
OTHER = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
NAME = checkpoint.origin("web-1")
ROOT = sha256(b"root").digest()
NOTE = checkpoint.sign(NAME, size=7, root=ROOT, key=KEY).note


def open_note(note: str, verifier_key: str) -> str:
    """A note verifier as Go's sumdb/note does it, written from its documentation: the text, or an error."""
    name, key_hash, encoded = verifier_key.split("+", 2)
    raw = base64.b64decode(encoded)
    assert raw[0] == 1
    assert sha256(name.encode() + b"\n" + raw).digest()[:4] == bytes.fromhex(key_hash)
    at = note.rindex("\n\n")
    text, signatures = note[: at + 1], note[at + 2 :]
    for line in signatures.splitlines():
        assert line.startswith("\u2014 ")
        signer, encoded = line[2:].split(" ")
        signature = base64.b64decode(encoded)
        if signer == name and signature[:4].hex() == key_hash:
            Ed25519PublicKey.from_public_bytes(raw[1:]).verify(signature[4:], text.encode())
            return text
    raise AssertionError("not signed")


def test_standard_verifiers_accept_it() -> None:
    text = open_note(NOTE, checkpoint.verifier_key(NAME, KEY.public_key()))
    assert text == f"vmwarden/web-1/journal\n7\n{base64.b64encode(ROOT).decode()}\n"


def test_the_example_of_the_signed_note_reference_has_the_right_key_id() -> None:
    # golang.org/x/mod/sumdb/note, package documentation
    published = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    key = checkpoint.key_of(published)
    assert checkpoint.verifier_key("PeterNeumann", key) == published


def test_a_published_note_is_verified() -> None:
    # the same documentation: a text of three lines happens to be no checkpoint, and is refused as such
    key = checkpoint.key_of("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    note = (
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n\n"
        "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngo"
        "tpRZb6KE6RyyBwJnAM=\n"
    )
    assert open_note(note, checkpoint.verifier_key("PeterNeumann", key)).startswith("If you")
    with pytest.raises(Malformed):
        checkpoint.verify(note, key=key, name="PeterNeumann")


def test_round_trip() -> None:
    read = checkpoint.verify(NOTE, key=KEY.public_key(), name=NAME)
    assert (read.size, read.root, read.note) == (7, ROOT.hex(), NOTE)
    assert checkpoint.verify_stored(NOTE, key=KEY.public_key(), name=NAME) == read
    assert (checkpoint.size_of(NOTE), checkpoint.root_of(NOTE)) == (7, ROOT.hex())


def test_witnesses_and_extensions_are_let_be_outside_and_refused_in_store() -> None:
    witness = base64.b64encode(b"\0\1\2\3" + b"x" * 72).decode()
    seen = NOTE + f"\u2014 witness.example/w1 {witness}\n"
    assert checkpoint.verify(seen, key=KEY.public_key(), name=NAME).size == 7
    # same name, other key id: not ours to judge
    assert checkpoint.verify(NOTE + f"\u2014 {NAME} {witness}\n", key=KEY.public_key(), name=NAME).size == 7
    for _ in range(15):
        seen += f"\u2014 witness.example/w1 {base64.b64encode(bytes(5000)).decode()}\n"
    assert checkpoint.verify(seen, key=KEY.public_key(), name=NAME).size == 7
    with pytest.raises(Malformed):
        checkpoint.verify_stored(seen, key=KEY.public_key(), name=NAME)
    text = NOTE.partition("\n\n")[0] + "\nextension\n"
    signature = NOTE.rstrip("\n").rpartition(" ")[2]
    raw = base64.b64decode(signature)[:4] + KEY.sign(text.encode())
    extended = f"{text}\n\u2014 {NAME} {base64.b64encode(raw).decode()}\n"
    assert checkpoint.verify(extended, key=KEY.public_key(), name=NAME).size == 7
    with pytest.raises(Malformed):
        checkpoint.verify_stored(extended, key=KEY.public_key(), name=NAME)


def test_who_did_not_sign_it() -> None:
    with pytest.raises(BadSignature):
        checkpoint.verify(NOTE, key=OTHER.public_key(), name=NAME)
    with pytest.raises(WrongAudience):
        checkpoint.verify(NOTE, key=KEY.public_key(), name=checkpoint.origin("web-2"))
    with pytest.raises(BadSignature):
        checkpoint.verify(NOTE.replace("\n7\n", "\n8\n"), key=KEY.public_key(), name=NAME)
    with pytest.raises(TooLarge):
        checkpoint.verify(NOTE + "x" * checkpoint.NOTE_BYTES, key=KEY.public_key(), name=NAME)


def test_no_byte_of_a_note_may_change() -> None:
    raw = NOTE.encode()
    for at in range(len(raw)):
        for bit in range(8):
            bent = raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :]
            with pytest.raises((UntrustedInput, UnicodeDecodeError)):
                checkpoint.verify_stored(bent.decode(), key=KEY.public_key(), name=NAME)


@given(st.text(max_size=300) | st.text("vmwarden/1-\n+=A \u2014", max_size=120))
def test_any_text_is_read_or_refused(text: str) -> None:
    for call in (checkpoint.size_of, checkpoint.root_of, checkpoint.key_of, checkpoint.vm_of):
        try:
            call(text)
        except UntrustedInput:
            pass
    assert not checkpoint.is_signed(text, key=KEY.public_key(), name=NAME)


@pytest.mark.parametrize("size", ["07", "-1", "+7", "", " 7", "7 ", "\u0667", "1" * 17])
def test_sizes_have_one_form(size: str) -> None:
    with pytest.raises(Malformed):
        checkpoint.size_of(NOTE.replace("\n7\n", f"\n{size}\n"))


def test_origins() -> None:
    assert checkpoint.vm_of(NAME) == "web-1"
    assert checkpoint.vm_of(checkpoint.origin("web-1", "0123456789abcdef")) == "web-1"
    for bad in ("vmwarden/WEB/journal", "vmwarden/web-1", "vmwarden/web-1/journal/x", "web-1", NAME + "\n"):
        with pytest.raises(Malformed):
            checkpoint.vm_of(bad)


def test_keys() -> None:
    line = checkpoint.key_line(KEY.public_key())
    assert line.startswith("ssh-ed25519 AAAA")
    for text in (line, line + " root@vm\n", checkpoint.verifier_key(NAME, KEY.public_key())):
        assert checkpoint.key_line(checkpoint.key_of(text)) == line
    ecdsa = (
        generate_private_key(SECP256R1()).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    )
    wrong_id = checkpoint.verifier_key(NAME, KEY.public_key()).replace("+", "+0", 1)
    for bad in (ecdsa.decode(), "", "ssh-ed25519", "ssh-ed25519 AAAA", "a+b+c", wrong_id, line[:-3]):
        with pytest.raises(Malformed):
            checkpoint.key_of(bad)
