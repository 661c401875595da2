# SPDX-License-Identifier: Apache-2.0
"""owner.zones and owner.geography on this machine's tzdata."""

from vmwarden.errors import Problem
from vmwarden.linux.tzdata import Tzdata
from vmwarden.owner import lint, zones

POLICY = b"""format: vmwarden.policy/1
name: payments
version: 7
vms: ["a"]
valid: {from: "2026-11-01T00:00Z", until: "2027-11-01T00:00Z"}
mode: observe
place:
  proof: declared
  any_of:
    - {country: DE, time_zones: [Europe/Berlin]}
    - {country: DE, time_zones: [Asia/Dubai]}
    - {country: AE, time_zones: [Asia/Dubai]}
"""


def _lint(known: zones.TimeZones) -> lint.Report:
    return lint.lint(POLICY, "p.yaml", read_beside=lambda name: b"", zones=known, find_zone=Tzdata().zone)


def _lines(problems: tuple[Problem, ...]) -> list[int]:
    return [problem.line for problem in problems]


def test_zones_are_known_with_the_countries_that_use_them() -> None:
    known = zones.installed()
    assert {"Europe/Berlin", "Asia/Kolkata", "UTC"} <= known.names
    assert "posixrules" not in known.names
    assert "DE" in known.countries["Europe/Berlin"]
    assert {"AE", "OM"} <= known.countries["Asia/Dubai"]


def test_a_zone_of_another_country_is_a_warning() -> None:
    report = _lint(zones.installed())
    assert report.errors == ()
    assert _lines(report.warnings) == [8, 11]


def test_without_tzdata_nothing_is_guessed() -> None:
    report = _lint(zones.TimeZones(frozenset(), {}))
    assert _lines(report.errors) == [10, 11, 12]
    assert all("no tzdata here" in problem.message for problem in report.errors)
    without_tables = zones.TimeZones(zones.installed().names, {})
    assert _lines(_lint(without_tables).warnings) == [8]
