# SPDX-License-Identifier: Apache-2.0
"""What machines sign: compact JWS (RFC 7515) with one algorithm and one form.

The header is exactly the canonical bytes {"alg":"Ed25519","kid":"SHA256:…","typ":…} (alg of RFC 9864):
nothing in it can be chosen by whoever made the token, except which of the known keys to try.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from vmwarden.errors import BadSignature, Malformed, TooLarge
from vmwarden.model.wire import Wire
from vmwarden.rules import canonical, sshkey
from vmwarden.rules.sshkey import SshPublicKey

#: a header is 100 bytes; nobody makes us parse more
_HEADER_BYTES = 256
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_SIGNATURE_BYTES = 64  # RFC 8032


class _Header(Wire, frozen=True, kw_only=True):
    alg: Literal["Ed25519"]
    kid: str
    typ: str


def public_key(key: Ed25519PrivateKey) -> SshPublicKey:
    """The public half in the form in which policies name it."""
    return sshkey.from_public_key(key.public_key())


def sign(payload: bytes, key: Ed25519PrivateKey, typ: str) -> str:
    """Compact JWS over payload; kid is the key's SHA256 fingerprint."""
    header = canonical.encode(_Header(alg="Ed25519", kid=public_key(key).fingerprint, typ=typ))
    signed = f"{_encode(header)}.{_encode(payload)}"
    return f"{signed}.{_encode(key.sign(signed.encode('ascii')))}"


def signer(jws: str, typ: str, limit: int) -> str:
    """Fingerprint of the key that the token claims to be signed with; nothing is verified.

    limit: bytes of the whole token.  Raises TooLarge, Malformed (form, algorithm, type).
    """
    return _split(jws, typ, limit)[0].kid


def verify(jws: str, keys: Mapping[str, SshPublicKey], typ: str, limit: int) -> tuple[bytes, SshPublicKey]:
    """The payload and the key of keys (by fingerprint) that signed it.

    Raises TooLarge, Malformed (form, algorithm, type), BadSignature (unknown key, key of another kind,
    other bytes); never another error, for any text.
    """
    header, payload, signed, signature = _split(jws, typ, limit)
    key = keys.get(header.kid)
    if key is None:
        raise BadSignature(f"signed by {header.kid}, which is not trusted", mend="add its key to trust.hosts")
    material = sshkey.public_key(key)
    if not isinstance(material, Ed25519PublicKey) or key.kind != sshkey.ED25519:
        raise BadSignature(f"{header.kid} is a {key.kind} key", mend="hosts sign with ssh-ed25519")
    try:
        material.verify(signature, signed)
    except InvalidSignature as error:
        raise BadSignature(f"the signature by {header.kid} does not fit the content") from error
    return payload, key


def _split(jws: str, typ: str, limit: int) -> tuple[_Header, bytes, bytes, bytes]:
    if len(jws) > limit:
        raise TooLarge(f"JWS: {len(jws)} bytes, at most {limit} are read")
    parts = jws.split(".")
    if len(parts) != 3:
        raise Malformed("JWS: not three parts between dots")
    header = canonical.decode(_decode(parts[0]), _Header, limit=_HEADER_BYTES, what="JWS header")
    if header.typ != typ:
        raise Malformed(f"JWS: type {header.typ[:64]!r} where {typ!r} is expected")
    signature = _decode(parts[2])
    if len(signature) != _SIGNATURE_BYTES:
        raise Malformed(f"JWS: a signature of {len(signature)} bytes")
    return header, _decode(parts[1]), f"{parts[0]}.{parts[1]}".encode("ascii"), signature


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def _decode(text: str) -> bytes:
    if not _BASE64URL.fullmatch(text):
        raise Malformed("JWS: not base64url without padding")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError) as error:
        raise Malformed(f"JWS: not base64url: {error}") from error
    if _encode(data) != text:
        raise Malformed("JWS: base64url with stray bits")  # one content, one text
    return data
