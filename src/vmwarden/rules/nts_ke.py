# SPDX-License-Identifier: Apache-2.0
"""NTS key establishment: the records that pass inside TLS (RFC 8915 section 4)."""

import struct
from typing import NamedTuple

from vmwarden.errors import Malformed, TooLarge, UntrustedInput

#: TLS application protocol, and what the keys are exported under (RFC 8915 sections 4 and 4.2)
ALPN = b"ntske/1"
EXPORTER = b"EXPORTER-network-time-security"

# record types (RFC 8915 section 7.6)
END, NEXT_PROTOCOL, ERROR, WARNING, AEAD, COOKIE, SERVER, PORT = range(8)

#: protocol id of NTPv4 (RFC 8915 section 7.7)
NTPV4 = 0
#: AEAD_AES_SIV_CMAC_256, which every server has to know (RFC 8915 section 5.1), and its key's length in bytes
AES_SIV_CMAC_256, KEY_BYTES = 15, 32
#: context of the exporter: protocol, AEAD, and 0 for client to server, 1 for server to client (section 5.1)
CLIENT_TO_SERVER = struct.pack("!HHB", NTPV4, AES_SIV_CMAC_256, 0)
SERVER_TO_CLIENT = struct.pack("!HHB", NTPV4, AES_SIV_CMAC_256, 1)

#: cookies that are kept: as many as servers give (RFC 8915 section 4.1.6 recommends eight)
COOKIES = 8
#: bound on one cookie, bytes: chronyd's have 100; a request with a larger one would not fit a datagram
COOKIE_BYTES = 512
#: bound on a whole answer, bytes: eight cookies and a name are below 5000
ANSWER_BYTES = 1 << 14

_HEADER = struct.Struct("!HH")  # critical bit and type, length of the body
_CRITICAL = 0x8000
_ERRORS = ("unrecognized critical record", "bad request", "internal server error")


class Refused(UntrustedInput):
    """The server says that it will not, with the code in its words."""


class Established(NamedTuple):
    """server, port: where it sends its clients for the time; None = where they are, port 123."""

    cookies: tuple[bytes, ...]
    server: str | None = None
    port: int | None = None


def record(kind: int, body: bytes = b"", *, critical: bool = True) -> bytes:
    """One record as it stands on the wire."""
    return _HEADER.pack(kind | (_CRITICAL if critical else 0), len(body)) + body


def request() -> bytes:
    """What a client asks: NTPv4 with AES-SIV-CMAC-256, nothing else."""
    return (
        record(NEXT_PROTOCOL, struct.pack("!H", NTPV4))
        + record(AEAD, struct.pack("!H", AES_SIV_CMAC_256))
        + record(END)
    )


def read(data: bytes) -> Established | None:
    """What the server answers; None while its End of Message has not arrived.  What follows that is ignored.

    Raises TooLarge, Malformed, Refused; never another error, for any bytes.
    """
    at, said = 0, _Said()
    while True:
        if at + _HEADER.size > len(data):
            break
        kind, length = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        if at + length > len(data):
            break
        body, at = data[at : at + length], at + length
        if kind & ~_CRITICAL == END:
            return said.end(kind, body)
        said.take(kind & ~_CRITICAL, body, critical=bool(kind & _CRITICAL))
    if len(data) > ANSWER_BYTES:
        raise TooLarge(f"NTS-KE: more than {ANSWER_BYTES} bytes and no end")
    return None


class _Said:
    """The records of one answer, each at most as often as it may come."""

    def __init__(self) -> None:
        self._chosen: dict[int, int] = {}
        self._cookies: list[bytes] = []
        self._server: str | None = None

    def take(self, kind: int, body: bytes, *, critical: bool) -> None:
        if kind in (ERROR, WARNING):
            code = int.from_bytes(body[:2], "big")
            words = _ERRORS[code] if kind == ERROR and code < len(_ERRORS) else "a code of its own"
            raise Refused(f"NTS-KE: {'error' if kind == ERROR else 'warning'} {code}: {words}")
        if kind in (NEXT_PROTOCOL, AEAD, PORT):
            if len(body) != 2 or kind in self._chosen:
                raise Malformed(f"NTS-KE: not exactly one choice in records of type {kind}")
            self._chosen[kind] = int.from_bytes(body, "big")
        elif kind == COOKIE:
            if not 1 <= len(body) <= COOKIE_BYTES:
                raise Malformed(f"NTS-KE: a cookie of {len(body)} bytes")
            if len(self._cookies) < COOKIES:
                self._cookies.append(body)
        elif kind == SERVER:
            if self._server is not None or not 1 <= len(body) <= 255 or not _plain(body):
                raise Malformed("NTS-KE: the name of the server is none")
            self._server = body.decode("ascii")
        elif critical:
            raise Malformed(f"NTS-KE: a critical record of the unknown type {kind}")

    def end(self, kind: int, body: bytes) -> Established:
        if not kind & _CRITICAL or body:
            raise Malformed("NTS-KE: an End of Message that is none")
        if self._chosen.get(NEXT_PROTOCOL) != NTPV4:
            raise Malformed("NTS-KE: the server does not offer NTPv4")
        if self._chosen.get(AEAD) != AES_SIV_CMAC_256:
            raise Malformed("NTS-KE: the server chose another algorithm than AES-SIV-CMAC-256")
        if not self._cookies:
            raise Malformed("NTS-KE: no cookie")
        return Established(tuple(self._cookies), self._server, self._chosen.get(PORT))


def _plain(body: bytes) -> bool:
    return all(0x21 <= byte < 0x7F for byte in body)
