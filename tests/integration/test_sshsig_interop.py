# SPDX-License-Identifier: Apache-2.0
"""SSHSIG with the real ssh-keygen, both ways; no root, no network."""

import base64
import hashlib
import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from vmwarden.errors import BadSignature, Malformed
from vmwarden.model.signed import SignedDocument
from vmwarden.owner import keys, signing
from vmwarden.rules import sshkey, sshsig
from vmwarden.rules.sshwire import string

SPACE = "policy@vmwarden"
MESSAGE = b'{"format":"vmwarden.policy/1"}\n'
KINDS = {
    "ed25519": ["-t", "ed25519"],
    "ecdsa-256": ["-t", "ecdsa", "-b", "256"],
    "ecdsa-384": ["-t", "ecdsa", "-b", "384"],
    "ecdsa-521": ["-t", "ecdsa", "-b", "521"],
    "rsa-2048": ["-t", "rsa", "-b", "2048"],
}
PAYLOAD = (
    '{"format":"vmwarden.policy/1","mode":"observe","name":"a","valid":{"from":"2026-11-01T00:00Z",'
    '"until":"2027-11-01T00:00Z"},"version":1,"vms":["*"]}'
)


def _ssh_keygen(*arguments: str, message: bytes = b"", check: bool = True) -> bytes:
    done = subprocess.run(
        ["ssh-keygen", *arguments], input=message, capture_output=True, timeout=30, check=False
    )
    assert not check or done.returncode == 0, done.stderr.decode()
    return done.stdout if done.returncode == 0 else b""


@pytest.fixture(scope="module", autouse=True)
def _available() -> None:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is not installed")


@pytest.fixture(scope="module", params=sorted(KINDS))
def key_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "key"
    _ssh_keygen("-q", *KINDS[request.param], "-N", "", "-C", "anna at her desk", "-f", str(path))
    return path


def _public(key_file: Path) -> sshkey.SshPublicKey:
    return sshkey.parse(key_file.with_suffix(".pub").read_text())


def _verified_by_ssh_keygen(tmp_path: Path, key: sshkey.SshPublicKey, armored: str, message: bytes) -> bool:
    (tmp_path / "allowed").write_text(f'anna namespaces="{SPACE}" {key.line}\n')
    (tmp_path / "sig").write_text(armored)
    trusted = _ssh_keygen(
        *("-Y", "verify", "-f", str(tmp_path / "allowed"), "-I", "anna"),
        *("-n", SPACE, "-s", str(tmp_path / "sig")),
        message=message,
        check=False,
    )
    sound = _ssh_keygen(
        *("-Y", "check-novalidate", "-n", SPACE, "-s", str(tmp_path / "sig")), message=message, check=False
    )
    assert bool(trusted) == bool(sound)
    return trusted.startswith(b"Good")


def test_fingerprints_are_the_same(key_file: Path) -> None:
    said = _ssh_keygen("-l", "-f", f"{key_file}.pub").decode()
    assert said.split()[1] == _public(key_file).fingerprint


@pytest.mark.parametrize("hash_name", ["sha512", "sha256"])
def test_what_ssh_keygen_signs_we_verify(key_file: Path, hash_name: str) -> None:
    armored = _ssh_keygen(
        *("-Y", "sign", "-f", str(key_file), "-n", SPACE, "-O", f"hashalg={hash_name}"), message=MESSAGE
    ).decode()
    assert sshsig.verify(armored, MESSAGE, SPACE) == _public(key_file)
    with pytest.raises(BadSignature):
        sshsig.verify(armored, MESSAGE + b"x", SPACE)
    with pytest.raises(BadSignature):
        sshsig.verify(armored, MESSAGE, "owners@vmwarden")


def test_what_we_sign_ssh_keygen_verifies(key_file: Path, tmp_path: Path) -> None:
    private = keys.load(key_file.read_bytes(), lambda: b"")
    armored = sshsig.sign(private, MESSAGE, SPACE)
    assert _verified_by_ssh_keygen(tmp_path, _public(key_file), armored, MESSAGE)
    assert not _verified_by_ssh_keygen(tmp_path, _public(key_file), armored, MESSAGE + b"x")


def test_a_signature_of_a_touched_security_key_is_verified(tmp_path: Path) -> None:
    """The token is made in software (OpenSSH PROTOCOL.u2f); ssh-keygen says that it is made right."""
    token = Ed25519PrivateKey.generate()
    kind = sshkey.SK_ED25519.encode()
    raw = token.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    blob = string(kind) + string(raw) + string(b"ssh:")
    data = b"SSHSIG" + string(SPACE.encode()) + string(b"") + string(b"sha512")
    data += string(hashlib.sha512(MESSAGE).digest())
    for flags, touched in ((1, True), (0, False)):
        tail = bytes([flags]) + (9).to_bytes(4, "big")
        made = token.sign(hashlib.sha256(b"ssh:").digest() + tail + hashlib.sha256(data).digest())
        signature = string(kind) + string(made) + tail
        whole = b"SSHSIG" + (1).to_bytes(4, "big")
        whole += b"".join(string(part) for part in (blob, SPACE.encode(), b"", b"sha512", signature))
        body = base64.encodebytes(whole).decode()
        armored = f"{sshsig.BEGIN}\n{body}{sshsig.END}\n"
        key = sshkey.from_blob(blob)
        assert _verified_by_ssh_keygen(tmp_path, key, armored, MESSAGE)
        if touched:
            assert sshsig.verify(armored, MESSAGE, SPACE) == key
        else:  # ssh-keygen -Y leaves it to its caller whether somebody touched the token; we demand it
            with pytest.raises(BadSignature, match="touched"):
                sshsig.verify(armored, MESSAGE, SPACE)


def test_ssh_keygen_signs_for_us_with_a_key_it_holds(key_file: Path) -> None:
    document = SignedDocument(payload=PAYLOAD)
    signed = signing.sign_with_ssh_keygen(document, key_file.with_suffix(".pub"), "")
    assert signing.keys_that_signed(signed) == (_public(key_file),)


@pytest.mark.parametrize("form", ["PKCS8", "PEM"])
def test_keys_with_a_passphrase_in_the_forms_of_openssl(form: str, tmp_path: Path) -> None:
    path = tmp_path / "key"
    _ssh_keygen("-q", "-t", "ecdsa", "-m", form, "-N", "secret", "-f", str(path))
    private = keys.load(path.read_bytes(), lambda: b"secret")
    assert sshkey.from_public_key(private.public_key()) == _public(path)
    with pytest.raises(Malformed):
        keys.load(path.read_bytes(), lambda: b"wrong")


def test_keys_with_a_passphrase_in_openssh_form_say_what_they_need(tmp_path: Path) -> None:
    path = tmp_path / "key"
    _ssh_keygen("-q", "-t", "ed25519", "-N", "secret", "-f", str(path))
    if importlib.util.find_spec("bcrypt") is not None:
        assert sshkey.from_public_key(keys.load(path.read_bytes(), lambda: b"secret").public_key())
    else:
        with pytest.raises(Malformed, match="bcrypt") as caught:
            keys.load(path.read_bytes(), lambda: b"secret")
        assert "ssh-agent" in caught.value.problems[0].mend
