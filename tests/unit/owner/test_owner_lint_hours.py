# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E501 - the tables are read one case a line
"""Lint of a policy's hours: each mistake at its place, with its path and its mend.

The mark ¦ stands, in the policy itself, before the place that the message has to point at.
"""

import pytest

from vmwarden.errors import FileAbsent, Problem, SourceUnavailable
from vmwarden.linux.tzdata import Tzdata
from vmwarden.owner import lint
from vmwarden.owner.timetable import FindZone
from vmwarden.owner.zones import TimeZones
from vmwarden.rules.calendar.zone import Zone

HEAD = """format: vmwarden.policy/1
name: shop
version: 7
vms: ["shop-*"]
valid: {from: "2026-11-01T00:00Z", until: "2027-11-01T00:00Z"}
mode: observe
hours:
  time_zone: Europe/Berlin
"""
OFFICE = '[{weekdays: ["monday:friday"], times: [{start_time: "08:00", end_time: "18:00"}]}]'
OPEN = f"  open: {OFFICE}\n"
NAMED = "  intervals: [{name: office, any_of: " + OFFICE + "}]\n"
SERVICE = "  services: [{name: a, in: [{tcp: 1, from: 10.0.0.0/8}], open: [{}]}"
WORKS = b"BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART;VALUE=DATE:20261224\nEND:VEVENT\nEND:VCALENDAR\n"
OLD = WORKS.replace(b"2026", b"2016")


_FIND_ZONE = Tzdata().zone


def _no_zone(name: str) -> Zone:
    raise SourceUnavailable("there is no tzdata on this machine", mend="install the package tzdata")


def _lint(text: str, find_zone: FindZone = _FIND_ZONE) -> lint.Report:
    files = {"works.ics": WORKS, "old.ics": OLD, "bad.ics": WORKS.replace(b"1224", b"1324")}

    def read_beside(name: str) -> bytes:
        if name not in files:
            raise FileAbsent(f"{name}: no such file")
        return files[name]

    none = TimeZones(frozenset(), {})
    return lint.lint(text.encode(), "dir/p.yaml", read_beside=read_beside, zones=none, find_zone=find_zone)


def _mark(text: str) -> tuple[str, int, int]:
    before, after = text.split("¦")
    return before + after, before.count("\n") + 1, len(before) - before.rfind("\n")


def _only(problems: tuple[Problem, ...]) -> Problem:
    assert len(problems) == 1, "\n".join(map(str, problems))
    return problems[0]


MISTAKES = [
    ("  open: ¦[]\n", "hours.open", "the list is empty", "at least one"),
    ("  open: ¦office\n", "hours.open", "'office' where a list is wanted", "a dash"),
    ("  open: [¦ofice]\n" + NAMED, "hours.open.0", "'ofice' is no name of hours.intervals", "defined there: office"),
    ("  open: [¦office]\n", "hours.open.0", "no name of hours.intervals", "define it there"),
    ('  open: [¦"Office hours"]\n', "hours.open.0", "'Office hours' is not a name", "a-z 0-9"),
    ("  open: [¦3]\n", "hours.open.0", "3 is not text", 'quote it: "3"'),
    ("  open: [{¦wekdays: [monday]}]\n", "hours.open.0.wekdays", "unknown field 'wekdays'", "did you mean weekdays?"),
    ("  open: [{weekdays: [¦mon]}]\n", "hours.open.0.weekdays.0", "'mon' is no weekday", "did you mean monday?"),
    ("  open: [{times: [{start_time: ¦17:00, end_time: \"18:00\"}]}]\n", "hours.open.0.times.0.start_time", "to the base of 60", 'quote it: "17:00"'),
    ("  open: [{times: [¦{start_time: \"17:00\", end_time: \"17:00\"}]}]\n", "hours.open.0.times.0", "never, or all day?", "24:00"),
    ("  open: [¦{days_of_month: [30], months: [february]}]\n", "hours.open.0", "can never open", "leave out"),
    ("  open: [{location: ¦Europe/Berln}]\n", "hours.open.0.location", "no time zone of tzdata", "did you mean Europe/Berlin?"),
    (OPEN + "  closed_on: [¦\"2026-02-29\"]\n", "hours.closed_on.0", "there is no 2026-02-29", ""),
    (OPEN + "  closed_on: [¦2026-12-25]\n", "hours.closed_on.0", "take 2026-12-25 for a date", 'quote it'),
    (OPEN + "  extra: [{dates: [\"2026-12-27\"], times: [{start_time: ¦\"8\", end_time: \"9:00\"}]}]\n".replace('"9:00"', '"09:00"'), "hours.extra.0.times.0.start_time", "no time of day", ""),
    (OPEN + "  drain: ¦25h\n", "hours.drain", "more than a day", ""),
    (OPEN + "  outside: ¦poweroff\n", "hours.outside", "not one of guarded, held, quarantined", ""),
    (OPEN + "  time: ¦trusted\n", "hours.time", "nobody is trusted with it", "time: local"),
    (OPEN + "  recheck: ¦500ms\n", "hours.recheck", "below 1s", ""),
    (OPEN + "  unknown: [{after: 0s, posture: ¦poweroff}]\n", "hours.unknown.0.posture", "never follows from silence", ""),
    (OPEN + "  intervals: [{name: a, any_of: [{}]}, {name: ¦a, any_of: [{}]}]\n", "hours.intervals.1.name", "'a' is there twice", "unique"),
    (OPEN + "  holidays: [¦{}]\n", "hours.holidays.0", "has neither of country and file", "exactly one"),
    (OPEN + "  holidays: [¦{country: DE, file: works.ics}]\n", "hours.holidays.0", "has both", "exactly one"),
    (OPEN + "  holidays: [{country: ¦AQ}]\n".replace("AQ", "XZ"), "hours.holidays.0.country", "nobody here knows the holidays of XZ", "closed_on"),
    (OPEN + "  holidays: [{country: DE, subdivision: ¦DE-XX}]\n", "hours.holidays.0.subdivision", "holidays of DE-XX", "DE-BY"),
    (OPEN + "  holidays: [{country: DE, subdivision: ¦FR-75}]\n", "hours.holidays.0.subdivision", "holidays of FR-75 in DE", "DE-BY"),
    (OPEN + "  holidays: [{file: works.ics, subdivision: ¦DE-BY}]\n", "hours.holidays.0.subdivision", "no part of a file", ""),
    (OPEN + "  holidays: [{country: DE, subdivision: ¦by}]\n", "hours.holidays.0.subdivision", "'by' is not a subdivision", "DE-BY"),
    (OPEN + "  holidays: [{country: DE, ¦dates: [\"2026-12-25\"]}]\n", "hours.holidays.0.dates", "unknown field 'dates'", "known here"),
    (OPEN + "  holidays: [{file: ¦none.ics}]\n", "hours.holidays.0.file", "no such file", "iCalendar"),
    (OPEN + "  holidays: [{file: ¦/etc/passwd}]\n", "hours.holidays.0.file", "not beside the policy", "own folder"),
    (OPEN + "  holidays: [¦{file: old.ics}]\n", "hours.holidays.0", "has no date from 2026-10-31 to 2028-11-01", "another year"),
    (OPEN + "  services: [¦{name: a, open: [{}]}]\n", "hours.services.0", "names no flow", "in or out"),
    (OPEN + "  services: [{name: a, out: [¦{to: 10.0.0.0/8}], open: [{}]}]\n", "hours.services.0.out.0", "names no port", "add tcp"),
    (OPEN + "  services: [{name: a, in: [¦{tcp: 1, udp: 1, from: 10.0.0.0/8}], open: [{}]}]\n", "hours.services.0.in.0", "tcp and udp", "two entries"),
    (OPEN + "  services: [{name: a, out: [{tcp: 1, to: ¦10.0.0.1/8}], open: [{}]}]\n", "hours.services.0.out.0.to", "bits set beyond its prefix", "10.0.0.0/8"),
    (OPEN + "  services: [{name: a, out: [{tcp: 1, to: 10.0.0.0/8}], open: [¦night]}]\n", "hours.services.0.open.0", "no name", "define"),
    (OPEN + SERVICE + ", {name: ¦a, in: [{tcp: 2, from: 10.0.0.0/8}], open: [{}]}]\n", "hours.services.1.name", "'a' is there twice", ""),
    (OPEN + SERVICE + ", {name: b, in: [¦{tcp: 1, from: 10.1.0.0/16}], open: [{}]}]\n", "hours.services.1.in.0", "the service a has it, too", "one service"),
    (OPEN + SERVICE + ", {name: b, in: [¦{tcp: 1, from: 10.0.0.0/8}], open: [{}]}]\n", "hours.services.1.in.0", "the service a has it, too", "one service"),
    (OPEN + SERVICE.replace("[{tcp: 1, from: 10.0.0.0/8}]", "[¦{tcp: 1, from: 10.0.0.0/8}]") + ", {name: b, in: [{tcp: 1, from: 0.0.0.0/0}], open: [{}]}]\n", "hours.services.0.in.0", "the service b has it, too", "one service"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "path", "message", "mend"), MISTAKES, ids=[case[1] for case in MISTAKES])
def test_mistakes(text: str, path: str, message: str, mend: str) -> None:
    plain, line, column = _mark(HEAD + text)
    problem = _only(_lint(plain).errors)
    assert (problem.file, problem.line, problem.column, problem.path) == ("dir/p.yaml", line, column, path)
    assert message in problem.message
    assert mend in problem.mend


@pytest.mark.parametrize(
    "text",
    [
        OPEN,
        "  open: [office, {}]\n" + NAMED,
        OPEN + '  holidays: [{country: DE, subdivision: DE-BY}, {file: works.ics}]\n  drain: "30s"\n',
        # two ports, two protocols, both ways, ranges apart: no packet is named twice
        OPEN
        + SERVICE
        + ", {name: b, in: [{tcp: 2, from: 10.0.0.0/8}, {udp: 1, from: 10.0.0.0/8}], out: [{tcp: 1, to: 10.0.0.0/8}], open: [{}]}"
        + ", {name: c, in: [{tcp: 1, from: 11.0.0.0/8}, {tcp: 1, from: 11.1.0.0/16}, {tcp: 1, from: fd00::/8}], open: [{}]}]\n",
    ],
)
def test_what_may_be_written(text: str) -> None:
    assert _lint(HEAD + text).errors == ()


def test_a_mistake_of_an_icalendar_file_has_its_line() -> None:
    problem = _only(_lint(HEAD + OPEN + "  holidays: [{file: bad.ics}]\n").errors)
    assert (problem.file, problem.line, problem.path) == ("dir/bad.ics", 3, "hours.holidays.0.file")


def test_a_broken_part_leaves_the_rest_to_be_judged() -> None:
    """No follow-up of what is broken: the named intervals, the weekdays, the period."""
    text = (
        HEAD.replace('from: "2026-11-01T00:00Z"', "from: tomorrow")
        + "  open: [office, {weekdays: [], days_of_month: [30], months: [february]}]\n"
        + "  intervals: [{nam: office, any_of: [{}]}]\n"
        + "  holidays: [{country: DE}]\n"
        + "  drain: 30h\n"
    )
    assert [problem.path for problem in _lint(text).errors] == [
        "valid.from",
        "hours.open.1.weekdays",
        "hours.intervals.0.name",
        "hours.intervals.0.nam",
        "hours.drain",
    ]


def test_without_tzdata_that_is_said_once() -> None:
    problem = _only(_lint(HEAD + "  open: [{location: Asia/Tokyo}]\n", _no_zone).errors)
    assert (problem.path, problem.line) == ("hours.time_zone", 8)
    assert "no tzdata" in problem.message


def test_holidays_are_in_what_is_signed() -> None:
    report = _lint(HEAD + OPEN + "  holidays: [{country: DE}, {file: works.ics}]\n")
    assert report.policy is not None and report.policy.hours is not None
    country, file = report.policy.hours.holidays
    # two holidays in a row are one range; a year after valid.until is the last
    assert country.dates[0] == "2026-12-25:2026-12-26"
    assert country.dates[-1] == "2028-10-03"
    assert file.dates == ("2026-12-24",)


WARNINGS = [
    ('  open: [{times: [¦{start_time: "01:00", end_time: "02:30"}], weekdays: [sunday], months: [march]}]\n', "hours.open.0.times.0", "on 2027-03-28 lasts 1 h instead of 1 h 30 min"),
    ("  open: ¦[{years: [2025]}]\n", "hours.open", "never opens from 2026-11-01T00:00:00Z on"),
    ("  open: ¦[{}]\n", "hours.open", "never closes"),
    (OPEN + NAMED.replace("{name", "¦{name"), "hours.intervals.0", "office is used nowhere"),
    (OPEN + "  drain: ¦10h\n", "hours.drain", "no new connection is let in"),
    (OPEN + "  services: [{name: a, out: [{tcp: 1, to: 10.0.0.0/8}], open: ¦[{years: [2025]}]}]\n", "hours.services.0.open", "never opens"),
    (OPEN + "  drain: 10m\n  services: [¦{name: a, out: [{tcp: 1, to: 10.0.0.0/8}], open: [{times: [{start_time: \"12:00\", end_time: \"12:05\"}]}]}]\n", "hours.services.0", "lasts 5 min, and for the last 10m"),
    ('  open: [{times: [{start_time: "22:00", end_time: "06:00"}], location: UTC}]\n  closed_on: [¦"2026-12-25"]\n', "hours.closed_on.0", "2026-12-25 is open until 06:00: that range of open.0"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "path", "message"), WARNINGS, ids=[case[1] for case in WARNINGS])
def test_warnings(text: str, path: str, message: str) -> None:
    plain, line, column = _mark(HEAD + text)
    report = _lint(plain)
    assert report.errors == ()
    problem = _only(report.warnings)
    assert (problem.line, problem.column, problem.path) == (line, column, path)
    assert message in problem.message


def test_an_interval_that_two_services_use_is_warned_of_once() -> None:
    night = (
        '  intervals: [{name: night, any_of: [{times: [{start_time: "01:00", end_time: "02:30"}], weekdays: [sunday], months: [march]}]}]\n'
        "  services:\n"
        "    - {name: a, out: [{tcp: 1, to: 10.0.0.0/8}], open: [night]}\n"
        "    - {name: b, out: [{tcp: 1, to: 11.0.0.0/8}], open: [night]}\n"
    )
    assert _only(_lint(HEAD + OPEN + night).warnings).path == "hours.intervals.0.any_of.0.times.0"
