# SPDX-License-Identifier: Apache-2.0
"""vmwarden hours, from the command line to what it prints."""

import json
from pathlib import Path
from typing import Any

import pytest

from vmwarden.cli import main as command_line
from vmwarden.owner import desk, signing
from vmwarden.rules import canonical

OFFICE = """
- weekdays: ['monday:friday']
  times: [{start_time: '08:00', end_time: '18:00'}]
  location: Europe/Berlin
"""


@pytest.fixture
def office(tmp_path: Path) -> Path:
    return written(tmp_path, OFFICE)


def written(folder: Path, text: str) -> Path:
    path = folder / "hours.yaml"
    path.write_text(text)
    return path


def asked(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0) -> Any:
    assert command_line.main(["hours", "--json", *map(str, arguments)]) == code
    return json.loads(capsys.readouterr().out)


def test_results_are_in_the_order_in_which_they_are_asked(
    office: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = asked(
        capsys,
        "--intervals",
        office,
        "--at",
        "2026-11-23T19:00:00+01:00",
        "2026-11-23T08:00:00+01:00",
        "--at",
        "2026-11-20T17:00:00.5Z",
    )

    assert told["schema"] == "vmwarden.hours/1"
    assert told["tzdata"][:4].isdigit()
    assert told["results"] == [
        {
            "at": "2026-11-23T19:00:00+01:00",
            "utc": "2026-11-23T18:00:00Z",
            "open": False,
            "until": "2026-11-24T07:00:00Z",
        },
        {
            "at": "2026-11-23T08:00:00+01:00",
            "utc": "2026-11-23T07:00:00Z",
            "open": True,
            "until": "2026-11-23T17:00:00Z",
        },
        {
            "at": "2026-11-20T17:00:00.5Z",
            "utc": "2026-11-20T17:00:00Z",
            "open": False,
            "until": "2026-11-23T07:00:00Z",
        },
    ]
    assert told["transitions"] == []
    assert told["warnings"] == []


def test_the_next_changes_follow_the_first_instant(office: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = asked(capsys, "--intervals", office, "--at", "2026-10-23T06:00:00Z", "--next", "3")

    assert told["transitions"] == [
        {"at": "2026-10-23T18:00:00+02:00", "utc": "2026-10-23T16:00:00Z", "open": False},
        {"at": "2026-10-26T08:00:00+01:00", "utc": "2026-10-26T07:00:00Z", "open": True},
        {"at": "2026-10-26T18:00:00+01:00", "utc": "2026-10-26T17:00:00Z", "open": False},
    ]


def test_a_year_is_that_of_utc_and_begins_with_its_first_second(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, "{years: ['2027'], location: UTC}")
    told = asked(capsys, "--intervals", path, "--year", "2027", "--next", "2", "--at", "2027-05-01T00:00:00Z")

    assert [(row["utc"], row["open"]) for row in told["transitions"]] == [
        ("2027-01-01T00:00:00Z", True),
        ("2028-01-01T00:00:00Z", False),
    ]
    assert told["results"][0]["until"] == "2028-01-01T00:00:00Z"


def test_a_whole_year_of_office_hours(office: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = asked(capsys, "--intervals", office, "--year", "2026")

    assert len(told["transitions"]) == 2 * 261
    assert told["results"] == []


def test_several_zones_are_shown_in_utc(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, OFFICE + "- {location: Asia/Tokyo, weekdays: [sunday]}\n")
    told = asked(capsys, "--intervals", path, "--at", "2026-11-23T06:00:00Z", "--next", "1")

    assert told["transitions"][0]["at"] == "2026-11-23T07:00:00+00:00"


def test_what_never_changes_has_no_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = asked(
        capsys, "--intervals", written(tmp_path, "[{}]"), "--at", "2026-11-23T06:00:00Z", "--next", "5"
    )

    assert told["results"][0]["until"] is None and told["results"][0]["open"]
    assert told["transitions"] == []
    assert [warning["message"] for warning in told["warnings"]] == [
        "never closes from 2026-11-23T06:00:00Z on"
    ]


def test_with_nothing_asked_it_tells_of_now(office: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = asked(capsys, "--intervals", office)

    assert [row["at"] for row in told["results"]] == ["now"]
    assert len(told["transitions"]) == 10
    assert told["transitions"][0]["utc"] == told["results"][0]["until"]


def test_every_mistake_has_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(
        tmp_path,
        "- weekdays: ['friday:monday', tuesday, blurgsday]\n"
        "  times:\n"
        "    - {start_time: '10:00', end_time: '10:00'}\n"
        "    - {start_time: '10:00'}\n"
        "    - {start_time: 17:00, end_time: '18:00'}\n"
        "    - {start_time: '08:00', end_time: '24:01'}\n"
        "  wekdays: [monday]\n"
        "  location: Europe/Berln\n"
        "- foo\n"
        "- {months: [], years: 2026}\n"
        "- {days_of_month: ['30:31'], months: [february]}\n",
    )
    told = asked(capsys, "--intervals", path, code=65)

    assert [(error["line"], error["column"], error["path"]) for error in told["errors"]] == [
        (1, 14, "0.weekdays.0"),
        (1, 40, "0.weekdays.2"),
        (3, 7, "0.times.0"),
        (4, 7, "0.times.1.end_time"),
        (5, 20, "0.times.2.start_time"),
        (6, 39, "0.times.3.end_time"),
        (7, 3, "0.wekdays"),
        (8, 13, "0.location"),
        (9, 3, "1"),
        (10, 12, "2.months"),
        (10, 23, "2.years"),
        (11, 3, "3"),
    ]
    assert {error["file"] for error in told["errors"]} == {str(path)}
    assert all(error["mend"] for error in told["errors"] if error["path"] != "1")
    assert command_line.main(["hours", "--intervals", str(path)]) == 65
    assert len(capsys.readouterr().err.splitlines()) == 12


@pytest.mark.parametrize(
    "text", ["", "[]", "foo", "- [1]", "3", "- !x {}", "{open: [{}]}", "- {times: {}}\n- {"]
)
def test_what_is_no_list_of_intervals_is_bad_input(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(capsys, "--intervals", written(tmp_path, text), code=65)["errors"]


def test_warnings_stand_at_their_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "times: [{start_time: '01:00', end_time: '02:30'}]\nlocation: Europe/Berlin\n")
    told = asked(capsys, "--intervals", path, "--at", "2026-11-23T06:00:00Z")

    assert [(warning["line"], warning["column"], warning["path"]) for warning in told["warnings"]] == [
        (1, 9, "times.0")
    ] * 2


def test_every_bad_instant_is_told(office: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = asked(
        capsys, "--intervals", office, "--at", "2026-11-23T06:00:00", "2026-11-23T06:00:00Z", "x", code=65
    )

    assert [error["path"] for error in told["errors"]] == ["--at", "--at"]


@pytest.mark.parametrize(
    "arguments",
    [["--next", "0"], ["--next", "x"], ["--next", "100001"], ["--year", "0"], ["--year", "10000"]],
)
def test_bounds(office: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    asked(capsys, "--intervals", office, *arguments, code=64)


def test_one_source_of_hours(office: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked(capsys, code=64)
    asked(capsys, "--intervals", office, "--policy", office, code=64)
    asked(capsys, "--intervals", office, "--service", "backup", code=64)
    told = asked(capsys, "--policy", office, code=65)  # it is no policy
    assert told["errors"][0]["line"] == 2


POLICY = """format: vmwarden.policy/1
name: shop
version: 1
vms: ["shop-*"]
valid: {from: "2026-11-01T00:00Z", until: "2027-11-01T00:00Z"}
mode: observe
"""
SHOP = (
    POLICY
    + """hours:
  time_zone: Europe/Berlin
  intervals:
    - name: office
      any_of: [{weekdays: ["monday:friday"], times: [{start_time: "08:00", end_time: "18:00"}]}]
  open: [office, {weekdays: [sunday], times: [{start_time: "01:00", end_time: "02:30"}]}]
  closed_on: ["2026-12-24"]
  holidays: [{country: DE}]
  services:
    - name: backup
      out: [{tcp: 873, to: 10.0.0.1/32}]
      open: [{times: [{start_time: "01:00", end_time: "04:00"}], location: UTC}]
"""
)


def test_the_hours_of_a_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, SHOP)
    told = asked(capsys, "--policy", path, "--at", "2026-12-23T12:00:00Z", "--next", "3")

    assert told["results"][0]["until"] == "2026-12-23T17:00:00Z"
    # christmas eve by closed_on, a friday and a saturday by Germany's holidays
    assert [(row["at"], row["open"]) for row in told["transitions"]] == [
        ("2026-12-23T18:00:00+01:00", False),
        ("2026-12-27T01:00:00+01:00", True),
        ("2026-12-27T02:30:00+01:00", False),
    ]
    assert {(warning["line"], warning["path"]) for warning in told["warnings"]} == {
        (12, "hours.open.1.times.0")
    }


def test_the_hours_of_a_service(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, SHOP)
    told = asked(
        capsys, "--policy", path, "--service", "backup", "--at", "2026-12-25T02:00:00Z", "--next", "1"
    )
    assert told["results"][0] == {
        "at": "2026-12-25T02:00:00Z",
        "utc": "2026-12-25T02:00:00Z",
        "open": True,
        "until": "2026-12-25T04:00:00Z",
    }
    assert told["transitions"][0]["at"] == "2026-12-25T04:00:00+00:00"
    told = asked(capsys, "--policy", path, "--service", "api", code=64)
    assert "backup" in told["errors"][0]["message"]

    assert command_line.main(["hours", "--policy", str(path), "--at", "2026-12-25T02:00:00Z"]) == 0
    assert "backup                            open  2026-12-25T04:00:00Z" in capsys.readouterr().out


def test_a_signed_policy_is_asked_as_the_vm_has_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = desk.check(str(written(tmp_path, SHOP)))
    assert report.policy is not None
    signed = tmp_path / "signed.json"
    signed.write_bytes(canonical.encode(signing.document_of(report.policy)))
    arguments = ("--at", "2026-12-23T12:00:00Z", "--next", "3")

    told = asked(capsys, "--policy", signed, *arguments)
    as_written = asked(capsys, "--policy", tmp_path / "hours.yaml", *arguments)

    assert [told[part] for part in ("results", "transitions")] == [
        as_written[part] for part in ("results", "transitions")
    ]
    assert [(w["file"], w["path"]) for w in told["warnings"]] == [(str(signed), "hours.open.1.times.0")] * 2


def test_a_policy_that_is_wrong_or_has_no_hours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = asked(capsys, "--policy", written(tmp_path, SHOP.replace("[office,", "[ofice,")), code=65)
    assert [(error["line"], error["path"]) for error in told["errors"]] == [(12, "hours.open.0")]
    told = asked(capsys, "--policy", written(tmp_path, POLICY), code=64)
    assert "no hours" in told["errors"][0]["message"]


def test_a_missing_file_is_the_machines_matter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked(capsys, "--intervals", tmp_path / "none.yaml", code=69)
