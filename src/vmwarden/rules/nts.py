# SPDX-License-Identifier: Apache-2.0
"""NTPv4 with NTS: one question and its answer, each one datagram (RFC 5905 section 7, RFC 8915 section 5)."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from vmwarden.errors import BadSignature, Malformed, UntrustedInput, WrongAudience

# types of extension fields (RFC 8915 section 7.5)
UNIQUE_IDENTIFIER, COOKIE, PLACEHOLDER, AUTHENTICATOR = 0x0104, 0x0204, 0x0304, 0x0404

#: modes and version (RFC 5905 section 7.3)
CLIENT, SERVER, VERSION = 3, 4, 4
#: leap indicator of a clock that is not synchronized; stratum of a kiss, and the first of no clock
UNSYNCHRONIZED, KISS, NO_CLOCK = 3, 0, 16
#: kiss code of a server that cannot read the cookie (RFC 8915 section 5.7); it cannot be authenticated
NAK = "NTSN"

#: random bytes for one question: its identifier (RFC 8915 section 5.3: at least 32), the nonce (section 5.6)
UNIQUE_BYTES, NONCE_BYTES = 32, 16
#: bound on a datagram that is read, bytes: an answer is no longer than its question
DATAGRAM_BYTES = 2048
#: cookies and placeholders of one question, bytes: with the rest it stays below the least MTU of IPv6
COOKIES_BYTES = 900

_PACKET = struct.Struct("!BBbbII4sQQQQ")
_FIELD = struct.Struct("!HH")  # type, length of the whole field
_LENGTHS = struct.Struct("!HH")  # of nonce and ciphertext
#: shortest extension field outside the encryption (RFC 7822 section 3)
_LEAST_FIELD = 16
#: seconds from NTP's first era (1900) to 1970, and of an era (RFC 5905 section 6)
_TO_UNIX = 2_208_988_800
_ERA = 1 << 32


class Nak(UntrustedInput):
    """The server cannot read our cookie, or somebody on the way says so: nothing of it is authenticated."""


class Header(NamedTuple):
    """The 48 bytes of every NTP packet; timestamps as 64 bits, delay and dispersion as 32 (RFC 5905, 7.3)."""

    leap: int
    version: int
    mode: int
    stratum: int
    poll: int = 0
    precision: int = 0
    root_delay: int = 0
    root_dispersion: int = 0
    reference_id: bytes = bytes(4)
    reference: int = 0
    origin: int = 0
    receive: int = 0
    transmit: int = 0

    @property
    def kiss(self) -> str:
        """The kiss code, "" where it is none."""
        if self.stratum != KISS:
            return ""
        return "".join(chr(byte) if 0x20 < byte < 0x7F else "?" for byte in self.reference_id)

    @property
    def root_distance_ms(self) -> int:
        """How far its clock may be off from the primary one, rounded up (RFC 5905 section 10)."""
        return -(-(self.root_delay // 2 + self.root_delay % 2 + self.root_dispersion) * 1000 // (1 << 16))


class Answer(NamedTuple):
    """What a server says; authenticated, and in answer to this very question."""

    header: Header
    cookies: tuple[bytes, ...]


def pack(header: Header) -> bytes:
    """Its 48 bytes."""
    first = header.leap << 6 | header.version << 3 | header.mode
    return _PACKET.pack(first, *header[3:])


def unpack(data: bytes) -> Header:
    """The header of a packet.  Raises Malformed."""
    if len(data) < _PACKET.size:
        raise Malformed(f"NTP: {len(data)} bytes are no packet")
    first, *rest = _PACKET.unpack_from(data)
    return Header(first >> 6, first >> 3 & 7, first & 7, *rest)


def field(kind: int, body: bytes) -> bytes:
    """One extension field, padded to four bytes."""
    body += bytes(-len(body) % 4)
    return _FIELD.pack(kind, _FIELD.size + len(body)) + body


def fields(data: bytes, *, least: int = _FIELD.size) -> Iterator[tuple[int, int, bytes]]:
    """(where it begins, type, body) of each extension field in data.  Raises Malformed."""
    at = 0
    while at < len(data):
        if at + _FIELD.size > len(data):
            raise Malformed("NTP: cut off within an extension field")
        kind, length = _FIELD.unpack_from(data, at)
        if length < max(least, _FIELD.size) or length % 4 or at + length > len(data):
            raise Malformed(f"NTP: an extension field of length {length}")
        yield at, kind, data[at + _FIELD.size : at + length]
        at += length


def authenticator(key: bytes, before: bytes, *, nonce: bytes, plaintext: bytes = b"") -> bytes:
    """The field that authenticates all that stands before it and hides plaintext (RFC 8915 section 5.6)."""
    sealed = AESSIV(key).encrypt(plaintext, [before, nonce])
    return field(
        AUTHENTICATOR,
        _LENGTHS.pack(len(nonce), len(sealed)) + nonce + bytes(-len(nonce) % 4) + sealed,
    )


def request(*, key: bytes, unique: bytes, cookie: bytes, held: int, transmit: int, nonce: bytes) -> bytes:
    """A question.  key: client to server.  held: cookies left beside this one; as many more are asked for as
    make it eight, if they fit.

    transmit is random: it tells nothing of our clock, and only an answer to this question repeats it.
    """
    cookie_field = field(COOKIE, cookie)
    wanted = max(0, min(8 - held, COOKIES_BYTES // len(cookie_field)) - 1)
    packet = pack(Header(leap=0, version=VERSION, mode=CLIENT, stratum=0, transmit=transmit))
    packet += field(UNIQUE_IDENTIFIER, unique) + cookie_field
    packet += field(PLACEHOLDER, bytes(len(cookie_field) - _FIELD.size)) * wanted
    return packet + authenticator(key, packet, nonce=nonce)


def read(data: bytes, *, key: bytes, unique: bytes, transmit: int) -> Answer:
    """The answer to the question with that identifier and transmit timestamp.  key: server to client.

    What follows the authenticator is not authenticated and not read.  Raises Malformed; WrongAudience: in
    answer to another question; Nak; BadSignature: not authenticated, or not by that server.  Never another
    error, for any bytes.
    """
    if len(data) > DATAGRAM_BYTES:
        raise Malformed(f"NTP: {len(data)} bytes are no answer")
    header = unpack(data)
    if header.version != VERSION or header.mode != SERVER:
        raise Malformed(f"NTP: version {header.version}, mode {header.mode}: no answer of a server")
    if header.origin != transmit:
        raise WrongAudience("NTP: the answer to another question")
    named = False
    for at, kind, body in fields(data[_PACKET.size :], least=_LEAST_FIELD):
        if kind == UNIQUE_IDENTIFIER:
            if body != unique:
                raise WrongAudience("NTS: the answer to another question")
            named = True
        elif kind == AUTHENTICATOR:
            if not named:
                raise BadSignature("NTS: no unique identifier is authenticated")
            inside = _unsealed(key, data[: _PACKET.size + at], body)
            return Answer(header, tuple(body for _, kind, body in fields(inside) if kind == COOKIE))
    if named and header.kiss == NAK:
        raise Nak("NTS: the server cannot read our cookie any more")
    raise BadSignature("NTS: the answer is not authenticated")


def milliseconds(timestamp: int, *, near_ms: int) -> int:
    """Of a 64-bit timestamp: milliseconds since 1970, cut off, in the era that brings it nearest to near_ms.

    The first era ends on 2036-02-07 (RFC 5905 section 6).
    """
    seconds, fraction = timestamp >> 32, timestamp & (_ERA - 1)
    since_1970 = (seconds - _TO_UNIX) * 1000 + (fraction * 1000 >> 32)
    era_ms = _ERA * 1000
    return since_1970 + (2 * (near_ms - since_1970) + era_ms) // (2 * era_ms) * era_ms


def timestamp(unix_ms: int) -> int:
    """The 64 bits of an instant, whatever its era."""
    seconds, rest = divmod(unix_ms, 1000)
    return (seconds + _TO_UNIX) % _ERA << 32 | -(-(rest << 32) // 1000)


def _unsealed(key: bytes, before: bytes, body: bytes) -> bytes:
    if len(body) < _LENGTHS.size:
        raise BadSignature("NTS: an authenticator that is none")
    nonce_length, length = _LENGTHS.unpack_from(body)
    start = _LENGTHS.size + nonce_length + -nonce_length % 4
    sealed = body[start : start + length]
    if not nonce_length or len(sealed) != length or length < 16:
        raise BadSignature("NTS: an authenticator that is none")
    nonce = body[_LENGTHS.size : _LENGTHS.size + nonce_length]
    try:
        return AESSIV(key).decrypt(sealed, [before, nonce])
    except (InvalidTag, ValueError) as error:
        raise BadSignature("NTS: not authentic: changed on its way, or sent by another") from error
