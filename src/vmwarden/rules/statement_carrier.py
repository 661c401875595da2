# SPDX-License-Identifier: Apache-2.0
"""How a statement rides on OEM strings and in a fw_cfg item (docs/reference/statement.md)."""

import re
from collections.abc import Iterable

import msgspec

from vmwarden.errors import Malformed, TooLarge, UntrustedInput
from vmwarden.model.evidence import Evidence, Subject
from vmwarden.model.moment import Moment
from vmwarden.model.statement import STATEMENT_BYTES
from vmwarden.rules import claim
from vmwarden.rules.sha2 import sha256

_KEY = "vmwarden.statement"
#: characters of one part: with its key (27 at most) below 255, the longest string that every tool on the way
#: from a libvirt file to the guest was seen to keep
PART_CHARACTERS = 224
#: 8192 / 224, rounded up
PARTS = 37
_PART = re.compile(r"vmwarden\.statement(?:\.([1-9][0-9]?)of([1-9][0-9]?))?=([\x21-\x7e]*)")
#: whole statements on one carrier: one for the host and a few for hosts it may move to
WHOLE = 4
#: bytes of the padded fw_cfg item.  The kernel's driver keeps the size that the item had when it was loaded:
#: items of one size stay readable after a live migration to a host with a longer or shorter statement.
ITEM_BYTES = STATEMENT_BYTES


def to_strings(token: str) -> tuple[str, ...]:
    """The OEM strings that carry token."""
    if len(token) <= PART_CHARACTERS:
        return (f"{_KEY}={token}",)
    parts = [token[at : at + PART_CHARACTERS] for at in range(0, len(token), PART_CHARACTERS)]
    return tuple(f"{_KEY}.{n}of{len(parts)}={part}" for n, part in enumerate(parts, 1))


def from_strings(strings: Iterable[bytes]) -> tuple[str, ...]:
    """The statements carried by these OEM strings; others among them are not ours.

    Raises Malformed: a part is missing, there twice, or counted differently; TooLarge: one is too long, or
    there are more than four.
    """
    whole: list[str] = []
    parts: dict[int, str] = {}
    total = 0
    for raw in strings:
        if not raw.startswith(_KEY.encode()):
            continue
        match = _PART.fullmatch(raw.decode("ascii", "replace"))
        if match is None:
            raise Malformed("OEM string: begins like a statement and is none")
        if match[1] is None:
            whole.append(match[3])
            continue
        number, count = int(match[1]), int(match[2])
        if number > count or count > PARTS or total not in (0, count) or number in parts:
            raise Malformed(f"OEM strings: part {number} of {count} does not fit the others")
        total = count
        parts[number] = match[3]
    if len(parts) != total:
        raise Malformed(f"OEM strings: {len(parts)} of {total} parts of a statement")
    if parts:
        whole.append("".join(parts[n] for n in sorted(parts)))
    if len(whole) > WHOLE:
        raise TooLarge(f"OEM strings: {len(whole)} statements, at most {WHOLE} are read")
    return tuple(_bounded(token) for token in whole)


def to_item(token: str) -> bytes:
    """The content of the fw_cfg item: the token, filled up with line feeds to ITEM_BYTES."""
    return token.encode("ascii").ljust(ITEM_BYTES, b"\n")


def from_item(item: bytes) -> str:
    """The token in a fw_cfg item; line feeds, spaces and NULs after it are padding.

    Raises Malformed for anything but printable ASCII without spaces, and for nothing at all; TooLarge.
    """
    token = item.rstrip(b"\0\n\r ")
    if not token or not all(0x21 <= byte <= 0x7E for byte in token):
        raise Malformed("fw_cfg: the item is no statement")
    return _bounded(token.decode("ascii"))


def absent(source: str, reason: str, now: Moment) -> Evidence:
    """The evidence that a static carrier holds no statement."""
    return _piece(source, reason, "statement.none", now)


def refused(source: str, error: UntrustedInput, now: Moment) -> Evidence:
    """The evidence that something else stands in a statement's place."""
    finding = "statement.too-large" if isinstance(error, TooLarge) else "statement.garbled"
    return _piece(source, str(error), finding, now)


def unread(source: str, tokens: tuple[str, ...], now: Moment) -> tuple[Evidence, ...]:
    """That a static carrier holds statements: the digest of each.  What they say needs the warden's keys."""
    pieces = []
    for n, token in enumerate(tokens):
        digest = sha256(token.encode("ascii")).hexdigest()
        piece = claim.declared(source, Subject.STATEMENT, f"unread sha256:{digest}", now, boot_frozen=True)
        pieces.append(msgspec.structs.replace(piece, id=f"{piece.id}/{n}" if n else piece.id))
    return tuple(pieces)


def _piece(source: str, reason: str, finding: str, now: Moment) -> Evidence:
    return claim.unavailable(source, Subject.STATEMENT, reason, now, finding=finding, boot_frozen=True)


def _bounded(token: str) -> str:
    if len(token) > STATEMENT_BYTES:
        raise TooLarge(f"statement: {len(token)} bytes, at most {STATEMENT_BYTES} are read")
    return token
