# SPDX-License-Identifier: Apache-2.0
"""Private keys of people, as ssh-keygen and openssl write them."""

import base64
import binascii
import importlib.util
from collections.abc import Callable

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

from vmwarden.errors import Malformed
from vmwarden.rules import sshkey
from vmwarden.rules.sshsig import PrivateKey
from vmwarden.rules.sshwire import SshReader

#: bound on a key file, bytes: an RSA key of 8192 bits is 6.5 kB
KEY_FILE_BYTES = 64 * 1024

_BEGIN = b"-----BEGIN OPENSSH PRIVATE KEY-----"
_END = b"-----END OPENSSH PRIVATE KEY-----"
#: OpenSSH PROTOCOL.key
_MAGIC = b"openssh-key-v1\0"
_BY_HAND = (
    "put it into ssh-agent and give the .pub file, or sign what `policy show --payload` prints with "
    "`ssh-keygen -Y sign` and attach it"
)


def is_public(data: bytes) -> bool:
    """Whether a key file holds a public key: then its private half is in an agent or a security key."""
    return not data.lstrip().startswith(b"-----BEGIN ")


def on_security_key(data: bytes) -> bool:
    """Whether a private key file only points at a security key, which must be touched to sign."""
    return _openssh_public_kind(data).startswith("sk-")


def load(data: bytes, ask_passphrase: Callable[[], bytes]) -> PrivateKey:
    """The private key in a file.  ask_passphrase is called only if the key has one.

    Raises Malformed: no key, a kind that is not taken, a wrong passphrase.
    """
    openssh = data.lstrip().startswith(_BEGIN)
    read = load_ssh_private_key if openssh else load_pem_private_key
    try:
        try:
            key = read(data, None)
        except TypeError:  # this is how cryptography says that the key has a passphrase
            # OpenSSH's own format stretches it with bcrypt, which cryptography takes from another package.
            if openssh and importlib.util.find_spec("bcrypt") is None:
                raise Malformed(
                    "private key: its passphrase needs the Python package bcrypt", mend=_BY_HAND
                ) from None
            key = read(data, ask_passphrase())
    except UnsupportedAlgorithm as error:
        raise Malformed(f"private key: {error}", mend=_BY_HAND) from error
    except (ValueError, TypeError) as error:
        raise Malformed(f"private key: {error}", mend="is it the right file and passphrase?") from error
    if not isinstance(key, Ed25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey):
        raise Malformed("private key: of a kind that is not taken", mend="use ed25519, ecdsa or rsa")
    sshkey.from_public_key(key.public_key())
    return key


def _openssh_public_kind(data: bytes) -> str:
    """The kind in the public head of an OpenSSH private key; "" if there is none."""
    body = data.strip().removeprefix(_BEGIN).removesuffix(_END)
    try:
        reader = SshReader(base64.b64decode(b"".join(body.split()), validate=True), "private key")
        if reader.take(len(_MAGIC)) != _MAGIC:
            return ""
        for _ in ("cipher", "kdf", "kdf options"):
            reader.string()
        reader.uint32()  # number of keys, always 1
        return SshReader(reader.string(), "private key").text()
    except (binascii.Error, Malformed):
        return ""
