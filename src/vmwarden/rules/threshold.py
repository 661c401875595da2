# SPDX-License-Identifier: Apache-2.0
"""k of n: how many different people signed."""

from vmwarden.errors import BadSignature, Malformed
from vmwarden.model.owners import OwnerKey
from vmwarden.model.signed import SignedDocument
from vmwarden.rules import sshkey, sshsig

#: signatures looked at in one document: twice the most keys that owners may have (model.owners)
SIGNATURES = 64


def signers(document: SignedDocument, keys: tuple[OwnerKey, ...], namespace: str) -> tuple[str, ...]:
    """Names of the keys that signed the payload, in the order of keys.

    One key counts once, under its first name, however often it signed or is listed.  Signatures that are
    broken, of strangers, or for another namespace are ignored, and so are those after the first 64.
    Raises Malformed where one of keys is no key, or the payload no text.
    """
    return _look(document, keys, namespace)[0]


def require(
    document: SignedDocument, keys: tuple[OwnerKey, ...], threshold: int, namespace: str
) -> tuple[str, ...]:
    """The names, if at least threshold different keys signed.

    Raises BadSignature that says who signed, how many are missing, and why the others did not count;
    Malformed as signers does.
    """
    names, ignored = _look(document, keys, namespace)
    if len(names) >= max(threshold, 1):
        return names
    missing = max(threshold, 1) - len(names)
    who = ", ".join(names) or "nobody whose key counts"
    because = f"; not counted: {'; '.join(ignored)}" if ignored else ""
    raise BadSignature(
        f"signed by {who}: {missing} of {max(threshold, 1)} signatures missing{because}",
        mend=f"let {missing} more of {', '.join(_distinct(keys).values())} sign",
    )


def signed_bytes(document: SignedDocument) -> bytes:
    """What the signatures of document cover.  Raises Malformed where the payload is no Unicode text."""
    try:
        return document.payload.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Malformed(f"signed document: the payload is no text: {error.reason}") from error


def _distinct(keys: tuple[OwnerKey, ...]) -> dict[bytes, str]:
    """Key blob to its first name."""
    names: dict[bytes, str] = {}
    for key in keys:
        names.setdefault(sshkey.parse(key.key).blob, key.name)
    return names


def _look(
    document: SignedDocument, keys: tuple[OwnerKey, ...], namespace: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    names = _distinct(keys)
    message = signed_bytes(document)
    signed: set[bytes] = set()
    ignored: list[str] = []
    for armored in document.signatures[:SIGNATURES]:
        try:
            key = sshsig.verify(armored, message, namespace)
        except (Malformed, BadSignature) as error:
            ignored.append(str(error))
            continue
        if key.blob in names:
            signed.add(key.blob)
        else:
            ignored.append(f"{key.fingerprint} is none of the keys")
    return tuple(name for blob, name in names.items() if blob in signed), tuple(ignored)
