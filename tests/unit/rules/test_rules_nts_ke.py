# SPDX-License-Identifier: Apache-2.0
import pytest

from vmwarden.errors import Malformed, TooLarge
from vmwarden.rules import nts_ke
from vmwarden.rules.nts_ke import AEAD, COOKIE, END, ERROR, NEXT_PROTOCOL, PORT, SERVER, WARNING, record

PROTOCOL, ALGORITHM = record(NEXT_PROTOCOL, b"\0\0"), record(AEAD, b"\0\x0f")
GOOD = PROTOCOL + ALGORITHM + record(COOKIE, b"c" * 100, critical=False)


def test_a_request_as_rfc_8915_section_4_has_it() -> None:
    # Next Protocol Negotiation: NTPv4; AEAD: 15; End of Message; all critical
    assert nts_ke.request().hex() == "80010002000080040002000f80000000"


def test_the_contexts_of_both_keys_as_rfc_8915_section_5_1_has_them() -> None:
    assert nts_ke.CLIENT_TO_SERVER.hex() == "0000000f00"
    assert nts_ke.SERVER_TO_CLIENT.hex() == "0000000f01"


def test_an_answer() -> None:
    cookies = b"".join(record(COOKIE, bytes((n,)) * 100, critical=False) for n in range(8))
    data = PROTOCOL + record(AEAD, b"\0\x0f", critical=False) + cookies
    data += record(SERVER, b"192.0.2.7") + record(PORT, b"\x10\x01") + record(END)
    found = nts_ke.read(data)
    assert found == nts_ke.Established(tuple(bytes((n,)) * 100 for n in range(8)), "192.0.2.7", 4097)


def test_it_is_not_over_before_its_end_and_what_follows_is_ignored() -> None:
    data = GOOD + record(END)
    for cut in range(len(data)):
        assert nts_ke.read(data[:cut]) is None
    assert nts_ke.read(data) == nts_ke.read(data + record(ERROR, b"\0\0"))


def test_more_cookies_than_are_kept() -> None:
    found = nts_ke.read(GOOD * 1 + record(COOKIE, b"d") * 20 + record(END))
    assert found is not None
    assert len(found.cookies) == 8


def test_records_that_nobody_knows_are_skipped_unless_critical() -> None:
    assert nts_ke.read(GOOD + record(99, b"?", critical=False) + record(END)) is not None
    with pytest.raises(Malformed, match="unknown type 99"):
        nts_ke.read(GOOD + record(99, b"?") + record(END))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (record(ERROR, b"\0\0"), "unrecognized critical record"),
        (record(ERROR, b"\0\1"), "bad request"),
        (record(ERROR, b"\0\2"), "internal server error"),
        (record(ERROR, b"\0\3"), "a code of its own"),
        (record(ERROR), "unrecognized"),
        (record(WARNING, b"\0\0"), "warning 0: a code of its own"),
    ],
)
def test_errors_and_warnings_are_refusals(data: bytes, said: str) -> None:
    with pytest.raises(nts_ke.Refused, match=said):
        nts_ke.read(PROTOCOL + data)


@pytest.mark.parametrize(
    "data",
    [
        record(END),
        PROTOCOL + ALGORITHM + record(END),
        ALGORITHM + record(COOKIE, b"c") + record(END),
        PROTOCOL + record(COOKIE, b"c") + record(END),
        GOOD + PROTOCOL + record(END),
        GOOD + ALGORITHM + record(END),
        record(NEXT_PROTOCOL, b"\0\1") + ALGORITHM + record(COOKIE, b"c") + record(END),
        record(NEXT_PROTOCOL, b"") + ALGORITHM + record(COOKIE, b"c") + record(END),
        PROTOCOL + record(AEAD, b"\0\x11") + record(COOKIE, b"c") + record(END),
        PROTOCOL + record(AEAD, b"\0\x0f\0\x11") + record(COOKIE, b"c") + record(END),
        GOOD + record(COOKIE, b"") + record(END),
        GOOD + record(COOKIE, bytes(513)) + record(END),
        GOOD + record(SERVER, b"") + record(END),
        GOOD + record(SERVER, b"a b") + record(END),
        GOOD + record(SERVER, b"a\n") + record(END),
        GOOD + record(SERVER, b"\xff") + record(END),
        GOOD + record(SERVER, b"a" * 256) + record(END),
        GOOD + record(SERVER, b"a") * 2 + record(END),
        GOOD + record(PORT, b"\0") + record(END),
        GOOD + record(PORT, b"\0\x7b") * 2 + record(END),
        GOOD + record(END, b"x"),
        GOOD + record(END, critical=False),
    ],
)
def test_what_is_no_answer(data: bytes) -> None:
    with pytest.raises(Malformed):
        nts_ke.read(data)


def test_an_answer_that_never_ends() -> None:
    data = GOOD + record(99, bytes(60_000), critical=False)
    assert nts_ke.read(data[: nts_ke.ANSWER_BYTES]) is None
    with pytest.raises(TooLarge):
        nts_ke.read(data)
