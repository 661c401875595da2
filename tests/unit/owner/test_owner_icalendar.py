# SPDX-License-Identifier: Apache-2.0
"""owner.icalendar: whole days, and every mistake at its line."""

from datetime import date, timedelta

import pytest

from vmwarden.errors import Problem
from vmwarden.owner import icalendar

FIRST, LAST = date(2026, 11, 1), date(2028, 11, 1)


def calendar(*events: str, end: str = "\r\n") -> bytes:
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0"]
    for event in events:
        lines += ["BEGIN:VEVENT", *event.splitlines(), "END:VEVENT"]
    return end.join([*lines, "END:VCALENDAR", ""]).encode()


def read(data: bytes) -> tuple[list[str], tuple[Problem, ...]]:
    days, problems = icalendar.whole_days(data, "works.ics", FIRST, LAST)
    return sorted(map(str, days)), problems


def days(*events: str) -> list[str]:
    found, problems = read(calendar(*events))
    assert problems == ()
    return found


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_an_event_is_the_days_before_its_end(end: str) -> None:
    found, problems = read(
        calendar("DTSTART;VALUE=DATE:20261224\nDTEND;VALUE=DATE:20261227\nSUMMARY:x", end=end)
    )
    assert (found, problems) == (["2026-12-24", "2026-12-25", "2026-12-26"], ())


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ("DTSTART;VALUE=DATE:20261224", ["2026-12-24"]),
        ("DTSTART:20261224", ["2026-12-24"]),
        ("DTSTART;VALUE=DATE:20261224\nDURATION:P2D", ["2026-12-24", "2026-12-25"]),
        ("DTSTART;VALUE=DATE:20261224\nDURATION:P1W", [f"2026-12-{day}" for day in range(24, 31)]),
        ("DTSTART;VALUE=DATE:20261224\nSTATUS:CANCELLED", []),
        ("DTSTART;VALUE=DATE:20261031\nDTEND;VALUE=DATE:20261103", ["2026-11-01", "2026-11-02"]),
        ("DTSTART;VALUE=DATE:20251224", []),
        # a day of every year; of a rule that began long ago, what is in the period
        ("DTSTART;VALUE=DATE:20000501\nRRULE:FREQ=YEARLY", ["2027-05-01", "2028-05-01"]),
        # the fourth thursday of november
        (
            "DTSTART;VALUE=DATE:20201126\nRRULE:FREQ=YEARLY;BYMONTH=11;BYDAY=4TH",
            ["2026-11-26", "2027-11-25"],
        ),
        (
            "DTSTART;VALUE=DATE:20261231\nRRULE:FREQ=YEARLY;UNTIL=20271231T230000Z",
            ["2026-12-31", "2027-12-31"],
        ),
        ("DTSTART;VALUE=DATE:20261231\nRRULE:FREQ=YEARLY;COUNT=1", ["2026-12-31"]),
        ("DTSTART;VALUE=DATE:20000501\nRRULE:FREQ=YEARLY\nEXDATE;VALUE=DATE:20270501", ["2028-05-01"]),
        (
            "DTSTART;VALUE=DATE:20261224\nRDATE;VALUE=DATE:20270104,20270105",
            ["2026-12-24", "2027-01-04", "2027-01-05"],
        ),
        # the night over the beginning of the period
        ("DTSTART;VALUE=DATE:20001031\nDURATION:P2D\nRRULE:FREQ=YEARLY;UNTIL=20261101", ["2026-11-01"]),
        # names in capitals or not, parameters with quotes, folded lines, text that looks like something else
        (
            'dtstart;X-A="b;c:d";VALUE=DATE:2026\n 1224\nDESCRIPTION:DTSTART\\nBEGIN:VEVENT\n  folded: on',
            ["2026-12-24"],
        ),
        (
            "DTSTART;VALUE=DATE:20261224\nBEGIN:VALARM\nDURATION:PT5M\nTRIGGER:-PT1H\nEND:VALARM",
            ["2026-12-24"],
        ),
    ],
)
def test_events(event: str, expected: list[str]) -> None:
    assert days(event) == expected


def test_one_instance_that_was_moved() -> None:
    assert days(
        "UID:a\nDTSTART;VALUE=DATE:20000501\nRRULE:FREQ=YEARLY",
        "UID:a\nRECURRENCE-ID;VALUE=DATE:20270501\nDTSTART;VALUE=DATE:20270503",
        "UID:b\nDTSTART;VALUE=DATE:20270501",
    ) == ["2027-05-01", "2027-05-03", "2028-05-01"]


def test_zones_have_rules_of_their_own_that_are_no_holidays() -> None:
    zone = "BEGIN:VTIMEZONE\nBEGIN:DAYLIGHT\nDTSTART:19810329T020000\nRRULE:FREQ=YEARLY\nEND:DAYLIGHT\n"
    data = calendar("DTSTART;VALUE=DATE:20261224", end="\n")
    data = data.replace(b"VERSION:2.0\n", b"VERSION:2.0\n" + zone.encode() + b"END:VTIMEZONE\n")
    assert read(data) == (["2026-12-24"], ())


MISTAKES = [
    ("DTSTART;TZID=Europe/Berlin:20261224T080000", 4, "an event at a time of day", "whole days"),
    ("SUMMARY:no date", 3, "without DTSTART", "leave it out"),
    ("DTSTART;VALUE=DATE:20260230", 4, "there is no 20260230", "a date that there is"),
    ("DTSTART;VALUE=DATE:18000101", 4, "the year 1800", "from 1900"),
    ("DTSTART;VALUE=DATE:20261224\nDTEND;VALUE=DATE:20261224", 5, "an event of 0 days", "the day after"),
    ("DTSTART;VALUE=DATE:20261224\nDTEND;VALUE=DATE:20291224", 5, "an event of 1096 days", ""),
    ("DTSTART;VALUE=DATE:20261224\nDTEND:20261224T120000", 5, "is no date", "whole days"),
    ("DTSTART;VALUE=DATE:20261224\nDURATION:PT1H", 5, "no duration of days", "P1D"),
    ("DTSTART;VALUE=DATE:20261224\nRRULE:FREQ=HOURLY", 5, "does not repeat by days", "list its dates"),
    ("DTSTART;VALUE=DATE:20261224\nRRULE:FREQ=YEARLY;BYMONTH=x", 5, "does not repeat by days", ""),
    ("DTSTART;VALUE=DATE:20261224\nRRULE:FREQ=DAILY;INTERVAL=0", 5, "does not repeat by days", ""),
    ("DTSTART;VALUE=DATE:20261224\nRRULE:FREQ=DAILY;BYMONTHDAY=30", 5, "does not repeat by days", ""),
    ("DTSTART;VALUE=DATE:20261224\nRRULE:FREQ=YEARLY;BYDAY=XX", 5, "cannot be read", "list its dates"),
    ("DTSTART;VALUE=DATE:20261224\nRRULE:FREQ=YEARLY;UNTIL=20269999", 5, "cannot be read", "list its dates"),
    ("DTSTART;VALUE=DATE:20261224\nEXDATE:20261224T000000Z", 5, "is no date", ""),
]


@pytest.mark.parametrize(("event", "line", "message", "mend"), MISTAKES)
def test_mistakes(event: str, line: int, message: str, mend: str) -> None:
    """The event beside it is read all the same, so that every mistake is told at once."""
    _, problems = read(calendar(event, "DTSTART;VALUE=DATE:20261226", "DTSTART:now"))
    assert [problem.line for problem in problems[:1]] == [line]
    assert len(problems) == 2
    assert message in problems[0].message
    assert mend in problems[0].mend
    assert problems[0].file == "works.ics"


@pytest.mark.parametrize(
    ("data", "line", "message"),
    [
        (b"", 1, "empty"),
        (b"{}", 1, "no line of iCalendar"),
        (b"SUMMARY:x\n", 1, "no iCalendar file"),
        (b"BEGIN:VEVENT\nDTSTART:20261224\nEND:VEVENT\n", 2, "no iCalendar file"),
        (calendar("DTSTART:20261224")[:-16], 5, "ends within VCALENDAR"),
        (b"BEGIN:VCALENDAR\nEND:VEVENT\n", 2, "ends what did not begin"),
        (b"BEGIN:VCALENDAR\nEND:VCALENDAR\nEND:VCALENDAR\n", 3, "no iCalendar file"),
        (b"BEGIN:VCALENDAR\nfoo bar\n", 2, "no line of iCalendar"),
        (b"\xff\xfe", 0, "not UTF-8"),
    ],
)
def test_what_is_no_calendar(data: bytes, line: int, message: str) -> None:
    found, (problem,) = read(data)
    assert (found, problem.line) == ([], line)
    assert message in problem.message


def test_a_calendar_may_not_cost_minutes() -> None:
    found, problems = read(
        calendar(
            *["DTSTART;VALUE=DATE:20261101\nRRULE:FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR,SA,SU"]
            * (icalendar.REPEATING + 2)
        )
    )
    assert len(problems) == 2
    assert len(found) == (LAST - FIRST) / timedelta(days=1) + 1
