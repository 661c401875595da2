# SPDX-License-Identifier: Apache-2.0
"""Any bytes are a calendar or have mistakes; nothing is raised, and what is left out is told."""

from datetime import date

from hypothesis import given, settings
from hypothesis import strategies as st

from vmwarden.owner import icalendar

FIRST, LAST = date(2026, 11, 1), date(2027, 11, 1)
DATES = st.sampled_from(["20261224", "20261231", "20270229", "20001224", "now", "", "20261224T080000Z"])
RULES = st.builds(
    "FREQ={};{}={}".format,
    st.sampled_from(["YEARLY", "MONTHLY", "DAILY", "HOURLY", ""]),
    st.sampled_from(["COUNT", "INTERVAL", "BYDAY", "BYMONTH", "UNTIL", "BYSETPOS", "X"]),
    st.sampled_from(["0", "1", "3", "-1", "MO", "1MO", "-5SU", "13", "20271231", "99999999"]),
)
LINES = st.one_of(
    st.builds(
        "{}:{}".format, st.sampled_from(["DTSTART", "DTEND", "EXDATE", "RDATE", "RECURRENCE-ID"]), DATES
    ),
    st.builds("RRULE:{}".format, RULES),
    st.sampled_from(
        ["DURATION:P1D", "DURATION:P0D", "DURATION:PT1H", "STATUS:cancelled", "UID:a", " folded"]
    ),
    st.sampled_from(["BEGIN:VEVENT", "END:VEVENT", "BEGIN:VALARM", "END:VALARM", "END:VCALENDAR"]),
    st.text(max_size=20),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.lists(LINES, max_size=5), max_size=3), st.booleans())
def test_every_calendar_has_days_or_mistakes(events: list[list[str]], framed: bool) -> None:
    lines = [line for event in events for line in ("BEGIN:VEVENT", "DTSTART:20261226", *event, "END:VEVENT")]
    if framed:
        lines = ["BEGIN:VCALENDAR", *lines, "END:VCALENDAR"]
    days, problems = icalendar.whole_days(
        "\r\n".join(lines).encode("utf-8", "surrogatepass"), "f", FIRST, LAST
    )
    assert all(FIRST <= day <= LAST for day in days)
    assert all(problem.message and problem.file == "f" for problem in problems)
    assert framed or problems
