# SPDX-License-Identifier: Apache-2.0
"""Slots in which a VM serves, as its owner writes them; the clause `hours` around them is in model.policy.

Interval has the fields of Prometheus Alertmanager's time_interval (docs/configuration.md of
prometheus/alertmanager).  Times of day, ranges of days and dates stay text here;
vmwarden.rules.calendar.fields reads them and says what is wrong with one.
"""

from typing import Annotated

from msgspec import Meta

from vmwarden.model.wire import Wire

#: bound on one list of an interval: a year has 366 days, and nobody lists each of them twice
LIST = 400
#: bound on lists of dates: holidays of ten years, expanded when a policy is signed
DATES = 4000

Clock = Annotated[str, Meta(max_length=8, description='HH:MM or HH:MM:SS; as an end also "24:00"')]
Weekdays = Annotated[str, Meta(max_length=20, description="monday, or monday:friday")]
DaysOfMonth = Annotated[str, Meta(max_length=8, description='"1", "1:7", "-3:-1"; -1 is the last day')]
Months = Annotated[str, Meta(max_length=20, description='january, "1", january:march')]
Years = Annotated[str, Meta(max_length=11, description='"2026", or "2026:2028"')]
Dates = Annotated[str, Meta(max_length=21, description='"2026-12-25", or "2026-12-24:2026-12-26"')]
IntervalName = Annotated[
    str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$", description="name of one of hours.intervals")
]
ZoneName = Annotated[str, Meta(max_length=64, description="a zone of tzdata, like Europe/Berlin")]


class TimeRange(Wire, frozen=True, kw_only=True):
    """From start_time (inclusive) to end_time (exclusive).

    An end before the start is on the next day; the whole range belongs to the day on which it begins.
    """

    start_time: Clock
    end_time: Clock


Times = Annotated[tuple[TimeRange, ...], Meta(min_length=1, max_length=LIST)]


class Interval(Wire, frozen=True, kw_only=True):
    """Open when every field that is there holds; of one field, one range suffices.  No field: always.

    location: the zone whose local reading counts; None = that of the clause around it.
    """

    times: Times | None = None
    weekdays: Annotated[tuple[Weekdays, ...], Meta(min_length=1, max_length=LIST)] | None = None
    days_of_month: Annotated[tuple[DaysOfMonth | int, ...], Meta(min_length=1, max_length=LIST)] | None = None
    months: Annotated[tuple[Months | int, ...], Meta(min_length=1, max_length=LIST)] | None = None
    years: Annotated[tuple[Years | int, ...], Meta(min_length=1, max_length=LIST)] | None = None
    location: ZoneName | None = None


class Extra(Wire, frozen=True, kw_only=True):
    """Open on these dates beside all else, also on dates of closed_on.  No times: the whole day."""

    dates: Annotated[tuple[Dates, ...], Meta(min_length=1, max_length=DATES)]
    times: Times | None = None
