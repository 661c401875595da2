# SPDX-License-Identifier: Apache-2.0
"""Whole days of an iCalendar file (RFC 5545): a company's holidays, or those of a country.

Read here and not by a library, because none of them tells the line of a mistake, and an event that is left
out in silence is a day on which the VM is open.  Rules that repeat are dateutil's.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from dateutil.rrule import rrulestr  # type: ignore[import-untyped]

from vmwarden.errors import Problem

#: bound on events that repeat: one whose day never comes is looked for until the year 9999, for a second
REPEATING = 100
#: bound on one event, days: nobody has a holiday of more than a year
_LONGEST = 400
#: years that events may be in; rules are followed from their first year on
_YEARS = (1900, 2999)

_LINE = re.compile(
    r'(?P<name>[A-Za-z0-9-]+)(?P<parameters>(;[A-Za-z0-9-]+=("[^"]*"|[^";:,]*)(,("[^"]*"|[^";:,]*))*)*)'
    r":(?P<value>.*)"
)
_DATE = re.compile(r"(\d{4})(\d{2})(\d{2})", re.ASCII)
_DURATION = re.compile(r"\+?P(?:(\d{1,3})W|(\d{1,3})D)", re.ASCII)
#: rules that whole days have; with others dateutil takes minutes, or goes on for ever (INTERVAL=0)
_COMMON = r"INTERVAL=0*[1-9]\d{0,3}|COUNT=\d{1,4}|UNTIL=\d{8}|WKST=[A-Z]{2}|BYDAY=[-+0-9A-Z,]+"
_REPEATS = re.compile(
    rf"(?:FREQ=(?:WEEKLY|DAILY)(?:;(?:{_COMMON}))*)"
    rf"|(?:FREQ=(?:YEARLY|MONTHLY)(?:;(?:{_COMMON}|BY(?:MONTH|MONTHDAY|YEARDAY|WEEKNO|SETPOS)=[-+0-9,]+))*)",
    re.ASCII,
)
_UNTIL = re.compile(r"(UNTIL=\d{8})T\d{6}Z?")
_DATES_OF_EVENT = ("DTSTART", "DTEND", "RDATE", "EXDATE", "RECURRENCE-ID")


class _Wrong(Exception):
    """What is wrong with one line."""

    def __init__(self, line: int, message: str, mend: str = "") -> None:
        super().__init__(message)
        self.line, self.mend = line, mend


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    name: str
    value: str


@dataclass(slots=True)
class _Event:
    """As written; line: where it begins."""

    line: int
    lines: list[_Line] = field(default_factory=list)

    def one(self, name: str) -> _Line | None:
        return next((line for line in self.lines if line.name == name), None)

    def dates(self, name: str) -> list[date]:
        return [
            _date(line, text) for line in self.lines if line.name == name for text in line.value.split(",")
        ]


def whole_days(
    data: bytes, file: str, first: date, last: date
) -> tuple[frozenset[date], tuple[Problem, ...]]:
    """The days from first to last, both inclusive, on which there is an event; and every mistake.

    file: its name for messages.  Events that are cancelled count for nothing.  Never raises, for any bytes.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return frozenset(), (Problem("not UTF-8", "save the file as UTF-8", file),)
    problems: list[Problem] = []
    days: set[date] = set()
    try:
        events = [*_events(text)]
    except _Wrong as wrong:
        return frozenset(), (Problem(str(wrong), wrong.mend, file, wrong.line, 1),)
    moved = _moved(events)
    repeating = 0
    for event in events:
        repeating += event.one("RRULE") is not None
        try:
            if repeating > REPEATING:
                raise _Wrong(event.line, f"more than {REPEATING} events that repeat", "list their dates")
            days |= {day for day in _days(event, moved, first, last) if first <= day <= last}
        except _Wrong as wrong:
            problems.append(Problem(str(wrong), wrong.mend, file, wrong.line, 1))
    return frozenset(days), tuple(problems)


def _days(event: _Event, moved: dict[str, set[date]], first: date, last: date) -> Iterator[date]:
    status = event.one("STATUS")
    if status is not None and status.value.upper() == "CANCELLED":
        return
    for line in event.lines:
        if line.name == "DTSTART" and not _DATE.fullmatch(line.value):
            raise _Wrong(
                line.number, "an event at a time of day", "make it an event of whole days, or leave it out"
            )
    starts = event.dates("DTSTART")
    if not starts:
        raise _Wrong(event.line, "an event without DTSTART", "leave it out")
    length = _length(event, starts[0])
    begins = {starts[0], *event.dates("RDATE"), *_repeated(event, starts[0], first - length, last)}
    begins -= set(event.dates("EXDATE"))
    if event.one("RECURRENCE-ID") is None:
        begins -= moved.get(_uid(event), set())
    for begin in begins:
        yield from (begin + timedelta(days=number) for number in range(length.days))


def _length(event: _Event, start: date) -> timedelta:
    ends, duration = event.dates("DTEND"), event.one("DURATION")
    length = timedelta(days=1)
    line = event.one("DTEND") or duration
    if ends:
        length = ends[0] - start
    elif duration is not None:
        found = _DURATION.fullmatch(duration.value)
        if found is None:
            raise _Wrong(duration.number, f"{duration.value[:80]!r} is no duration of days", "write like P1D")
        length = timedelta(weeks=int(found[1] or 0), days=int(found[2] or 0))
    if line is not None and not 1 <= length.days <= _LONGEST:
        raise _Wrong(line.number, f"an event of {length.days} days", "DTEND is the day after the last one")
    return length


def _repeated(event: _Event, start: date, first: date, last: date) -> set[date]:
    rule = event.one("RRULE")
    if rule is None:
        return set()
    text = _UNTIL.sub(r"\1", rule.value.upper())
    if _REPEATS.fullmatch(text) is None:
        raise _Wrong(rule.number, f"{rule.value[:80]!r} does not repeat by days", "list its dates")
    try:
        repeats = rrulestr(text, dtstart=datetime.combine(start, datetime.min.time()))
        between = repeats.between(
            datetime.combine(first, datetime.min.time()),
            datetime.combine(last, datetime.min.time()),
            inc=True,
        )
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, AttributeError) as error:
        # rrulestr lets whatever its parts raise out
        raise _Wrong(rule.number, f"{rule.value[:80]!r} cannot be read: {error}", "list its dates") from error
    return {instant.date() for instant in between}


def _moved(events: Iterable[_Event]) -> dict[str, set[date]]:
    """By event: the dates on which it is otherwise than its rule says (RECURRENCE-ID)."""
    moved: dict[str, set[date]] = {}
    for event in events:
        line = event.one("RECURRENCE-ID")
        if line is not None and _DATE.fullmatch(line.value):
            try:
                moved.setdefault(_uid(event), set()).update(event.dates("RECURRENCE-ID"))
            except _Wrong:
                continue  # it is told where the event is read
    return moved


def _uid(event: _Event) -> str:
    line = event.one("UID")
    return line.value if line is not None else ""


def _events(text: str) -> Iterator[_Event]:
    """Raises _Wrong where it is no calendar."""
    within: list[str] = []
    event: _Event | None = None
    line = None
    for line in _lines(text):
        part = line.value.strip().upper()
        if line.name == "BEGIN":
            within.append(part)
            if within == ["VCALENDAR", "VEVENT"]:
                event = _Event(line.number)
        elif not within or within[0] != "VCALENDAR":
            raise _Wrong(line.number, "no iCalendar file", "it begins with BEGIN:VCALENDAR")
        elif line.name == "END":
            if within.pop() != part:
                raise _Wrong(line.number, f"END:{part[:40]} ends what did not begin", "export the file again")
            if event is not None and part == "VEVENT":
                yield event
                event = None
        elif event is not None and within[-1] == "VEVENT":
            event.lines.append(line)
    if line is None:
        raise _Wrong(1, "the file is empty", "export it again")
    if within:
        raise _Wrong(
            line.number, f"the file ends within {within[-1][:40]}", "it was cut off: export it again"
        )


def _lines(text: str) -> Iterator[_Line]:
    """Unfolded (RFC 5545, 3.1).  Raises _Wrong."""
    folded: list[tuple[int, str]] = []
    for number, written in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        if written[:1] in (" ", "\t") and folded:
            folded[-1] = folded[-1][0], folded[-1][1] + written[1:]
        elif written.strip():
            folded.append((number, written))
    for number, written in folded:
        found = _LINE.fullmatch(written)
        if found is None:
            raise _Wrong(number, f"{written[:40]!r} is no line of iCalendar", "export the file again")
        name = found["name"].upper()
        value = found["value"].strip() if name in _DATES_OF_EVENT else found["value"]
        yield _Line(number, name, value)


def _date(line: _Line, text: str) -> date:
    found = _DATE.fullmatch(text.strip())
    if found is None:
        raise _Wrong(line.number, f"{line.name}: {text[:40]!r} is no date", "write whole days, like 20261225")
    try:
        day = date(int(found[1]), int(found[2]), int(found[3]))
    except ValueError as error:
        raise _Wrong(
            line.number, f"{line.name}: there is no {text[:40]}", "write a date that there is"
        ) from error
    if not _YEARS[0] <= day.year <= _YEARS[1]:
        raise _Wrong(line.number, f"{line.name}: the year {day.year}", f"from {_YEARS[0]} to {_YEARS[1]}")
    return day
