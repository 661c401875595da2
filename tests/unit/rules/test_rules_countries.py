# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from vmwarden.rules.countries import COUNTRIES

TABLE = Path("/usr/share/zoneinfo/iso3166.tab")


def test_there_are_249_and_they_look_like_codes() -> None:
    assert len(COUNTRIES) == 249
    assert all(len(code) == 2 and code.isascii() and code.isupper() for code in COUNTRIES)


def test_what_is_often_mistaken_for_a_code_is_none() -> None:
    assert not COUNTRIES & {"UK", "EU", "EL", "XX", "ZZ", "SU", "YU", "XK", "AN", "BU", "TP"}


def test_they_are_those_of_the_time_zone_data() -> None:
    if not TABLE.exists():
        pytest.skip("no shared data: the time zone tables are not installed here")
    rows = (line for line in TABLE.read_text().splitlines() if line and line[0] != "#")
    assert {row.split("\t")[0] for row in rows} == COUNTRIES
