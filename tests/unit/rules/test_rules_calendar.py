# SPDX-License-Identifier: Apache-2.0
"""What hours mean: cases that Alertmanager's own tests decide, and ours beyond them."""

import itertools

import pytest

from vmwarden.errors import Malformed
from vmwarden.linux.tzdata import Tzdata
from vmwarden.model.hours import Extra, Interval, TimeRange
from vmwarden.model.policy import Hours
from vmwarden.rules.calendar import days, opening, stamp
from vmwarden.rules.calendar.opening import Calendar, State

TZDATA = Tzdata()


def times(*ranges: str) -> tuple[TimeRange, ...]:
    """times("08:00-18:00")"""
    parts = [given.split("-") for given in ranges]
    return tuple(TimeRange(start_time=start, end_time=end) for start, end in parts)


def compiled(hours: Hours) -> Calendar:
    return opening.compile(hours, TZDATA.zones(opening.zones_of(hours)))


def calendar(
    *entries: Interval, zone: str = "UTC", closed: tuple[str, ...] = (), extra: tuple[Extra, ...] = ()
) -> Calendar:
    return compiled(Hours(open=entries, time_zone=zone, closed_on=closed, extra=extra))


def is_open(given: Calendar, at: str) -> bool:
    return given.is_open(stamp.seconds(at))


def told(given: Calendar, first: str, last: str) -> list[str]:
    """Changes from first to last: "+" opens, "-" closes."""
    changes = given.changes(stamp.seconds(first), stamp.seconds(last))
    return [f"{'+' if change.open else '-'}{stamp.utc(change.utc_s)}" for change in changes]


OFFICE = Interval(weekdays=("monday:friday",), times=times("09:00-17:00"))
SYDNEY = Interval(weekdays=("monday:friday",), times=times("09:00-17:00"), location="Australia/Sydney")
QUARTER = Interval(
    weekdays=("Monday:friday", "sunday"),
    months=("January:march",),
    days_of_month=("-7:-1",),
    years=("2020:2025", "2030:2035"),
    times=times("09:00-17:00"),
)
MIXED = Interval(
    weekdays=("monday:wednesday", "saturday", "sunday"),
    times=times("13:00-15:00"),
    days_of_month=("1", 10, "20:-1"),
    years=("2020:2023",),
    months=(1, "february", "3"),
)


@pytest.mark.parametrize(
    ("entry", "inside", "outside"),
    [
        (Interval(), ["2006-01-02T15:04Z", "2007-01-03T10:04Z"], []),
        (
            OFFICE,
            ["2020-05-04T15:04Z", "2020-05-05T10:04Z", "2020-06-09T09:04Z", "2020-07-08T16:59:59Z"],
            ["2020-05-03T15:04Z", "2020-05-04T08:59:59Z", "2020-05-05T05:00Z", "2020-07-08T17:00Z"],
        ),
        (
            Interval(days_of_month=("4:6",), months=("april",), years=(2020,)),
            ["2020-04-04T15:04Z", "2020-04-05T00:00Z", "2020-04-06T23:05Z"],
            [
                "2018-05-03T15:04Z",
                "2020-04-03T23:59Z",
                "2020-06-04T23:59Z",
                "2019-04-06T23:59Z",
                "2020-04-07T00:00Z",
            ],
        ),
        (
            Interval(days_of_month=("-3:-1",)),
            ["2020-01-31T15:04Z", "2020-01-29T15:04Z", "2020-06-30T00:00Z", "2020-02-29T23:05Z"],
            ["2020-01-28T15:04Z", "2020-01-27T15:04Z", "2020-04-03T23:59Z", "2020-03-01T00:00Z"],
        ),
        (
            Interval(months=("june",), days_of_month=("-31:-1",)),
            ["2020-06-30T00:00Z", "2020-06-01T00:00Z"],
            ["2020-05-31T00:00Z", "2020-07-01T00:00Z"],
        ),
        (SYDNEY, ["2021-04-06T13:00+10:00"], ["2021-04-06T13:00Z"]),
        (
            Interval(
                weekdays=("monday:friday",),
                months=(11,),
                times=times("09:00-17:00"),
                location="Australia/Sydney",
            ),
            ["2021-11-01T09:00+11:00", "2021-10-31T22:00Z"],
            ["2021-10-31T21:00Z"],
        ),
        (
            Interval(days_of_month=(-1,), location="America/New_York"),
            ["2021-03-31T12:00-04:00"],
            ["2021-03-30T12:00-04:00"],
        ),
        (
            QUARTER,
            [
                "2021-01-27T09:00Z",
                "2021-01-28T16:59Z",
                "2021-01-29T13:00Z",
                "2025-03-31T13:00Z",
                "2035-01-31T13:00Z",
            ],
            ["2021-01-30T13:00Z", "2021-04-01T13:00Z", "2026-01-30T13:00Z", "2035-01-31T17:01Z"],
        ),
        (
            MIXED,
            ["2021-01-10T13:00Z", "2021-01-30T14:24Z"],
            ["2021-01-09T13:00Z", "2021-01-20T12:59Z", "2021-02-02T13:00Z"],
        ),
        (
            Interval(days_of_month=("30:31",), months=("february", "march")),
            ["2021-03-30T13:00Z"],
            ["2021-02-28T13:00Z"],
        ),
        (Interval(days_of_month=("1:-1",)), ["2021-02-01T00:00Z", "2021-02-28T23:59:59Z"], []),
        (Interval(times=times("00:00-24:00")), ["2021-02-01T00:00Z", "2021-02-28T23:59:59Z"], []),
    ],
)
def test_alertmanager_decides(entry: Interval, inside: list[str], outside: list[str]) -> None:
    built = calendar(entry)

    assert [at for at in inside if not is_open(built, at)] == []
    assert [at for at in outside if is_open(built, at)] == []


def test_entries_are_alternatives_and_fields_are_not() -> None:
    evenings = Interval(times=times("00:00-09:00", "17:00-24:00"), location="Australia/Sydney")
    weekends = Interval(weekdays=("saturday", "sunday"), location="Australia/Sydney")
    built = calendar(evenings, weekends)

    assert is_open(built, "2024-01-01T00:00+11:00")
    assert not is_open(built, "2024-01-01T09:00+11:00")
    assert is_open(built, "2024-01-06T10:00+11:00")
    assert is_open(built, "2024-01-01T10:00Z")


def test_a_range_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    built = calendar(Interval(weekdays=("friday",), times=times("22:00-06:00")))

    assert told(built, "2026-11-20T00:00Z", "2026-11-27T00:00Z") == [
        "+2026-11-20T22:00:00Z",
        "-2026-11-21T06:00:00Z",
    ]
    assert not is_open(built, "2026-11-20T03:00Z")


def test_so_it_goes_on_into_a_month_and_a_year_that_are_not_listed() -> None:
    built = calendar(
        Interval(years=(2026,), months=("december",), days_of_month=(-1,), times=times("22:00-06:00"))
    )

    assert is_open(built, "2027-01-01T05:59:59Z")
    assert not is_open(built, "2026-12-31T03:00Z")
    assert built.state(stamp.seconds("2027-01-01T06:00Z")) == State(False, None)


def test_until_midnight_is_an_end_like_any_other() -> None:
    built = calendar(Interval(times=times("22:00-00:00", "00:00:30-01:00")))

    assert told(built, "2026-11-20T12:00Z", "2026-11-21T12:00Z") == [
        "+2026-11-20T22:00:00Z",
        "-2026-11-21T00:00:00Z",
        "+2026-11-21T00:00:30Z",
        "-2026-11-21T01:00:00Z",
    ]


def test_ranges_that_meet_are_one_slot() -> None:
    built = calendar(
        Interval(weekdays=("friday",), times=times("08:00-24:00")),
        Interval(weekdays=("saturday",), times=times("00:00-04:00", "03:00-05:00", "05:00-06:00")),
    )

    assert told(built, "2026-11-20T00:00Z", "2026-11-22T00:00Z") == [
        "+2026-11-20T08:00:00Z",
        "-2026-11-21T06:00:00Z",
    ]


BERLIN = "Europe/Berlin"


@pytest.mark.parametrize(
    ("given", "first", "last", "expected"),
    [
        # 2026-03-29: the clock goes from 02:00 to 03:00
        (
            "01:30-02:30",
            "2026-03-29T00:00Z",
            "2026-03-29T12:00Z",
            ["+2026-03-29T00:30:00Z", "-2026-03-29T01:00:00Z"],
        ),
        ("02:00-03:00", "2026-03-29T00:00Z", "2026-03-29T12:00Z", []),
        (
            "02:30-04:00",
            "2026-03-29T00:00Z",
            "2026-03-29T12:00Z",
            ["+2026-03-29T01:00:00Z", "-2026-03-29T02:00:00Z"],
        ),
        # 2026-10-25: from 03:00 to 02:00
        (
            "01:00-02:30",
            "2026-10-24T23:00Z",
            "2026-10-25T22:00Z",
            [
                "+2026-10-24T23:00:00Z",
                "-2026-10-25T00:30:00Z",
                "+2026-10-25T01:00:00Z",
                "-2026-10-25T01:30:00Z",
            ],
        ),
        (
            "02:00-03:00",
            "2026-10-25T00:00Z",
            "2026-10-25T22:00Z",
            ["+2026-10-25T00:00:00Z", "-2026-10-25T02:00:00Z"],
        ),
        (
            "02:30-03:30",
            "2026-10-25T00:00Z",
            "2026-10-25T22:00Z",
            [
                "+2026-10-25T00:30:00Z",
                "-2026-10-25T01:00:00Z",
                "+2026-10-25T01:30:00Z",
                "-2026-10-25T02:30:00Z",
            ],
        ),
    ],
)
def test_the_local_reading_decides_where_the_zone_jumps(
    given: str, first: str, last: str, expected: list[str]
) -> None:
    assert told(calendar(Interval(times=times(given)), zone=BERLIN), first, last) == expected


def test_the_day_that_apia_lost() -> None:
    thursday = calendar(Interval(weekdays=("thursday",), times=times("22:00-06:00")), zone="Pacific/Apia")
    friday = calendar(Interval(weekdays=("friday",), times=times("22:00-06:00")), zone="Pacific/Apia")

    # at midnight after thursday the 29th it was saturday the 31st: the day before that is a friday nobody had
    assert told(thursday, "2011-12-29T12:00Z", "2012-01-01T00:00Z") == [
        "+2011-12-30T08:00:00Z",
        "-2011-12-30T10:00:00Z",
    ]
    assert told(friday, "2011-12-29T12:00Z", "2012-01-01T00:00Z") == [
        "+2011-12-30T10:00:00Z",
        "-2011-12-30T16:00:00Z",
    ]


def test_closed_dates_take_the_ranges_that_begin_on_them() -> None:
    built = calendar(
        Interval(times=times("22:00-06:00")), closed=("2026-12-25:2026-12-26", "2026-12-26:2026-12-27")
    )

    assert told(built, "2026-12-24T12:00Z", "2026-12-29T00:00Z") == [
        "+2026-12-24T22:00:00Z",
        "-2026-12-25T06:00:00Z",
        "+2026-12-28T22:00:00Z",
    ]


def test_a_closed_date_is_one_of_the_intervals_own_zone() -> None:
    tokyo = Interval(times=times("06:00-12:00"), location="Asia/Tokyo")
    built = calendar(tokyo, zone=BERLIN, closed=("2026-12-25",))

    assert told(built, "2026-12-24T12:00Z", "2026-12-25T22:00Z") == ["+2026-12-25T21:00:00Z"]


def test_extra_opens_closed_dates_too() -> None:
    extra = (
        Extra(dates=("2026-12-25",), times=times("10:00-12:00")),
        Extra(dates=("2026-12-27:2026-12-28",)),
    )
    built = calendar(OFFICE, zone=BERLIN, closed=("2026-12-25", "2026-12-28"), extra=extra)

    assert told(built, "2026-12-25T00:00Z", "2026-12-29T00:00Z") == [
        "+2026-12-25T09:00:00Z",
        "-2026-12-25T11:00:00Z",
        "+2026-12-26T23:00:00Z",
        "-2026-12-28T23:00:00Z",
    ]


@pytest.mark.parametrize(
    ("entries", "open_"),
    [
        ((Interval(),), True),
        ((Interval(times=times("06:00-06:01", "06:01-06:00")),), True),
        ((Interval(weekdays=("monday:friday",)), Interval(weekdays=("saturday", "sunday"))), True),
        ((Interval(weekdays=("sunday:saturday",), times=times("12:00-18:00", "18:00-12:00")),), True),
        ((Interval(months=("1:6",)), Interval(months=("7:12",))), True),
        ((Interval(years=("2020:2022",)),), False),
        ((Interval(years=("2020:9999",)),), True),
    ],
)
def test_what_never_changes_says_so(entries: tuple[Interval, ...], open_: bool) -> None:
    assert calendar(*entries).state(stamp.seconds("2026-11-23T12:00Z")) == State(open_, None)


@pytest.mark.parametrize(
    ("entries", "always"),
    [
        ((Interval(),), True),
        ((Interval(weekdays=("saturday",)), Interval(weekdays=("sunday:friday",))), True),
        (
            (
                Interval(weekdays=("saturday",), times=times("12:00-11:00")),
                Interval(times=times("11:00-12:00")),
            ),
            False,
        ),
        ((Interval(times=times("22:00-06:00", "06:00-22:00")),), True),
        ((Interval(times=times("00:00-12:00", "12:00:01-24:00")),), False),
        ((Interval(weekdays=("sunday:friday",)),), False),
        ((Interval(location="Asia/Tokyo"), Interval(years=(2026,))), True),
    ],
)
def test_always_is_known_without_looking_for_a_change(entries: tuple[Interval, ...], always: bool) -> None:
    assert calendar(*entries).always is always


def test_the_next_change_may_be_centuries_away() -> None:
    now = stamp.seconds("2026-11-23T12:00Z")

    assert calendar(Interval(years=(2999,))).state(now) == State(False, stamp.seconds("2999-01-01T00:00Z"))
    assert calendar(Interval(years=("2999:9999",))).state(now) == State(
        False, stamp.seconds("2999-01-01T00:00Z")
    )
    assert calendar(Interval(years=("2020:2999",))).state(now) == State(
        True, stamp.seconds("3000-01-01T00:00Z")
    )


def test_the_next_change_may_be_decades_away() -> None:
    built = calendar(
        Interval(days_of_month=(29,), months=("february",), weekdays=("monday",), times=times("12:00-13:00"))
    )

    assert built.state(stamp.seconds("2072-02-29T13:00Z")).until == stamp.seconds("2112-02-29T12:00Z")


def test_it_repeats_beyond_the_table_of_the_zone() -> None:
    built = calendar(OFFICE, zone=BERLIN)

    assert told(built, "2599-07-02T00:00Z", "2599-07-03T00:00Z") == [
        "+2599-07-02T07:00:00Z",
        "-2599-07-02T15:00:00Z",
    ]
    assert told(built, "2599-01-02T00:00Z", "2599-01-03T00:00Z") == [
        "+2599-01-02T08:00:00Z",
        "-2599-01-02T16:00:00Z",
    ]


def test_changes_begin_at_the_instant_that_is_named_and_go_on() -> None:
    built = calendar(OFFICE)
    opens = stamp.seconds("2026-11-23T09:00Z")

    assert next(built.changes(opens)) == (opens, True)
    assert next(built.changes(opens + 1)) == (opens + 8 * 3600, False)
    assert len(list(itertools.islice(built.changes(opens), 1000))) == 1000


def test_instants_outside_of_the_calendar_are_refused() -> None:
    built = calendar(OFFICE, zone="Pacific/Kiritimati")

    assert not built.is_open(opening.FIRST)
    assert built.state(opening.LAST).until is None
    for beyond in (opening.FIRST - 1, opening.LAST + 1):
        with pytest.raises(Malformed):
            built.state(beyond)


def test_a_zone_that_was_not_loaded_is_refused() -> None:
    with pytest.raises(Malformed, match="Europe/Berlin"):
        opening.compile(Hours(open=(Interval(location=BERLIN),)), TZDATA.zones(["UTC"]))


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-11-23T08:00:00Z", "2026-11-23T08:00:00Z"),
        ("2026-11-23t08:00:00.999999999z", "2026-11-23T08:00:00Z"),
        ("2026-11-23 08:00:00+01:00", "2026-11-23T07:00:00Z"),
        ("2026-11-23T08:00-00:00", "2026-11-23T08:00:00Z"),
        ("2026-12-31T23:30:00-05:30", "2027-01-01T05:00:00Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
    ],
)
def test_instants_are_read(text: str, utc: str) -> None:
    assert stamp.utc(stamp.seconds(text)) == utc


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-11-23",
        "2026-11-23T08:00:00",
        "2026-11-23T08Z",
        "2026-02-29T08:00Z",
        "2026-13-01T08:00Z",
        "2026-11-23T24:00Z",
        "2026-11-23T08:60Z",
        "2026-11-23T08:00:60Z",
        "2026-11-23T08:00+24:00",
        "2026-11-23T08:00+01:60",
        "0000-01-01T00:00Z",
        "2026-11-23T08:00Z\n",
        "\uff12026-11-23T08:00Z",
        "2026-11-23T08:00+0100",
    ],
)
def test_what_is_no_instant_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        stamp.seconds(text)


def test_local_times_carry_their_offset() -> None:
    berlin = TZDATA.zone(BERLIN)

    assert stamp.local(stamp.seconds("2026-11-23T08:00Z"), berlin) == "2026-11-23T09:00:00+01:00"
    assert (
        stamp.local(stamp.seconds("2026-07-23T23:00Z"), TZDATA.zone("America/St_Johns"))
        == "2026-07-23T20:30:00-02:30"
    )
    assert stamp.local(stamp.seconds("1890-01-01T00:00Z"), berlin) == "1890-01-01T00:53:28+00:53:28"


def test_days_have_numbers_beyond_the_years_of_datetime() -> None:
    assert days.civil(days.number(10_000, 2, 29)) == (10_000, 2, 29)
    assert days.number(10_000, 1, 1) == days.number(9999, 12, 31) + 1
    assert days.civil(0) == (0, 12, 31)
