# SPDX-License-Identifier: Apache-2.0
"""Targets: what time servers say, what is between them and us, and the process that does TLS."""

import struct
from collections.abc import Sequence
from functools import cache

from tests.fuzz.engine import Target
from tests.fuzz.messages import NOW
from vmwarden.errors import UntrustedInput
from vmwarden.linux import tls_session
from vmwarden.linux.tls_program import FAILED, PLAIN, PROVEN, PROVEN_HEAD, SEND
from vmwarden.ports.tls import Proven
from vmwarden.rules import canonical, certificate, nts, nts_ke
from vmwarden.rules.certificate import Period

_KEY = bytes(range(32))
_UNIQUE = bytes(range(100, 132))
_TRANSMIT = 0x0123_4567_89AB_CDEF
_STAMP = nts.timestamp(NOW.utc_ms)


def _header(**more: object) -> nts.Header:
    header = nts.Header(
        leap=0, version=4, mode=nts.SERVER, stratum=1, origin=_TRANSMIT, receive=_STAMP, transmit=_STAMP
    )
    return header._replace(**more)  # type: ignore[arg-type]


def _answer(header: nts.Header, *, key: bytes = _KEY, unique: bytes = _UNIQUE) -> bytes:
    packet = nts.pack(header) + nts.field(nts.UNIQUE_IDENTIFIER, unique)
    cookies = b"".join(nts.field(nts.COOKIE, bytes([n]) * 100) for n in range(3))
    return packet + nts.authenticator(key, packet, nonce=bytes(16), plaintext=cookies)


def _answers() -> Sequence[bytes]:
    nak = nts.pack(_header(stratum=0, reference_id=b"NTSN")) + nts.field(nts.UNIQUE_IDENTIFIER, _UNIQUE)
    return [
        _answer(_header()),
        _answer(_header(stratum=0, reference_id=b"RATE")),
        _answer(_header(leap=3, stratum=16, root_delay=1 << 31, root_dispersion=1 << 31)),
        _answer(_header(), key=bytes(32)),
        _answer(_header(origin=1)),
        nak,
    ]


@cache
def _genuine() -> tuple[nts.Answer, ...]:
    whole = _answers()[:3]
    return tuple(nts.read(one, key=_KEY, unique=_UNIQUE, transmit=_TRANSMIT) for one in whole)


def _read_answer(data: bytes) -> None:
    answer = nts.read(data, key=_KEY, unique=_UNIQUE, transmit=_TRANSMIT)
    # what is padded or appended is not authenticated, and not read
    if answer not in _genuine():
        raise AssertionError("a changed answer is authentic")
    assert nts.milliseconds(answer.header.transmit, near_ms=NOW.utc_ms) >= 0
    canonical.encode((answer.header.kiss, answer.header.root_distance_ms))


def _inside(data: bytes) -> None:
    """A server that has the keys may seal anything."""
    packet = nts.pack(_header()) + nts.field(nts.UNIQUE_IDENTIFIER, _UNIQUE)
    sealed = packet + nts.authenticator(_KEY, packet, nonce=bytes(16), plaintext=data[:9_000])
    nts.read(sealed, key=_KEY, unique=_UNIQUE, transmit=_TRANSMIT)


def _records() -> Sequence[bytes]:
    begin = nts_ke.record(nts_ke.NEXT_PROTOCOL, bytes(2)) + nts_ke.record(nts_ke.AEAD, b"\0\x0f")
    cookies = b"".join(nts_ke.record(nts_ke.COOKIE, bytes([n]) * 100, critical=False) for n in range(8))
    where = nts_ke.record(nts_ke.SERVER, b"time.test") + nts_ke.record(nts_ke.PORT, b"\0\x7b")
    end = nts_ke.record(nts_ke.END)
    return [begin + cookies + end, begin + cookies + where + end, nts_ke.record(nts_ke.ERROR, b"\0\1") + end]


def _read_records(data: bytes) -> None:
    found = nts_ke.read(data)
    if found is not None:
        assert 1 <= len(found.cookies) <= nts_ke.COOKIES
        canonical.encode((found.server, found.port))


def _tls(data: bytes) -> None:
    said = tls_session._read(data)
    if isinstance(said, Proven):
        certificate.pin(said.spki)
        Period(said.not_before_ms, said.not_after_ms).possible(NOW.utc_ms)
        assert [len(key) for key in said.keys] == [32, 32]


def _said() -> Sequence[bytes]:
    head = PROVEN_HEAD.pack(0, NOW.utc_ms, bytes(32), bytes(32))
    return [SEND + b"hello", PLAIN + _records()[0], PROVEN + head + b"\x30" * 91, FAILED + b"authority no"]


TARGETS = (
    Target(
        name="time-answer", seeds=_answers, run=_read_answer, raises=(UntrustedInput,), counts=(700, 150_000)
    ),
    Target(
        name="time-answer-sealed",
        seeds=lambda: [nts.field(nts.COOKIE, bytes(100)), struct.pack("!HH", nts.COOKIE, 4)],
        run=_inside,
        raises=(UntrustedInput,),
        counts=(400, 100_000),
    ),
    Target(
        name="time-keys", seeds=_records, run=_read_records, raises=(UntrustedInput,), counts=(1_000, 400_000)
    ),
    Target(name="time-tls", seeds=_said, run=_tls, counts=(1_000, 400_000)),
)
