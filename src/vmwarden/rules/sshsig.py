# SPDX-License-Identifier: Apache-2.0
"""SSHSIG: signatures as ssh-keygen -Y makes and checks them (OpenSSH PROTOCOL.sshsig, version 1)."""

import base64
import binascii

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm

from vmwarden.errors import BadSignature, Malformed
from vmwarden.rules import sshkey
from vmwarden.rules.sha2 import sha256, sha512
from vmwarden.rules.sshkey import SshPublicKey
from vmwarden.rules.sshwire import SshReader, mpint, string

PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey

BEGIN = "-----BEGIN SSH SIGNATURE-----"
END = "-----END SSH SIGNATURE-----"
MAGIC = b"SSHSIG"
VERSION = 1
#: bound on one armored signature, characters: RSA of 8192 bits is 3.1 kB
ARMOR_CHARACTERS = 8192
#: ssh-keygen breaks lines after 70 characters; other programs after 64 or 76
LINE_CHARACTERS = 76
_WRITTEN_LINE = 70

_HASHES = {"sha256": sha256, "sha512": sha512}
#: RFC 8332; the older ssh-rsa means SHA-1, which PROTOCOL.sshsig forbids
_RSA_HASHES: dict[str, type[HashAlgorithm]] = {"rsa-sha2-512": SHA512, "rsa-sha2-256": SHA256}
#: RFC 5656 section 6.2.1: the hash follows from the size of the curve
_EC_HASHES: dict[str, type[HashAlgorithm]] = {
    "ecdsa-sha2-nistp256": SHA256,
    "ecdsa-sha2-nistp384": SHA384,
    "ecdsa-sha2-nistp521": SHA512,
}
#: OpenSSH PROTOCOL.u2f: bit 0 of the flags says that somebody touched the security key
_USER_PRESENT = 0x01


def verify(armored: str, message: bytes, namespace: str) -> SshPublicKey:
    """The key that signed message for namespace.  Whether that key is trusted is the caller's question.

    Raises Malformed where armored is no signature, BadSignature where it is one of something else.
    """
    reader = SshReader(_unarmor(armored), "SSH signature")
    if reader.take(len(MAGIC)) != MAGIC:
        raise Malformed("SSH signature: does not begin with SSHSIG")
    if reader.uint32() != VERSION:
        raise Malformed("SSH signature: not of version 1")
    key = sshkey.from_blob(reader.string())
    named, reserved, hash_name, signature = reader.text(), reader.string(), reader.text(), reader.string()
    reader.end()
    if hash_name not in _HASHES:
        raise Malformed(f"SSH signature: hash {hash_name[:32]!r} is not taken", mend="use sha512 or sha256")
    if named != namespace:
        raise BadSignature(
            f"SSH signature: made for namespace {named[:64]!r}, not for {namespace!r}",
            mend=f"ssh-keygen -Y sign -n {namespace}",
        )
    try:
        _check(key, signature, _signed(namespace, reserved, hash_name, message))
    except InvalidSignature as error:
        raise BadSignature(f"SSH signature: {key.fingerprint} did not sign this") from error
    return key


def sign(private_key: PrivateKey, message: bytes, namespace: str) -> str:
    """An armored signature that ssh-keygen -Y verify accepts; sha512, RSA as rsa-sha2-512.

    Raises Malformed for a key whose signature we would not accept.
    """
    key = sshkey.from_public_key(private_key.public_key())
    data = _signed(namespace, b"", "sha512", message)
    if isinstance(private_key, Ed25519PrivateKey):
        signature = _blob(key.kind, private_key.sign(data))
    elif isinstance(private_key, RSAPrivateKey):
        signature = _blob("rsa-sha2-512", private_key.sign(data, PKCS1v15(), SHA512()))
    else:
        r, s = decode_dss_signature(private_key.sign(data, ECDSA(_EC_HASHES[key.kind]())))
        signature = _blob(key.kind, string(mpint(r)) + string(mpint(s)))
    return _armor(
        MAGIC
        + VERSION.to_bytes(4, "big")
        + string(key.blob)
        + string(namespace.encode("ascii"))
        + string(b"")
        + string(b"sha512")
        + string(signature)
    )


def _signed(namespace: str, reserved: bytes, hash_name: str, message: bytes) -> bytes:
    return (
        MAGIC
        + string(namespace.encode("ascii"))
        + string(reserved)
        + string(hash_name.encode("ascii"))
        + string(_HASHES[hash_name](message).digest())
    )


def _blob(algorithm: str, signature: bytes) -> bytes:
    return string(algorithm.encode("ascii")) + string(signature)


def _check(key: SshPublicKey, signature: bytes, data: bytes) -> None:
    """Raises Malformed, or InvalidSignature of cryptography."""
    reader = SshReader(signature, "SSH signature")
    algorithm, raw = reader.text(), reader.string()
    if key.kind == sshkey.SK_ED25519:
        flags, counter = reader.take(1), reader.take(4)
    reader.end()
    expected = tuple(_RSA_HASHES) if key.kind == sshkey.RSA else (key.kind,)
    if algorithm not in expected:
        raise Malformed(
            f"SSH signature: algorithm {algorithm[:64]!r} is not taken for a key of type {key.kind}"
        )
    material = sshkey.public_key(key)
    if isinstance(material, RSAPublicKey):
        material.verify(raw, data, PKCS1v15(), _RSA_HASHES[algorithm]())
    elif isinstance(material, EllipticCurvePublicKey):
        pair = SshReader(raw, "SSH signature")
        r, s = pair.natural(), pair.natural()
        pair.end()
        material.verify(encode_dss_signature(r, s), data, ECDSA(_EC_HASHES[algorithm]()))
    elif key.kind == sshkey.SK_ED25519:
        if not flags[0] & _USER_PRESENT:
            raise BadSignature("SSH signature: nobody touched the security key")
        material.verify(raw, _as_token_signs(sshkey.application(key), flags + counter, data))
    else:
        material.verify(raw, data)


def _as_token_signs(application: bytes, flags_and_counter: bytes, data: bytes) -> bytes:
    """What a FIDO token signs instead of data (OpenSSH PROTOCOL.u2f, SSH U2F signatures)."""
    return sha256(application).digest() + flags_and_counter + sha256(data).digest()


def _armor(blob: bytes) -> str:
    text = base64.b64encode(blob).decode("ascii")
    lines = [text[at : at + _WRITTEN_LINE] for at in range(0, len(text), _WRITTEN_LINE)]
    return "\n".join([BEGIN, *lines, END, ""])


def _unarmor(armored: str) -> bytes:
    mend = "give the whole .sig file, from its BEGIN line to its END line"
    if len(armored) > ARMOR_CHARACTERS:
        raise Malformed(f"SSH signature: more than {ARMOR_CHARACTERS} characters", mend=mend)
    lines = armored.removesuffix("\n").split("\n")
    if len(lines) < 3 or lines[0] != BEGIN or lines[-1] != END:
        raise Malformed("SSH signature: not between a BEGIN and an END line", mend=mend)
    body = lines[1:-1]
    if any(not line or len(line) > LINE_CHARACTERS for line in body):
        raise Malformed(f"SSH signature: a line is empty or longer than {LINE_CHARACTERS}", mend=mend)
    text = "".join(body)
    try:
        blob = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise Malformed("SSH signature: not base64", mend=mend) from error
    if base64.b64encode(blob).decode("ascii") != text:
        raise Malformed("SSH signature: base64 not in its one canonical form", mend=mend)
    return blob
