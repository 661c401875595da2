# SPDX-License-Identifier: Apache-2.0
"""Hours, read once: the calendar of the VM and those of its services.

A warden asks every second what changes a few times a day, so each calendar remembers what it has answered
until the instant at which it changes.  That is the only thing here that moves, and no answer depends on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from vmwarden.model.policy import Hours
from vmwarden.rules.calendar import opening
from vmwarden.rules.calendar.opening import Calendar, State
from vmwarden.rules.calendar.zone import Zone

#: answers that are remembered: of now, of the last stamp, and of the moment at which a clock was put back
_REMEMBERED = 3


class Kept:
    """A calendar with its last answers."""

    __slots__ = ("_known", "calendar")

    def __init__(self, calendar: Calendar) -> None:
        self.calendar = calendar
        self._known: list[tuple[int, int | None, State]] = []

    def state(self, utc_s: int) -> State:
        """As Calendar.state.  Raises Malformed beyond the years that it answers for."""
        for begins, until, state in self._known:
            if begins <= utc_s and (until is None or utc_s < until):
                return state
        state = self.calendar.state(utc_s)
        # one slot, seen from an earlier instant: its end names it
        self._known = [known for known in self._known if known[2] != state][: _REMEMBERED - 1]
        self._known.insert(0, (utc_s, state.until, state))
        return state

    def one_slot(self, first_s: int, last_s: int) -> bool:
        """Whether both, and all between them, are in one slot; first_s <= last_s."""
        begins = self.state(first_s)
        return begins.open and (begins.until is None or last_s < begins.until)


@dataclass(frozen=True, slots=True)
class Timetable:
    """rest: of the VM, its services apart.  services: by name, in the order of the policy."""

    rest: Kept
    services: tuple[tuple[str, Kept], ...] = ()


def compile(hours: Hours, zones: Mapping[str, Zone]) -> Timetable:
    """zones: those of opening.zones_of.  Raises Malformed for the first mistake."""
    return Timetable(
        Kept(opening.compile(hours, zones)),
        tuple(
            (service.name, Kept(opening.compile_service(hours, service, zones))) for service in hours.services
        ),
    )
