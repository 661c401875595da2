# SPDX-License-Identifier: Apache-2.0
"""This VM's identity key."""

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from vmwarden.errors import Malformed, SourceUnavailable
from vmwarden.model.installed import Slot, Unreadable
from vmwarden.store.cells import read_one
from vmwarden.store.layout import Layout


def identity_key(layout: Layout) -> Ed25519PrivateKey:
    """The private key that signs the journal.

    Raises SourceUnavailable where there is none that may be trusted, Malformed if it is no such key.
    """
    found = read_one(layout, Slot.IDENTITY)
    if found is None:
        raise SourceUnavailable("no identity key", mend="vmwarden enrol --renew makes one")
    if isinstance(found, Unreadable):
        raise SourceUnavailable(f"identity key: {found.why}")
    try:
        key = load_ssh_private_key(found, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it wants a passphrase
        raise Malformed(f"identity key: {error}", mend="vmwarden enrol --renew makes a new one") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise Malformed("identity key: not Ed25519", mend="vmwarden enrol --renew makes a new one")
    return key
