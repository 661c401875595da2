# SPDX-License-Identifier: Apache-2.0
"""One noun, one sequence of bytes."""

from typing import TypeVar

import msgspec

from vmwarden.errors import Malformed, TooLarge

T = TypeVar("T")

#: characters of what is said of a bad document: msgspec repeats a wrong value whole, and what is said may
#: become a record, which has an end (model.journal.RECORD_BYTES)
_SAID = 500


def encode(noun: object) -> bytes:
    """Canonical JSON: UTF-8, keys sorted, no white space, defaults left out."""
    return msgspec.json.encode(noun, order="sorted")


def decode(data: bytes, kind: type[T], *, limit: int, what: str) -> T:
    """The noun in data, if data is exactly its canonical encoding.

    limit: bytes.  what: names the document in errors.
    Raises TooLarge beyond limit, Malformed for anything else; never another error, for any bytes.
    A re-encoding is compared because JSON readers differ in what they keep of duplicate keys,
    of numbers and of escapes, and a signature must mean the same to all of them.
    """
    if len(data) > limit:
        raise TooLarge(f"{what}: {len(data)} bytes, at most {limit} are read")
    try:
        noun = msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"{what}: {str(error)[:_SAID]}") from error
    if encode(noun) != data:
        raise Malformed(
            f"{what}: not in canonical form", mend="write it with vmwarden, or as sorted JSON without spaces"
        )
    return noun
