# SPDX-License-Identifier: Apache-2.0
"""The machine's tzdata: which zones there are, and which version."""

from pathlib import Path

import pytest

from vmwarden.errors import Malformed, SourceUnavailable
from vmwarden.linux.tzdata import Tzdata
from vmwarden.rules.calendar.zone import UTC


def test_the_version_is_that_of_the_source_text(tmp_path: Path) -> None:
    assert Tzdata([tmp_path]).version() == "unknown"
    (tmp_path / "+VERSION").write_text("2024a\n")
    assert Tzdata([tmp_path]).version() == "2024a"
    (tmp_path / "tzdata.zi").write_text("# version 2025b\n# ddeps\nR A 1\n")
    assert Tzdata([tmp_path]).version() == "2025b"


def test_utc_needs_no_tzdata(tmp_path: Path) -> None:
    assert Tzdata([]).zone("UTC") is UTC
    with pytest.raises(SourceUnavailable):
        Tzdata([tmp_path / "none"]).zone("Europe/Berlin")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Local",
        "localtime",
        "posixrules",
        "Factory",
        "right/UTC",
        "posix/UTC",
        "Europe",
        "Europe/../UTC",
        "/etc/passwd",
        "../zoneinfo/UTC",
        "europe/berlin",
        "tzdata.zi",
        "zone.tab",
        "Europe/Berlin\n",
        "A" * 200,
    ],
)
def test_what_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(Malformed):
        Tzdata().zone(name)


def test_a_misspelt_zone_is_told_its_name() -> None:
    with pytest.raises(Malformed) as refused:
        Tzdata().zones(["Europe/Berln", "europe/paris", "UTC"])

    assert [problem.mend for problem in refused.value.problems] == [
        "did you mean Europe/Berlin?",
        "did you mean Europe/Paris?",
    ]


def test_a_broken_file_is_not_taken_for_a_missing_one(tmp_path: Path) -> None:
    (tmp_path / "Test").write_bytes(b"TZif")
    with pytest.raises(Malformed, match="no TZif file"):
        Tzdata([tmp_path]).zone("Test")
