# SPDX-License-Identifier: Apache-2.0
"""The owners of VMs: their first list, and its successors."""

from collections.abc import Sequence

import msgspec

from vmwarden.errors import Malformed, UsageError
from vmwarden.model.owners import OwnerKey, Owners
from vmwarden.rules import canonical, sshkey, trust


def first(keys: Sequence[tuple[str, str]], *, policy_threshold: int = 1, owners_threshold: int = 1) -> Owners:
    """Version 1.  keys: name and public key line of each person.  Raises Malformed."""
    return _checked(1, _owner_keys(keys), policy_threshold, owners_threshold)


def successor(
    current: Owners,
    *,
    add: Sequence[tuple[str, str]] = (),
    remove: Sequence[str] = (),
    policy_threshold: int | None = None,
    owners_threshold: int | None = None,
) -> Owners:
    """The next version; a name that is removed and added gets its new key.

    Raises UsageError for a name that is not there or nothing to change, Malformed for what could never be
    satisfied.
    """
    names = [key.name for key in current.keys]
    strangers = [name for name in remove if name not in names]
    if strangers:
        raise UsageError(f"{', '.join(strangers)}: not among the owners {', '.join(names)}")
    kept = tuple(key for key in current.keys if key.name not in remove)
    following = _checked(
        current.version + 1,
        (*kept, *_owner_keys(add)),
        policy_threshold if policy_threshold is not None else current.policy_threshold,
        owners_threshold if owners_threshold is not None else current.owners_threshold,
    )
    if msgspec.structs.replace(following, version=current.version) == current:
        raise UsageError("nothing to change: say --add-key, --remove or another threshold")
    return following


def _owner_keys(keys: Sequence[tuple[str, str]]) -> tuple[OwnerKey, ...]:
    # A comment in a .pub file often is a user and a machine: no business of the VMs.
    return tuple(OwnerKey(name=name, key=sshkey.parse(line).line) for name, line in keys)


def _checked(
    version: int, keys: tuple[OwnerKey, ...], policy_threshold: int, owners_threshold: int
) -> Owners:
    owners = Owners(
        version=version, keys=keys, policy_threshold=policy_threshold, owners_threshold=owners_threshold
    )
    if not keys:
        raise Malformed("owners: nobody is left", mend="add a key first")
    # Read back as the VM reads it, so that names and thresholds are held to the same rules.
    return trust.read_owners(canonical.encode(owners))
