# SPDX-License-Identifier: Apache-2.0
"""The hours of a policy, by the time zones of this VM."""

from typing import Any

from vmwarden.errors import UntrustedInput, WorldError
from vmwarden.linux.tzdata import Tzdata
from vmwarden.model.policy import Hours
from vmwarden.rules.calendar.opening import zones_of
from vmwarden.rules.calendar.timetable import Timetable


def timetable(hours: Hours) -> tuple[Timetable | None, dict[str, Any]]:
    """Hours, compiled, and what of it goes into the record (hours.loaded).

    None: a zone is not there, or there is no tzdata; the record says why.
    """
    tzdata = Tzdata()
    told: dict[str, Any] = {"tzdata": tzdata.version(), "zones": sorted(zones_of(hours))}
    try:
        return tzdata.timetable(hours), told
    except (UntrustedInput, WorldError) as error:
        return None, {**told, "why": str(error)}
