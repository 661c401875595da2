# SPDX-License-Identifier: Apache-2.0
"""The time zones that this machine's tzdata knows."""

import re
import zoneinfo
from dataclasses import dataclass
from pathlib import Path

from vmwarden.errors import FileAbsent, FileUnavailable
from vmwarden.linux.files import read_bounded

#: bound on a table of tzdata, bytes: zone.tab is 19 kB
_TABLE_BYTES = 1 << 20
#: tables of tzdata: country codes (one, or several with commas), coordinates, zone (see their own heads)
_TABLES = ("zone.tab", "zone1970.tab")
_ROW = re.compile(r"(?P<countries>[A-Z]{2}(,[A-Z]{2})*)\t[^\t]*\t(?P<zone>[^\t]+)")


@dataclass(frozen=True, slots=True)
class TimeZones:
    """names: every zone.  countries: of a zone that tzdata places, the countries where it is in use."""

    names: frozenset[str]
    countries: dict[str, frozenset[str]]


def installed() -> TimeZones:
    """Of this machine.  countries is empty where tzdata came without its tables."""
    countries: dict[str, set[str]] = {}
    for folder in map(Path, zoneinfo.TZPATH):
        for name in _TABLES:
            for zone, codes in _table(folder / name).items():
                countries.setdefault(zone, set()).update(codes)
    return TimeZones(
        frozenset(zoneinfo.available_timezones()),
        {zone: frozenset(codes) for zone, codes in countries.items()},
    )


def _table(path: Path) -> dict[str, list[str]]:
    try:
        text = read_bounded(path, _TABLE_BYTES).decode("utf-8", "replace")
    except (FileAbsent, FileUnavailable):
        return {}
    rows = (_ROW.match(line) for line in text.split("\n"))
    return {row["zone"].strip(): row["countries"].split(",") for row in rows if row is not None}
