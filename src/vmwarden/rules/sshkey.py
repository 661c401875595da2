# SPDX-License-Identifier: Apache-2.0
"""Public keys in OpenSSH's form (RFC 4253 section 6.6, RFC 5656, RFC 8709, OpenSSH PROTOCOL.u2f)."""

import base64
import binascii

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurve,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

from vmwarden.errors import Malformed
from vmwarden.rules.sha2 import sha256
from vmwarden.rules.sshwire import SshReader, mpint, string

ED25519 = "ssh-ed25519"
SK_ED25519 = "sk-ssh-ed25519@openssh.com"
RSA = "ssh-rsa"
CURVES: dict[str, type[EllipticCurve]] = {
    "ecdsa-sha2-nistp256": SECP256R1,
    "ecdsa-sha2-nistp384": SECP384R1,
    "ecdsa-sha2-nistp521": SECP521R1,
}

#: NIST SP 800-131A rev. 2: RSA below 2048 bits is disallowed.  The upper bound keeps a check below 2 ms.
RSA_BITS = (2048, 8192)
#: FIPS 186-5 allows exponents up to 2**256, OpenSSL only 64 bits with long moduli: so nobody has longer ones
RSA_EXPONENT_BITS = 64
#: bound on one key, bytes: RSA of 8192 bits is 1047
KEY_BYTES = 2048

PublicKey = Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey


class SshPublicKey(msgspec.Struct, frozen=True):
    """A sound public key.  kind: OpenSSH's name of the type.  blob: the bytes that stand in base64 in a
    key line; two keys are the same key exactly if their blobs are equal (a comment is not part of it)."""

    kind: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """SHA256:… as ssh-keygen -l prints it."""
        digest = base64.b64encode(sha256(self.blob).digest()).decode("ascii")
        return "SHA256:" + digest.rstrip("=")

    @property
    def line(self) -> str:
        """The key line without a comment."""
        return f"{self.kind} {base64.b64encode(self.blob).decode('ascii')}"


def parse(line: str) -> SshPublicKey:
    """The key in one line of a .pub file: kind, base64, and a comment that is ignored.

    Raises Malformed for anything else: options, other kinds, keys too short, points beside the curve.
    """
    words = line.strip(" \n").split(" ", 2)
    if len(words) < 2:
        raise Malformed("not an SSH public key", mend="give the one line of a .pub file")
    if len(words[1]) > KEY_BYTES * 4 // 3 + 4:
        raise Malformed(f"SSH public key: more than {KEY_BYTES} bytes")
    try:
        blob = base64.b64decode(words[1].encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise Malformed("SSH public key: not base64", mend="give the one line of a .pub file") from error
    key = from_blob(blob)
    if key.kind != words[0]:
        raise Malformed("SSH public key: the line names another type than the key itself")
    if key.line != f"{words[0]} {words[1]}":
        raise Malformed("SSH public key: base64 not in its one canonical form")
    return key


def from_blob(blob: bytes) -> SshPublicKey:
    """The key whose bytes these are.  Raises Malformed."""
    reader = SshReader(blob, "SSH public key")
    kind = reader.text()
    key = SshPublicKey(kind, blob)
    _material(key)
    return key


def public_key(key: SshPublicKey) -> PublicKey:
    """The key for use with cryptography; of a security key its Ed25519 part.  Raises Malformed."""
    return _material(key)


def application(key: SshPublicKey) -> bytes:
    """The application a security key is bound to, usually b"ssh:".  Raises Malformed for other kinds."""
    reader = SshReader(key.blob, "SSH public key")
    if reader.text() != SK_ED25519:
        raise Malformed("SSH public key: not a security key")
    reader.string()
    return reader.string()


def from_public_key(key: PublicKey) -> SshPublicKey:
    """A key of cryptography in OpenSSH's form.  Raises Malformed where we would not accept it ourselves."""
    if isinstance(key, Ed25519PublicKey):
        raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return from_blob(string(ED25519.encode()) + string(raw))
    if isinstance(key, RSAPublicKey):
        numbers = key.public_numbers()
        return from_blob(string(RSA.encode()) + string(mpint(numbers.e)) + string(mpint(numbers.n)))
    for kind, curve in CURVES.items():
        if isinstance(key.curve, curve):
            point = key.public_bytes(
                serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
            )
            name = kind.removeprefix("ecdsa-sha2-")
            return from_blob(string(kind.encode()) + string(name.encode()) + string(point))
    raise Malformed(f"keys on the curve {key.curve.name} are not taken", mend="use ed25519")


def _material(key: SshPublicKey) -> PublicKey:
    if len(key.blob) > KEY_BYTES:
        raise Malformed(f"SSH public key: more than {KEY_BYTES} bytes")
    reader = SshReader(key.blob, "SSH public key")
    kind = reader.text()
    try:
        if kind in (ED25519, SK_ED25519):
            material: PublicKey = _ed25519(reader, security_key=kind == SK_ED25519)
        elif kind in CURVES:
            material = _ecdsa(reader, kind)
        elif kind == RSA:
            material = _rsa(reader)
        else:
            known = ", ".join([ED25519, *CURVES, RSA, SK_ED25519])
            raise Malformed(f"SSH public key: type {kind[:64]!r} is not taken", mend=f"use one of {known}")
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Malformed(f"SSH public key: {error}") from error
    reader.end()
    return material


def _ed25519(reader: SshReader, *, security_key: bool) -> Ed25519PublicKey:
    raw = reader.string()
    if security_key:
        reader.string()
    return Ed25519PublicKey.from_public_bytes(raw)


def _ecdsa(reader: SshReader, kind: str) -> EllipticCurvePublicKey:
    if reader.text() != kind.removeprefix("ecdsa-sha2-"):
        raise Malformed("SSH public key: names two different curves")
    point = reader.string()
    if point[:1] != b"\x04":
        # RFC 5656 allows compressed points too; one key must have one blob, or it could count twice.
        raise Malformed("SSH public key: the point is not in its uncompressed form")
    return EllipticCurvePublicKey.from_encoded_point(CURVES[kind](), point)


def _rsa(reader: SshReader) -> RSAPublicKey:
    exponent, modulus = reader.natural(), reader.natural()
    least, most = RSA_BITS
    if not least <= modulus.bit_length() <= most:
        raise Malformed(
            f"SSH public key: RSA with {modulus.bit_length()} bits",
            mend=f"use ed25519, or RSA with {least} to {most} bits",
        )
    if exponent.bit_length() > RSA_EXPONENT_BITS:
        raise Malformed("SSH public key: RSA exponent too large")
    return RSAPublicNumbers(exponent, modulus).public_key()
