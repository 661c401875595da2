# SPDX-License-Identifier: Apache-2.0
"""A document with the signatures of people."""

from vmwarden.model.wire import Wire

#: SSHSIG namespaces: a signature made for one purpose is worthless for another
POLICY_NAMESPACE = "policy@vmwarden"
OWNERS_NAMESPACE = "owners@vmwarden"
PURGE_NAMESPACE = "purge@vmwarden"


#: how the bytes of every version of a signed document begin, and those of no YAML policy
SIGNED_HEAD = b'{"format":"vmwarden.signed/'


class SignedDocument(Wire, frozen=True, kw_only=True, tag_field="format", tag="vmwarden.signed/1"):
    """What people sign: the exact canonical bytes and armored SSHSIG signatures over them.

    payload: canonical JSON as text; signatures cover its UTF-8 bytes.
    """

    payload: str
    signatures: tuple[str, ...] = ()
