# SPDX-License-Identifier: Apache-2.0
"""Files of tzdata are read as zoneinfo reads them, in every zone of this machine."""

import struct
import zoneinfo
from datetime import UTC, datetime, timedelta

import pytest

from vmwarden.errors import Malformed
from vmwarden.linux.tzdata import Tzdata
from vmwarden.rules.calendar import tzif, yearly
from vmwarden.rules.calendar.zone import Zone

TZDATA = Tzdata()
FIRST, LAST = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (1910, 2101))


@pytest.fixture(scope="module")
def zones() -> list[Zone]:
    """Each once: many names are links."""
    names = sorted(zoneinfo.available_timezones() - {"localtime", "Factory"})
    found = {(zone.instants, zone.offsets, zone.yearly): zone for zone in map(TZDATA.zone, names)}
    assert len(found) > 300
    return list(found.values())


def said(reader: zoneinfo.ZoneInfo, utc_s: int) -> int:
    offset = datetime.fromtimestamp(utc_s, reader).utcoffset()
    assert offset is not None
    return int(offset / timedelta(seconds=1))


def test_every_zone_changes_when_zoneinfo_says(zones: list[Zone]) -> None:
    for zone in zones:
        reader = zoneinfo.ZoneInfo(zone.name)
        for begins, ends, offset in zone.stretches(FIRST, LAST):
            seconds = (begins, (begins + ends) // 2, ends - 1)
            assert [said(reader, second) for second in seconds] == [offset] * 3, (zone.name, begins, ends)


def test_every_zone_is_never_changed_in_between(zones: list[Zone]) -> None:
    for zone in zones:
        reader = zoneinfo.ZoneInfo(zone.name)
        for second in range(FIRST, LAST, 127 * 86_400 + 4567):
            assert zone.offset(second) == said(reader, second), (zone.name, second)


def test_offsets_and_stretches_say_the_same_far_beyond_the_table() -> None:
    for name in ("Europe/Berlin", "Australia/Lord_Howe", "America/Santiago", "Africa/Casablanca", "UTC"):
        zone, reader = TZDATA.zone(name), zoneinfo.ZoneInfo(name)
        begins = int(datetime(2400, 1, 1, tzinfo=UTC).timestamp())
        for first, last, offset in zone.stretches(begins, begins + 5 * 366 * 86_400):
            for second in (first, last - 1):
                assert zone.offset(second) == offset == said(reader, second)


@pytest.mark.parametrize(
    ("text", "year", "expected"),
    [
        ("CET-1CEST,M3.5.0,M10.5.0/3", 2026, ["2026-03-29T01:00 7200", "2026-10-25T01:00 3600"]),
        ("IST-1GMT0,M10.5.0,M3.5.0/1", 2026, ["2026-03-29T01:00 3600", "2026-10-25T01:00 0"]),
        ("<-02>2<-01>,M3.5.0/-1,M10.5.0/0", 2026, ["2026-03-29T01:00 -3600", "2026-10-25T01:00 -7200"]),
        ("IST-2IDT,M3.4.4/26,M10.5.0", 2026, ["2026-03-27T00:00 10800", "2026-10-24T23:00 7200"]),
        ("<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", 2026, ["2026-04-04T15:00 37800", "2026-10-03T15:30 39600"]),
        ("AAA3BBB,J60/0,J365/0", 2024, ["2024-03-01T03:00 -7200", "2024-12-31T02:00 -10800"]),
        ("AAA3BBB,J60/0,J365/0", 2026, ["2026-03-01T03:00 -7200", "2026-12-31T02:00 -10800"]),
        ("AAA3BBB,59/0,364", 2024, ["2024-02-29T03:00 -7200", "2024-12-30T04:00 -10800"]),
    ],
)
def test_rules_that_come_back_every_year(text: str, year: int, expected: list[str]) -> None:
    rule = yearly.parse(text)
    assert isinstance(rule, yearly.Yearly)

    changes = yearly.changes(rule, year)
    told = [f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M} {offset}" for at, offset in changes]
    assert told == expected


def test_summer_all_year_is_one_offset() -> None:
    """RFC 9636, 3.3.1: such a rule says that summer begins when it ends."""
    rule = yearly.parse("EST5EDT,0/0,J365/25")
    assert isinstance(rule, yearly.Yearly)
    begins = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
    zone = Zone("Test/Summer", (), (0,), rule)

    assert {zone.offset(begins + hour * 1800) for hour in range(2 * 24 * 366)} == {-4 * 3600}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "CET",
        "-1",
        "CET-1CEST",
        "CET-1CEST,M3.5.0",
        "CET-1CEST,M13.5.0,M10.5.0",
        "CET-1CEST,M3.6.0,M10.5.0",
        "CET-1CEST,J0,J365",
        "CET-1CEST,366,1",
        "CET-1CEST,M3.5.0/168,M10.5.0",
        "C-1",
        "CET-1\n",
    ],
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        yearly.parse(text)


def made(
    *, footer: bytes = b"\nCET-1\n", instants: tuple[int, ...] = (0,), leap: int = 0, offset: int = 3600
) -> bytes:
    """A file of version 2 with one type."""
    head = struct.pack(">4sc15x6l", b"TZif", b"2", 0, 0, 0, 0, 1, 4) + struct.pack(">lBB", 0, 0, 0) + b"LMT\0"
    counts = (0, 0, leap, len(instants), 1, 4)
    body = (
        struct.pack(f">{len(instants)}q", *instants)
        + bytes(len(instants))
        + struct.pack(">lBB", offset, 0, 0)
    )
    return (
        head + struct.pack(">4sc15x6l", b"TZif", b"2", *counts) + body + b"CET\0" + bytes(12 * leap) + footer
    )


def test_a_made_file_is_read() -> None:
    assert tzif.parse(made(), "Test/Zone") == Zone("Test/Zone", (0,), (3600, 3600))
    assert tzif.parse(made(instants=(), offset=0), "Test/Zone") == Zone("Test/Zone", (), (3600,))
    assert tzif.parse(made(footer=b"\n\n"), "Test/Zone") == Zone("Test/Zone", (0,), (3600, 3600))
    first_block = struct.pack(">4sc15x6l", b"TZif", b"\0", 0, 0, 0, 1, 2, 4)
    first_block += struct.pack(">lb", 7, 1) + struct.pack(">lBBlBB", 60, 0, 0, 120, 1, 0) + b"LMT\0"
    assert tzif.parse(first_block, "Test/Old") == Zone("Test/Old", (7,), (60, 120))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"TZif",
        b"XZif" + made()[4:],
        made()[:60],
        made()[:-1],
        made()[:-9],
        made(footer=b"\nCET\n"),
        made(footer=b"\nCET-1\xff\n"),
        made(leap=1),
        made(instants=(5, 5)),
        made(instants=(5, 4)),
        made(offset=93_600),
    ],
)
def test_what_is_no_file_of_tzdata_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        tzif.parse(data, "Test/Zone")


def test_every_cut_of_a_real_file_is_refused_or_read() -> None:
    data = made(instants=(1, 2, 3))
    for length in range(len(data)):
        with pytest.raises(Malformed):
            tzif.parse(data[:length], "Test/Zone")
