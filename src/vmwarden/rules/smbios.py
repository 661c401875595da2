# SPDX-License-Identifier: Apache-2.0
"""The SMBIOS structure table, as far as strings go (DMTF DSP0134 3.7, section 6.1)."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from vmwarden.errors import Malformed

#: structure type "OEM Strings" (DSP0134 section 7.12)
OEM_STRINGS = 11
_END_OF_TABLE = 127
_HEADER_BYTES = 4  # type, length, handle (2)


class Structure(NamedTuple):
    """kind: the type number.  strings: its string set, as bytes."""

    kind: int
    strings: tuple[bytes, ...]


def structures(table: bytes) -> Iterator[Structure]:
    """Each structure up to end-of-table or the end of the bytes.  Raises Malformed where one is cut off."""
    at = 0
    while at < len(table):
        length = table[at + 1] if at + 1 < len(table) else 0
        if length < _HEADER_BYTES or at + length > len(table):
            raise Malformed(f"SMBIOS: the structure at byte {at} is cut off")
        kind = table[at]
        end = table.find(b"\0\0", at + length)
        if end < 0:
            raise Malformed(f"SMBIOS: the strings of the structure at byte {at} have no end")
        text = table[at + length : end]
        yield Structure(kind, tuple(text.split(b"\0")) if text else ())
        if kind == _END_OF_TABLE:
            return
        at = end + 2


def oem_strings(table: bytes) -> tuple[bytes, ...]:
    """All strings of all structures of type 11, in order.  Raises Malformed."""
    return tuple(text for found in structures(table) if found.kind == OEM_STRINGS for text in found.strings)


def table(strings: Iterable[bytes]) -> bytes:
    """A table of one OEM-strings structure and the end, for tests and recordings."""
    texts = tuple(strings)
    body = b"\0".join(texts) if texts else b""
    oem = bytes((OEM_STRINGS, 5, 0, 0x0E, len(texts) & 0xFF)) + body + b"\0\0"
    return oem + bytes((_END_OF_TABLE, 4, 0, 0x7F)) + b"\0\0"
