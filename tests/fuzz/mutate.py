# SPDX-License-Identifier: Apache-2.0
"""Bytes that are almost right: mutations of valid inputs, the same for the same seed.

Valid inputs are changed as bytes, as JSON and as netlink attributes.  A change that keeps the form gets
behind the first check of a parser; noise alone would be refused by it.
"""

import json
import random
import struct
from collections.abc import Callable
from typing import Any

#: beyond this no reader of ours looks at anything but the length
LONGEST = 300_000
#: numbers at which fields overflow, turn round or mean something
NUMBERS = (
    0,
    1,
    -1,
    2**8 - 1,
    2**15,
    2**16 - 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**53 - 1,
    2**53,
    2**63 - 1,
    2**63,
    2**64 - 1,
    2**64,
    -(2**31),
    -(2**53),
    -(2**63),
    10**40,
    10**4299,
    10**4300 - 1,
)
#: what texts break on: nothing, NUL, controls, terminals, no UTF-8, surrogates, other digits, long
PIECES = (
    b"",
    b"\0",
    b"\0" * 17,
    b"\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\x1b[2J",
    b"\r\n",
    b'"',
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"../",
    "\u202e".encode(),
    "²".encode(),
    "٣".encode(),
    "\U0001f600".encode(),
    b"%n%s",
    b"A" * 300,
    b"[" * 200,
    b'{"a":' * 200,
    b"9" * 400,
    b"9" * 4301,
    b"1e999",
    b"NaN",
    b"-0",
    b"0.1",
)
_TEXTS = ("", "\0", "\x1b[2J", "\u202e", "x" * 201, "x" * 70_000, "²", "٣", "ß", "\U0001f600", "../..", "*")
_INTEGERS = ("<B", "<H", ">H", "<I", ">I", "<Q", ">Q")


class Mutator:
    """Changes inputs; all chance comes from rng."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._changes: tuple[Callable[[bytearray, bytes], object], ...] = (
            self._flip,
            self._flip,
            self._set,
            self._number,
            self._number,
            self._insert,
            self._delete,
            self._repeat,
            self._cut,
            self._splice,
            self._swap,
            self._digits,
        )

    def raw(self, data: bytes, other: bytes) -> bytes:
        """One to four changes of bytes; other: another valid input to take parts from."""
        changed = bytearray(data)
        for _ in range(self._rng.choice((1, 1, 1, 2, 2, 3, 4))):
            self._rng.choice(self._changes)(changed, other)
        return bytes(changed[:LONGEST])

    def json(self, data: bytes, other: bytes) -> bytes:
        """JSON that is canonical again after the change, most of the time."""
        try:
            tree, donor = json.loads(data), json.loads(other)
        except (ValueError, RecursionError):
            return self.raw(data, other)
        if self._rng.random() < 0.3:
            return self._twice(self.raw(data, other))
        for _ in range(self._rng.choice((1, 1, 2, 3))):
            tree = self._tree(tree, donor)
        return canonical(tree)[:LONGEST]

    def attributes(self, data: bytes, other: bytes, *, header: int) -> bytes:
        """Netlink messages, one after the other; header: bytes of the family's header in each."""
        if self._rng.random() < 0.4:
            return self.raw(data, other)
        messages, donors = _messages(data), _messages(other)
        if not messages or not donors:
            return self.raw(data, other)
        at = self._rng.randrange(len(messages))
        match self._rng.randrange(6):
            case 0:
                del messages[at]
            case 1:
                messages.insert(at, self._rng.choice(donors))
            case 2:
                messages += messages[at : at + 1] * self._rng.choice((1, 2, 50))
            case _:
                head, payload = messages[at][:16], messages[at][16:]
                donor = self._rng.choice(donors)[16 + header :]
                changed = payload[:header] + self._nest(payload[header:], donor, 0)
                messages[at] = struct.pack("=I", 16 + len(changed)) + head[4:] + changed
        return b"".join(one + b"\0" * (-len(one) % 4) for one in messages)[:LONGEST]

    # -- bytes -------------------------------------------------------------------------------------

    def _at(self, data: bytearray) -> int:
        return self._rng.randrange(len(data) + 1)

    def _span(self, data: bytes | bytearray) -> tuple[int, int]:
        start = self._rng.randrange(len(data) + 1)
        most = self._rng.choice((1, 4, 16, 64, 1024, len(data)))
        return start, min(len(data), start + self._rng.randint(0, max(1, most)))

    def _flip(self, data: bytearray, _: bytes) -> None:
        if data:
            data[self._rng.randrange(len(data))] ^= 1 << self._rng.randrange(8)

    def _set(self, data: bytearray, _: bytes) -> None:
        if data:
            data[self._rng.randrange(len(data))] = self._rng.choice((0, 1, 0x7F, 0x80, 0xFF, 0x22, 0x5C))

    def _number(self, data: bytearray, _: bytes) -> None:
        """A field of so many bytes: a length that lies, a count that is too high."""
        form = self._rng.choice(_INTEGERS)
        size = struct.calcsize(form)
        if len(data) < size:
            return
        at = self._rng.randrange(len(data) - size + 1)
        (old,) = struct.unpack_from(form, data, at)
        near = self._rng.choice((old + 1, old - 1, old * 2, old // 2, len(data), len(data) - at))
        value = self._rng.choice((near, self._rng.choice(NUMBERS)))
        struct.pack_into(form, data, at, value % (1 << 8 * size))

    def _insert(self, data: bytearray, _: bytes) -> None:
        at = self._at(data)
        data[at:at] = self._rng.choice(
            (self._rng.choice(PIECES), self._rng.randbytes(self._rng.randint(1, 9)))
        )

    def _delete(self, data: bytearray, _: bytes) -> None:
        start, end = self._span(data)
        del data[start:end]

    def _repeat(self, data: bytearray, _: bytes) -> None:
        start, end = self._span(data)
        times = min(self._rng.choice((1, 1, 2, 8, 64, 1000)), LONGEST // (end - start + 1))
        data[end:end] = bytes(data[start:end]) * times

    def _cut(self, data: bytearray, _: bytes) -> None:
        del data[self._at(data) :]

    def _splice(self, data: bytearray, other: bytes) -> None:
        start, end = self._span(data)
        first, last = self._span(other)
        data[start:end] = other[first:last]

    def _swap(self, data: bytearray, _: bytes) -> None:
        start, end = self._span(data)
        moved = bytes(data[start:end])
        del data[start:end]
        at = self._at(data)
        data[at:at] = moved

    def _digits(self, data: bytearray, _: bytes) -> None:
        """A number that is written out."""
        at = self._at(data)
        while at < len(data) and not 0x30 <= data[at] <= 0x39:
            at += 1
        end = at
        while end < len(data) and 0x30 <= data[end] <= 0x39:
            end += 1
        if end > at:
            data[at:end] = str(self._rng.choice(NUMBERS)).encode()

    # -- JSON --------------------------------------------------------------------------------------

    def _twice(self, data: bytes) -> bytes:
        """A key of an object once more, with another value; or nothing, where there is none."""
        end = data.find(b'":')
        start = data.rfind(b'"', 0, max(end, 0))
        if start < 0 or self._rng.random() < 0.5:
            return data
        return (
            data[:start] + data[start : end + 2] + self._rng.choice((b"null,", b"0,", b'"x",')) + data[start:]
        )

    def _tree(self, tree: Any, donor: Any) -> Any:
        """tree with one of its values changed, left out, doubled or renamed."""
        if isinstance(tree, dict) and tree and self._rng.random() < 0.9:
            key = self._rng.choice(list(tree))
            match self._rng.randrange(10):
                case 0:
                    return {name: value for name, value in tree.items() if name != key}
                case 1:
                    return tree | {self._rng.choice(("", "x", key.upper(), "x" * 3000)): tree[key]}
                case 2 if isinstance(donor, dict) and donor:
                    name = self._rng.choice(list(donor))
                    return tree | {name: donor[name]}
                case _:
                    below = donor.get(key) if isinstance(donor, dict) else donor
                    return tree | {key: self._tree(tree[key], below)}
        if isinstance(tree, list) and tree and self._rng.random() < 0.9:
            at = self._rng.randrange(len(tree))
            match self._rng.randrange(6):
                case 0:
                    return tree[:at] + tree[at + 1 :]
                case 1:
                    # of a list of lists of lists a few turns make more than any memory holds
                    times = min(self._rng.choice((2, 3, 65, 400)), LONGEST // len(canonical(tree)))
                    return tree[:at] + tree[at : at + 1] * times + tree[at + 1 :]
                case 2:
                    return tree[::-1]
                case _:
                    return [*tree[:at], self._tree(tree[at], donor), *tree[at + 1 :]]
        return self._value(tree, donor)

    def _value(self, value: Any, donor: Any) -> Any:
        match self._rng.randrange(12):
            case 0:
                return self._rng.choice((None, True, False, [], {}, "", 0.5, -0.0))
            case 1:
                return donor
            case 2:
                return self._deep(value)
            case 3 | 4 if isinstance(value, int):
                return value + self._rng.choice((1, -1, 1000, -1000, 60_000, 2**31, 2**63))
            case 3 | 4 | 5 | 6:
                return self._rng.choice(NUMBERS) if isinstance(value, int) else self._rng.choice(_TEXTS)
            case 7:
                return self._rng.choice(NUMBERS)
            case _ if isinstance(value, str):
                changed = bytearray(value.encode())
                self._rng.choice(self._changes)(changed, str(donor).encode(errors="replace"))
                return bytes(changed[:LONGEST]).decode(errors="replace")
            case _:
                return self._rng.choice(_TEXTS)

    def _deep(self, value: Any) -> Any:
        for _ in range(self._rng.choice((2, 30, 300, 980))):
            value = self._rng.choice(([value], {"a": value}))
        return value

    # -- netlink -----------------------------------------------------------------------------------

    def _nest(self, data: bytes, donor: bytes, depth: int) -> bytes:
        parts, others = _attributes(data), _attributes(donor)
        if not parts or depth > 6:
            return self.raw(data, donor)
        at = self._rng.randrange(len(parts))
        kind, value = parts[at]
        match self._rng.randrange(9):
            case 0:
                del parts[at]
            case 1:
                parts.insert(at, (kind, value))
            case 2 if others:
                parts.insert(at, self._rng.choice(others))
            case 3:
                parts[at] = (kind ^ (1 << self._rng.randrange(16)), value)
            case 4:
                parts[at] = (
                    kind,
                    self._rng.choice((b"", value[:1], value + b"\0", b"\xff" * 8, b"\xff\xfe\0")),
                )
            case _:
                parts[at] = (kind, self._nest(value, donor, depth + 1))
        return b"".join(_attribute(kind, value) for kind, value in parts)


def canonical(tree: Any) -> bytes:
    """As msgspec writes it: sorted, without spaces, UTF-8."""
    try:
        text = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    except (ValueError, RecursionError):  # a number of more digits than Python prints; deeper than json goes
        return b"[" * 2000
    return text.encode(errors="replace")


def _messages(datagram: bytes) -> list[bytes]:
    found, at = [], 0
    while at + 16 <= len(datagram):
        (length,) = struct.unpack_from("=I", datagram, at)
        if length < 16 or at + length > len(datagram):
            break
        found.append(datagram[at : at + length])
        at += (length + 3) & ~3
    return found


def _attributes(data: bytes) -> list[tuple[int, bytes]]:
    """Empty where data is not attributes from end to end."""
    found, at = [], 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4 or at + length > len(data):
            return []
        found.append((kind, data[at + 4 : at + length]))
        at += (length + 3) & ~3
    return found if at >= len(data) else []


def _attribute(kind: int, value: bytes) -> bytes:
    length = min(4 + len(value), 0xFFFF)
    return struct.pack("=HH", length, kind & 0xFFFF) + value + b"\0" * (-(4 + len(value)) % 4)
