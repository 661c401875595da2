# SPDX-License-Identifier: Apache-2.0
"""Owners at their desk, with keys that are the same in every run."""

import hashlib
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vmwarden.model.owners import OwnerKey, Owners
from vmwarden.model.policy import Policy
from vmwarden.model.signed import OWNERS_NAMESPACE, POLICY_NAMESPACE, PURGE_NAMESPACE, SignedDocument
from vmwarden.model.wire import Wire
from vmwarden.rules import canonical, sshkey, sshsig


def private_key(name: str) -> Ed25519PrivateKey:
    """The key of the person called name.  Worthless outside tests: anyone can compute it."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"vmwarden test key {name}".encode()).digest())


def public_line(name: str) -> str:
    """The public half of private_key, as in a .pub file without comment."""
    return sshkey.from_public_key(private_key(name).public_key()).line


def owners(*names: str, version: int = 1, policy_threshold: int = 1, owners_threshold: int = 1) -> Owners:
    """The owners with these names."""
    return Owners(
        version=version,
        keys=tuple(OwnerKey(name=name, key=public_line(name)) for name in names),
        policy_threshold=policy_threshold,
        owners_threshold=owners_threshold,
    )


def signed(noun: Wire, by: Sequence[str], namespace: str) -> SignedDocument:
    """noun in canonical form with the signatures of these people."""
    payload = canonical.encode(noun)
    return SignedDocument(
        payload=payload.decode(),
        signatures=tuple(sshsig.sign(private_key(name), payload, namespace) for name in by),
    )


def signed_policy(policy: Policy, *by: str) -> bytes:
    """As vmwarden policy sign writes it."""
    return canonical.encode(signed(policy, by, POLICY_NAMESPACE))


def signed_owners(successor: Owners, *by: str) -> bytes:
    """A rotation."""
    return canonical.encode(signed(successor, by, OWNERS_NAMESPACE))


def signed_purge(order: Wire, *by: str) -> SignedDocument:
    """An order to purge."""
    return signed(order, by, PURGE_NAMESPACE)
