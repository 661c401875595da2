# SPDX-License-Identifier: Apache-2.0
"""Files of tzdata: TZif, RFC 9636."""

import itertools
import struct

from vmwarden.errors import Malformed
from vmwarden.rules.calendar import yearly
from vmwarden.rules.calendar.zone import Zone

#: bound on one file, bytes: the longest of tzdata has less than 4 kB
FILE_BYTES = 64 * 1024

#: RFC 9636, 3.1: magic, version, 15 unused bytes, six counts
_HEADER = struct.Struct(">4sc15x6l")
#: RFC 9636, 3.2, a local time type record: offset, is it summer, where its name begins
_TYPE = struct.Struct(">lBB")
#: RFC 9636, 3.2: offsets are to lie between -25 and +26 hours, both exclusive
_OFFSETS = (-89_999, 93_599)


def parse(data: bytes, name: str) -> Zone:
    """The zone in data.  Raises Malformed; files with leap seconds (right/) are refused, too."""
    try:
        return _parse(data, name)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise Malformed(f"{name}: no TZif file: {error}") from error


def _parse(data: bytes, name: str) -> Zone:
    version, counts = _header(data, 0, name)
    if version == b"\x00":
        return _zone(data, _HEADER.size, counts, width=4, name=name)[0]
    second = _HEADER.size + _length(counts, 4)
    _, counts = _header(data, second, name)
    zone, end = _zone(data, second + _HEADER.size, counts, width=8, name=name)
    footer = data[end:]
    if len(footer) < 2 or footer[:1] != b"\n" or footer[-1:] != b"\n":
        raise Malformed(f"{name}: no TZif file: its last line is broken")
    text = footer[1:-1].decode("ascii")
    rule = yearly.parse(text) if text else None
    if isinstance(rule, yearly.Yearly):
        return Zone(name, zone.instants, zone.offsets, rule)
    if rule is not None and not zone.instants:
        return Zone(name, (), (rule,))
    return zone


def _header(data: bytes, at: int, name: str) -> tuple[bytes, tuple[int, ...]]:
    """Version, and counts as the file has them: isut, isstd, leap, time, type, char."""
    magic, version, *counts = _HEADER.unpack_from(data, at)
    if magic != b"TZif" or min(counts) < 0 or counts[4] == 0:
        raise Malformed(f"{name}: no TZif file")
    return version, tuple(counts)


def _length(counts: tuple[int, ...], width: int) -> int:
    isut, isstd, leap, times, types, characters = counts
    return times * (width + 1) + types * _TYPE.size + characters + leap * (width + 4) + isstd + isut


def _zone(data: bytes, at: int, counts: tuple[int, ...], *, width: int, name: str) -> tuple[Zone, int]:
    """The zone by its table alone, and where the data block ends."""
    end = at + _length(counts, width)
    if end > len(data):
        raise Malformed(f"{name}: no TZif file: it is cut short")
    _, _, leap, times, types, _ = counts
    if leap:
        raise Malformed(f"{name}: counts leap seconds", mend="name the zone without right/")
    instants = struct.unpack_from(f">{times}{'l' if width == 4 else 'q'}", data, at)
    indices = data[at + times * width : at + times * (width + 1)]
    records = at + times * (width + 1)
    known = [_TYPE.unpack_from(data, records + i * _TYPE.size)[0] for i in range(types)]
    if any(later <= earlier for earlier, later in itertools.pairwise(instants)):
        raise Malformed(f"{name}: no TZif file: its instants do not ascend")
    if not all(_OFFSETS[0] <= offset <= _OFFSETS[1] for offset in known):
        raise Malformed(f"{name}: no TZif file: an offset of more than a day")
    # RFC 9636, 3.2: type 0 holds before the first instant
    return Zone(name, tuple(instants), (known[0], *(known[i] for i in indices))), end
