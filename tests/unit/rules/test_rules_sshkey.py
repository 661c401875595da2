# SPDX-License-Identifier: Apache-2.0
"""rules.sshkey: only sound keys pass, and one key has one form."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vmwarden.errors import Malformed
from vmwarden.rules import sshkey
from vmwarden.rules.sshwire import mpint, string

# Any 32 bytes are an Ed25519 key; fingerprints are compared with ssh-keygen -l in tests/integration.
LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEyB+GtyRt+TP4UpZsKqBcHoeDhQ2a5cV7CcYqZ6K0pI"
RAW = bytes.fromhex("4c81f86b7246df933f852966c2aa05c1e8783850d9ae5c57b09c62a67a2b4a48")


def _line(*parts: bytes, kind: str) -> str:
    return f"{kind} {base64.b64encode(b''.join(string(part) for part in parts)).decode()}"


def test_a_key_line_is_taken_with_and_without_a_comment() -> None:
    plain = sshkey.parse(LINE)
    assert sshkey.parse(LINE + " anna at her desk\n") == plain
    assert plain.kind == "ssh-ed25519"
    assert plain.blob == string(b"ssh-ed25519") + string(RAW)
    assert plain.line == LINE


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_keys_of_cryptography_survive_the_way_there_and_back(curve: ec.EllipticCurve) -> None:
    key = sshkey.from_public_key(ec.generate_private_key(curve).public_key())
    assert sshkey.parse(key.line) == key
    assert sshkey.from_public_key(sshkey.public_key(key)) == key


def test_ed25519_and_rsa_survive_the_way_there_and_back() -> None:
    for private in (Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)):
        key = sshkey.from_public_key(private.public_key())
        assert sshkey.from_public_key(sshkey.public_key(sshkey.parse(key.line))) == key


def test_a_curve_that_ssh_has_no_name_for_is_refused() -> None:
    with pytest.raises(Malformed, match="secp256k1"):
        sshkey.from_public_key(ec.generate_private_key(ec.SECP256K1()).public_key())


def test_rsa_below_2048_bits_is_refused() -> None:
    weak = rsa.generate_private_key(65537, 1024).public_key().public_numbers()
    with pytest.raises(Malformed, match="1024 bits"):
        sshkey.parse(_line(b"ssh-rsa", mpint(weak.e), mpint(weak.n), kind="ssh-rsa"))


def test_a_security_key_knows_its_application() -> None:
    kind = sshkey.SK_ED25519
    key = sshkey.parse(_line(kind.encode(), RAW, b"ssh:", kind=kind))
    assert sshkey.application(key) == b"ssh:"
    with pytest.raises(Malformed, match="not a security key"):
        sshkey.application(sshkey.parse(LINE))


_POINT = b"\x04" + bytes(64)
_BLOB = LINE.split(" ")[1]
_N = mpint((1 << 2047) + 1)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "not an SSH public key"),
        ("ssh-ed25519", "not an SSH public key"),
        (f"ssh-rsa {_BLOB}", "another type"),
        (f"ssh-ed25519 {_BLOB}=", "canonical"),
        (f"ssh-ed25519 {_BLOB[:-1]}\u00e9", "not base64"),
        (f'command="x" ssh-ed25519 {_BLOB}', "not base64"),
        (f"ssh-ed25519 {'A' * 4000}", "more than 2048"),
        (_line(b"ssh-ed25519", RAW[:-1], kind="ssh-ed25519"), "SSH public key"),
        (_line(b"ssh-ed25519", RAW, b"", kind="ssh-ed25519"), "4 bytes too many"),
        (_line(b"ssh-ed25519", kind="ssh-ed25519"), "cut off"),
        (_line(b"ssh-dss", RAW, kind="ssh-dss"), "ssh-dss"),
        (_line(b"ssh-\xff", RAW, kind="ssh-x"), "printable"),
        (_line(b"ecdsa-sha2-nistp256", b"nistp256", _POINT, kind="ecdsa-sha2-nistp256"), "SSH public key"),
        (_line(b"ecdsa-sha2-nistp256", b"nistp384", _POINT, kind="ecdsa-sha2-nistp256"), "two different"),
        (
            _line(b"ecdsa-sha2-nistp256", b"nistp256", b"\x02" + bytes(32), kind="ecdsa-sha2-nistp256"),
            "uncom",
        ),
        (_line(b"ssh-rsa", mpint(3), b"\x00" + _N, kind="ssh-rsa"), "shortest"),
        (_line(b"ssh-rsa", b"", _N, kind="ssh-rsa"), "zero"),
        (_line(b"ssh-rsa", mpint(1 << 65), _N, kind="ssh-rsa"), "exponent"),
        (_line(b"ssh-rsa", mpint(2), _N, kind="ssh-rsa"), "SSH public key"),
    ],
)
def test_what_is_no_sound_key_is_refused(line: str, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        sshkey.parse(line)


def test_base64_has_one_form_only() -> None:
    """The last letter before the padding carries unused bits: another letter would decode to the same key."""
    kind = sshkey.SK_ED25519
    line = _line(kind.encode(), RAW, b"ssh:xy", kind=kind)
    stem, pad = line.rstrip("="), "=" * (len(line) - len(line.rstrip("=")))
    assert pad
    other = stem[:-1] + chr(ord(stem[-1]) + 1) + pad
    with pytest.raises(Malformed, match=r"canonical form|base64"):
        sshkey.parse(other)
