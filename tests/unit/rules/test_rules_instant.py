# SPDX-License-Identifier: Apache-2.0
import pytest

from vmwarden.errors import Malformed
from vmwarden.rules import instant


@pytest.mark.parametrize(
    ("text", "utc_ms"),
    [
        ("1970-01-01T00:00Z", 0),
        ("1970-01-01T01:00:01+01:00", 1000),
        ("1969-12-31T23:59:59Z", -1000),
        ("2026-11-01T00:00-05:30", 1793511000000),
        ("9999-12-31T23:59:59Z", 253402300799000),
    ],
)
def test_instants(text: str, utc_ms: int) -> None:
    assert instant.milliseconds(text) == utc_ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-01",
        "2026-11-01T00:00",
        "2026-11-01 00:00Z",
        "2026-11-01T00:00Z\n",
        "2026-02-29T00:00Z",
        "2026-11-01T24:01Z",
        "2026-11-01T00:00+25:00",
        "0000-01-01T00:00Z",
        "2026-11-01T00:00:00.5Z",
        "٢026-11-01T00:00Z",
    ],
)
def test_what_no_calendar_has_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        instant.milliseconds(text)


def test_text_is_read_back_and_never_fails() -> None:
    assert instant.text(1793511000000) == "2026-11-01T05:30:00Z"
    assert instant.text(999) == "1970-01-01T00:00:00Z"
    assert instant.text(10**18) == f"{10**18} ms since 1970"
