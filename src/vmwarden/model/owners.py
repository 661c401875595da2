# SPDX-License-Identifier: Apache-2.0
"""Who owns this VM."""

from typing import Annotated

from msgspec import Meta

from vmwarden.model.policy import Name
from vmwarden.model.wire import Wire

#: people may also sign with a security key; hosts cannot touch one (model.policy.SshKey)
PersonKey = Annotated[
    str,
    Meta(
        pattern=r"^(ssh-ed25519|ecdsa-sha2-nistp(256|384|521)|ssh-rsa|sk-ssh-ed25519@openssh\.com)"
        r" [A-Za-z0-9+/=]+( .*)?$"
    ),
]


class OwnerKey(Wire, frozen=True, kw_only=True):
    """One person's key, in the form of an SSH public key line."""

    name: Name
    key: PersonKey


class Owners(Wire, frozen=True, kw_only=True, tag_field="format", tag="vmwarden.owners/1"):
    """/etc/vmwarden/owners.json: keys, and how many of them have to sign what.

    version: goes up by exactly one with each rotation; a successor is signed by the old and by the new
    threshold.
    """

    version: Annotated[int, Meta(ge=1, le=2**53 - 1)]
    keys: Annotated[tuple[OwnerKey, ...], Meta(min_length=1, max_length=32)]
    policy_threshold: Annotated[int, Meta(ge=1, le=32)] = 1
    owners_threshold: Annotated[int, Meta(ge=1, le=32)] = 1
