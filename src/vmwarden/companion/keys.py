# SPDX-License-Identifier: Apache-2.0
"""The host's own key: ed25519, in OpenSSH's format, for its user alone."""

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
)

from vmwarden.errors import FileUnavailable, Malformed, UsageError
from vmwarden.linux.files import owned_privately, read_bounded

#: an ed25519 key file is about 400 bytes
_KEY_FILE_BYTES = 4096


def generate(path: Path) -> Ed25519PrivateKey:
    """A new key at path, mode 0600.  Raises UsageError if something is there, FileUnavailable."""
    key = Ed25519PrivateKey.generate()
    data = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(path, flags, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as error:
        raise UsageError(f"{path} is there; a key is never overwritten") from error
    except OSError as error:
        raise FileUnavailable(f"{path}: {error.strerror}") from error
    return key


def load(path: Path) -> Ed25519PrivateKey:
    """Raises Malformed (no such key, others may read it), FileAbsent, FileUnavailable, TooLarge."""
    owned_privately(path, secret=True)
    try:
        key = load_ssh_private_key(read_bounded(path, _KEY_FILE_BYTES), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Malformed(f"{path}: not an OpenSSH private key without passphrase: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise Malformed(f"{path}: not an ed25519 key", mend="make one: vmwarden companion keygen -o FILE")
    return key
