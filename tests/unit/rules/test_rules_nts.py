# SPDX-License-Identifier: Apache-2.0
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from vmwarden.errors import BadSignature, Malformed, WrongAudience
from vmwarden.rules import nts
from vmwarden.rules.instant import milliseconds

KEY, OTHER = bytes(range(32)), bytes(32)
UNIQUE, TRANSMIT = b"u" * 32, 0x1122334455667788
COOKIE = b"c" * 100


def question(**changes: object) -> bytes:
    given: dict[str, object] = {
        "key": KEY,
        "unique": UNIQUE,
        "cookie": COOKIE,
        "held": 7,
        "transmit": TRANSMIT,
        "nonce": b"n" * 16,
    }
    return nts.request(**(given | changes))  # type: ignore[arg-type]


def answer(*, key: bytes = KEY, inside: bytes = b"", after: bytes = b"", **header: object) -> bytes:
    given: dict[str, object] = {"leap": 0, "version": 4, "mode": 4, "stratum": 1, "origin": TRANSMIT}
    packet = nts.pack(nts.Header(**(given | header)))  # type: ignore[arg-type]
    packet += nts.field(nts.UNIQUE_IDENTIFIER, UNIQUE)
    return packet + nts.authenticator(key, packet, nonce=b"m" * 16, plaintext=inside) + after


def read(data: bytes) -> nts.Answer:
    return nts.read(data, key=KEY, unique=UNIQUE, transmit=TRANSMIT)


def test_aes_siv_as_rfc_5297_has_it_with_a_nonce() -> None:
    """Appendix A.2: two strings and a nonce as associated data."""
    key = "7f7e7d7c7b7a79787776757473727170404142434445464748494a4b4c4d4e4f"
    associated = (
        "00112233445566778899aabbccddeeffdeaddadadeaddadaffeeddccbbaa99887766554433221100",
        "102030405060708090a0",
        "09f911029d74e35bd84156c5635688c0",
    )
    sealed = AESSIV(bytes.fromhex(key)).encrypt(
        b"this is some plaintext to encrypt using SIV-AES", [bytes.fromhex(text) for text in associated]
    )
    assert sealed.hex() == (
        "7bdb6e3b432667eb06f4d14bff2fbd0fcb900f2fddbe404326601965c889bf17"
        "dba77ceb094fa663b7a3f748ba8af829ea64ad544a272e9c485b62a3fd5c0d"
    )


def test_aes_siv_as_rfc_5297_has_it_without() -> None:
    """Appendix A.1."""
    key = "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"
    associated = "101112131415161718191a1b1c1d1e1f2021222324252627"
    sealed = AESSIV(bytes.fromhex(key)).encrypt(
        bytes.fromhex("112233445566778899aabbccddee"), [bytes.fromhex(associated)]
    )
    assert sealed.hex() == "85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c"


def test_a_question_is_laid_out_as_rfc_8915_section_5_has_it() -> None:
    data = question()
    assert data[:1] == b"\x23"  # leap 0, version 4, client
    assert data[1:40] == bytes(39)  # nothing of our clock
    assert int.from_bytes(data[40:48], "big") == TRANSMIT
    assert data[48:52] == bytes.fromhex("01040024")
    assert data[52:84] == UNIQUE
    assert data[84:88] == bytes.fromhex("02040068")
    assert data[88:188] == COOKIE
    # nonce and ciphertext of 16 bytes each: an empty plaintext is only its tag
    assert data[188:196] == bytes.fromhex("0404002800100010")
    assert len(data) == 228 == len(data) // 4 * 4
    assert AESSIV(KEY).decrypt(data[212:], [data[:188], data[196:212]]) == b""


@pytest.mark.parametrize(
    ("held", "size", "asked"), [(7, 100, 0), (6, 100, 1), (0, 100, 7), (0, 200, 3), (0, 500, 0), (9, 100, 0)]
)
def test_as_many_cookies_are_asked_for_as_make_eight_and_fit(held: int, size: int, asked: int) -> None:
    data = question(held=held, cookie=b"c" * size)
    kinds = [kind for _, kind, _ in nts.fields(data[48:])]
    assert kinds.count(nts.PLACEHOLDER) == asked
    assert {len(b) for _, k, b in nts.fields(data[48:]) if k in (nts.COOKIE, nts.PLACEHOLDER)} == {size}
    assert len(data) <= 1232  # the least MTU of IPv6 without its headers


def test_an_answer_gives_time_and_cookies() -> None:
    cookies = (
        nts.field(nts.COOKIE, b"1" * 100) + nts.field(0x7777, b"?" * 4) + nts.field(nts.COOKIE, b"2" * 96)
    )
    found = read(answer(inside=cookies, transmit=5, root_delay=6, reference_id=b"GPS\0"))
    assert found.cookies == (b"1" * 100, b"2" * 96)
    assert (found.header.transmit, found.header.root_delay, found.header.kiss) == (5, 6, "")


def test_what_follows_the_authenticator_is_not_read() -> None:
    assert read(answer(after=nts.field(nts.COOKIE, b"x" * 100))).cookies == ()
    assert read(answer(after=b"garbage")).cookies == ()


def test_cookies_that_stand_outside_are_none() -> None:
    packet = nts.pack(nts.Header(leap=0, version=4, mode=4, stratum=1, origin=TRANSMIT))
    packet += nts.field(nts.UNIQUE_IDENTIFIER, UNIQUE) + nts.field(nts.COOKIE, b"x" * 100)
    assert read(packet + nts.authenticator(KEY, packet, nonce=b"m" * 16)).cookies == ()


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", Malformed),
        (answer()[:47], Malformed),
        (answer(mode=3), Malformed),
        (answer(version=3), Malformed),
        (answer() + bytes(nts.DATAGRAM_BYTES), Malformed),
        (answer(origin=TRANSMIT + 1), WrongAudience),
        (answer()[:48], BadSignature),
        (answer()[:84], BadSignature),
        (answer(key=OTHER), BadSignature),
        (question(), Malformed),
    ],
)
def test_what_is_no_answer(data: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        read(data)


@pytest.mark.parametrize("bit", range(0, 48 * 8 + 36 * 8, 7))
def test_every_bit_before_the_authenticator_is_authenticated(bit: int) -> None:
    data = bytearray(answer(inside=nts.field(nts.COOKIE, COOKIE)))
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises((BadSignature, WrongAudience, Malformed)):
        read(bytes(data))


def test_an_identifier_behind_the_authenticator_is_none() -> None:
    packet = nts.pack(nts.Header(leap=0, version=4, mode=4, stratum=1, origin=TRANSMIT))
    data = packet + nts.authenticator(KEY, packet, nonce=b"m" * 16)
    with pytest.raises(BadSignature):
        read(data + nts.field(nts.UNIQUE_IDENTIFIER, UNIQUE))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0\x10\0\x10",
        b"\0\0\0\x10" + bytes(16),
        b"\0\x10\0\x0f" + bytes(32),
        b"\xff\xff\xff\xff" + bytes(64),
    ],
)
def test_an_authenticator_that_is_none(body: bytes) -> None:
    packet = answer()[:84] + nts.field(nts.AUTHENTICATOR, body.ljust(12, b"\0"))
    with pytest.raises(BadSignature):
        read(packet)


def test_a_nak_needs_our_identifier_and_nothing_else() -> None:
    kiss = nts.pack(nts.Header(leap=3, version=4, mode=4, stratum=0, reference_id=b"NTSN", origin=TRANSMIT))
    with pytest.raises(nts.Nak):
        read(kiss + nts.field(nts.UNIQUE_IDENTIFIER, UNIQUE))
    with pytest.raises(BadSignature):
        read(kiss)
    with pytest.raises(WrongAudience):
        read(kiss + nts.field(nts.UNIQUE_IDENTIFIER, b"v" * 32))


def test_other_kisses_have_to_be_authenticated() -> None:
    assert read(answer(stratum=0, reference_id=b"RATE")).header.kiss == "RATE"
    with pytest.raises(BadSignature):
        read(answer(stratum=0, reference_id=b"RATE")[:84])
    assert read(answer(stratum=0, reference_id=b"\x1b[2J")).header.kiss == "?[2J"


@pytest.mark.parametrize("length", [0, 3, 4, 5, 12, 15])
def test_a_field_whose_length_cannot_be(length: int) -> None:
    with pytest.raises(Malformed):
        read(answer()[:48] + b"\1\4" + length.to_bytes(2, "big") + bytes(28))


@pytest.mark.parametrize(
    ("seconds", "near", "text"),
    [
        (3_913_056_000, "2026-01-01T00:00Z", "2024-01-01T00:00Z"),
        (2_085_978_496 + 2_208_988_800 - 1, "2026-01-01T00:00Z", "2036-02-07T06:28:15Z"),
        (0, "2026-01-01T00:00Z", "2036-02-07T06:28:16Z"),
        (0, "1960-01-01T00:00Z", "1900-01-01T00:00Z"),
        (1_000_000_000, "2026-01-01T00:00Z", "2067-10-16T08:14:56Z"),
    ],
)
def test_the_era_is_the_one_nearest(seconds: int, near: str, text: str) -> None:
    """RFC 5905 section 6: era 1 begins on 2036-02-07 at 06:28:16."""
    assert nts.milliseconds(seconds << 32, near_ms=milliseconds(near)) == milliseconds(text)


def test_a_timestamp_is_cut_off_and_comes_back() -> None:
    for ms in (0, 1, 999, 1_795_435_200_123, 2_085_978_495_999, 2_085_978_496_000):
        assert nts.milliseconds(nts.timestamp(ms), near_ms=ms) == ms
    assert nts.milliseconds(nts.timestamp(5) - 1, near_ms=0) == 4


def test_root_distance_is_half_the_delay_and_the_dispersion_rounded_up() -> None:
    """RFC 5905 section 10; both are in units of 2**-16 s."""
    header = nts.Header(leap=0, version=4, mode=4, stratum=1)
    assert header.root_distance_ms == 0
    assert header._replace(root_delay=1 << 16).root_distance_ms == 500
    assert header._replace(root_dispersion=1).root_distance_ms == 1
    assert header._replace(root_delay=1 << 15, root_dispersion=1 << 14).root_distance_ms == 500
