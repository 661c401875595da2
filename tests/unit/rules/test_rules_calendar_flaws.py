# SPDX-License-Identifier: Apache-2.0
"""Hours that mean nothing, or two things, are refused; what their author should know is said."""

from typing import Any

import pytest

from vmwarden.linux.tzdata import Tzdata
from vmwarden.model.hours import Extra, Interval, TimeRange
from vmwarden.model.policy import Hours
from vmwarden.rules.calendar import flaws, opening, stamp
from vmwarden.rules.calendar.cautions import cautions

TZDATA = Tzdata()
BERLIN = "Europe/Berlin"
LORD_HOWE = "Australia/Lord_Howe"
NOW = stamp.seconds("2026-11-23T12:00Z")


def span(start: str, end: str) -> TimeRange:
    return TimeRange(start_time=start, end_time=end)


@pytest.mark.parametrize(
    ("fields", "path", "message", "mend"),
    [
        ({"times": (span("01:99", "23:59"),)}, "times.0.start_time", "'01:99' is no time of day", '"08:00"'),
        ({"times": (span("00:00", "99:99"),)}, "times.0.end_time", "no time of day", '"08:00"'),
        ({"times": (span("12:30", "24:01"),)}, "times.0.end_time", "no time of day", '"08:00"'),
        ({"times": (span("8:00", "12:00"),)}, "times.0.start_time", "no time of day", '"08:00"'),
        ({"times": (span("08:00:60", "12:00"),)}, "times.0.start_time", "no time of day", '"08:00"'),
        ({"times": (span("", "12:00"),)}, "times.0.start_time", "no time of day", '"08:00"'),
        ({"times": (span("17:31", "17:31"),)}, "times.0", "never, or all day?", '"00:00" to "24:00"'),
        ({"times": (span("17:31", "17:31:00"),)}, "times.0", "never, or all day?", '"00:00" to "24:00"'),
        ({"times": (span("24:00", "17:41"),)}, "times.0", "begins at 24:00", '"00:00"'),
        (
            {"weekdays": ("friday:monday",)},
            "weekdays.0",
            "over the end of the week",
            "friday:saturday and sunday:monday",
        ),
        (
            {"weekdays": ("monday:sunday",)},
            "weekdays.0",
            "over the end of the week",
            "monday:saturday and sunday",
        ),
        ({"weekdays": ("blurgsday:flurgsday",)}, "weekdays.0", "'blurgsday' is no weekday", "write one of"),
        ({"weekdays": ("Mon",)}, "weekdays.0", "'mon' is no weekday", "did you mean monday?"),
        ({"weekdays": ("1:3",)}, "weekdays.0", "'1' is no weekday", "write one of"),
        ({"weekdays": ("monday:tuesday:friday",)}, "weekdays.0", "no weekday", ""),
        ({"weekdays": ("monday: friday",)}, "weekdays.0", "no weekday", ""),
        ({"days_of_month": (1, 0)}, "days_of_month.1", "no month has a day 0", "1 to 31"),
        ({"days_of_month": ("-50:-20",)}, "days_of_month.0", "no month has a day -50", "-1 to -31"),
        ({"days_of_month": ("1:50",)}, "days_of_month.0", "no month has a day 50", "1 to 31"),
        ({"days_of_month": ("-15:5",)}, "days_of_month.0", "counted from the end and ends", ""),
        ({"days_of_month": ("10:-25",)}, "days_of_month.0", "day -25 can come before day 10", "swap"),
        ({"days_of_month": ("28:-1",)}, "days_of_month.0", "day -1 can come before day 28", "write 28:31"),
        ({"days_of_month": ("-1:-3",)}, "days_of_month.0", "day -3 can come before day -1", "swap"),
        ({"days_of_month": ("first",)}, "days_of_month.0", "'first' is no day of the month", ""),
        ({"months": ("martius:june",)}, "months.0", "'martius' is no month", "did you mean march?"),
        ({"months": ("december:january",)}, "months.0", "over the end of the year", "december and january"),
        (
            {"months": ("november:2",)},
            "months.0",
            "over the end of the year",
            "november:december and january:february",
        ),
        ({"months": (13,)}, "months.0", "there is no month 13", "december 12"),
        ({"months": ("0:3",)}, "months.0", "there is no month 0", ""),
        ({"years": ("2022:2020",)}, "years.0", "ends before it begins", "2020:2022"),
        ({"years": ("20x6",)}, "years.0", "'20x6' is no year", ""),
        ({"years": ("0",)}, "years.0", "0 is no year", ""),
        ({"days_of_month": ("30:31",), "months": ("february",)}, "", "can never open", ""),
        ({"days_of_month": (29,), "months": (2,), "years": ("2021:2023", 2025)}, "", "can never open", ""),
        (
            {"days_of_month": (29,), "months": (2,), "weekdays": ("monday",), "years": ("2030:2040",)},
            "",
            "can never open",
            "",
        ),
        ({"days_of_month": ("-31:-30",), "months": ("february",)}, "", "can never open", ""),
    ],
)
def test_refused_with_its_mend(fields: dict[str, Any], path: str, message: str, mend: str) -> None:
    (flaw,) = flaws.interval(Interval(**fields))

    assert ".".join(map(str, flaw.path)) == path
    assert message in flaw.message
    assert mend in flaw.mend


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {
            "times": (
                span("00:00", "24:00"),
                span("22:00", "06:00"),
                span("08:00:30", "08:00:31"),
                span("22:00", "00:00"),
            )
        },
        {"weekdays": ("SUNDAY:Saturday",), "months": ("January:december", "01", "+2:3")},
        {"days_of_month": ("1:-1", "27:-1", "-31:-1", "+1", "05", -31)},
        {"days_of_month": (29,), "months": (2,), "weekdays": ("monday",)},
        {"years": ("1:9999", 2026)},
    ],
)
def test_accepted(fields: dict[str, Any]) -> None:
    assert list(flaws.interval(Interval(**fields))) == []


def test_every_mistake_of_a_clause_is_told() -> None:
    hours = Hours(
        open=(Interval(), Interval(weekdays=("monday", "x"), times=(span("a", "b"),))),
        closed_on=("2026-02-29", "2026-12-25"),
        extra=(Extra(dates=("2026-12-26:2026-12-24",), times=(span("10:00", "10:00"),)),),
        drain="25h",
    )

    assert [".".join(map(str, flaw.path)) for flaw in flaws.hours(hours)] == [
        "open.1.times.0.start_time",
        "open.1.times.0.end_time",
        "open.1.weekdays.1",
        "closed_on.0",
        "extra.0.dates.0",
        "extra.0.times.0",
        "drain",
    ]


@pytest.mark.parametrize(
    "date", ["2026-02-29", "2026-13-01", "2026-00-01", "0000-01-01", "2026-1-1", "26-01-01", ""]
)
def test_dates_that_no_calendar_has(date: str) -> None:
    (flaw,) = flaws.hours(Hours(open=(Interval(),), closed_on=(date,)))

    assert flaw.path == ("closed_on", 0)


def warned(*entries: Interval, zone: str = "Europe/Berlin", closed: tuple[str, ...] = ()) -> list[str]:
    hours = Hours(open=entries, time_zone=zone, closed_on=closed)
    found = cautions(hours, TZDATA.zones(opening.zones_of(hours)), NOW)
    return [f"{'.'.join(map(str, flaw.path))}: {flaw.message}" for flaw in found]


def test_never_opens_and_never_closes() -> None:
    assert warned(Interval(years=(2025,))) == ["open: never opens from 2026-11-23T12:00:00Z on"]
    assert warned(Interval(times=(span("00:00", "24:00"),))) == [
        "open: never closes from 2026-11-23T12:00:00Z on"
    ]


def test_slots_whose_length_the_zone_changes() -> None:
    assert warned(Interval(weekdays=("sunday",), times=(span("08:00", "09:00"), span("01:30", "02:30")))) == [
        "open.0.times.1: on 2027-03-28 lasts 30 min instead of 1 h: Europe/Berlin goes from 02:00 to 03:00",
        f"open.0.times.1: on 2027-10-31 lasts 1 h 30 min instead of 1 h: {BERLIN} goes from 03:00 to 02:00",
    ]
    assert warned(Interval(times=(span("02:00", "03:00"),), months=("march",))) == [
        "open.0.times.0: on 2027-03-28 does not happen: Europe/Berlin goes from 02:00 to 03:00"
    ]
    longer, shorter = "8 h 30 min instead of 8 h", "7 h 30 min instead of 8 h"
    assert warned(Interval(times=(span("22:00", "06:00"),)), zone=LORD_HOWE) == [
        f"open.0.times.0: on 2027-04-03 lasts {longer}: {LORD_HOWE} goes from 02:00 to 01:30",
        f"open.0.times.0: on 2027-10-02 lasts {shorter}: {LORD_HOWE} goes from 02:00 to 02:30",
    ]


def test_nothing_is_said_of_slots_that_are_as_long_as_they_read() -> None:
    assert warned(Interval(times=(span("02:00", "03:00"),), weekdays=("monday:saturday",))) == []
    assert warned(Interval(times=(span("02:00", "03:00"),)), zone="Asia/Kathmandu") == []
    assert warned(Interval(times=(span("03:00", "04:00"), span("01:00", "02:00")))) == []
    assert (
        warned(
            Interval(weekdays=("sunday",), times=(span("01:00", "03:00"),)),
            closed=("2027-03-28", "2027-10-31"),
        )
        == []
    )
    assert warned(Interval(weekdays=("sunday",), times=(span("00:00", "24:00"),))) == []


def test_a_night_that_reaches_into_a_closed_date() -> None:
    assert warned(
        Interval(times=(span("22:00", "06:00"),)), zone="UTC", closed=("2026-12-25", "2026-12-26")
    ) == ["closed_on.0: 2026-12-25 is open until 06:00: that range of open.0 belongs to the day before"]
