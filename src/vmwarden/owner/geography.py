# SPDX-License-Identifier: Apache-2.0
"""What a policy says about the world: countries, time zones and postal codes that there are."""

import difflib
from collections.abc import Iterator

from vmwarden.model.policy import Policy
from vmwarden.owner.zones import TimeZones
from vmwarden.rules import postal
from vmwarden.rules.countries import COUNTRIES
from vmwarden.rules.sound import Path, Unsound

#: codes that people write and ISO 3166-1 does not have, and what is meant
_MEANT = {"UK": "GB", "EL": "GR", "EU": "the countries of the Union one by one"}


def errors(policy: Policy, zones: TimeZones) -> Iterator[Unsound]:
    """Countries, zones and postal codes that do not exist: no evidence will ever match them."""
    for path, country, codes, names in _places(policy):
        if country is not None:
            yield from _country((*path, "country"), country)
        for below, code in codes:
            if postal.check_pattern("", code) is not None:
                continue  # sound.policy says so already
            wrong = postal.check_pattern(country or "", code)
            if wrong is not None:
                yield Unsound(below, f"{code!r} {wrong}", "look it up")
        for below, name in names:
            if not zones.names:
                yield Unsound(below, "time zones cannot be checked: no tzdata here", "install tzdata")
            elif name not in zones.names:
                yield Unsound(below, f"{name!r} is no time zone of tzdata", _zone_mend(name, zones))


def warnings(policy: Policy, zones: TimeZones) -> Iterator[Unsound]:
    """Zones that are not in use in the country beside them: an entry that can hardly be satisfied."""
    for path, country, _, names in _places(policy):
        for below, name in names:
            used_in = zones.countries.get(name)
            if country is not None and used_in is not None and country not in used_in:
                yield Unsound(
                    below,
                    f"{name} is not a time zone of {country} (tzdata: {', '.join(sorted(used_in))})",
                    "within one entry every listed field must match",
                    ((*path, "country"),),
                )


_Named = list[tuple[Path, str]]


def _places(policy: Policy) -> Iterator[tuple[Path, str | None, _Named, _Named]]:
    """Path, country, postal codes and time zones of every entry of place and every row of facilities."""
    for index, entry in enumerate(policy.place.any_of if policy.place is not None else ()):
        path: Path = ("place", "any_of", index)
        codes: _Named = [((*path, "postal_codes", i), code) for i, code in enumerate(entry.postal_codes)]
        names: _Named = [((*path, "time_zones", i), name) for i, name in enumerate(entry.time_zones)]
        yield path, entry.country, codes, names
    for index, row in enumerate(policy.trust.facilities):
        path = ("trust", "facilities", index)
        codes = [((*path, "postal_code"), row.postal_code)] if row.postal_code is not None else []
        names = [((*path, "time_zone"), row.time_zone)] if row.time_zone is not None else []
        yield path, row.country, codes, names


def _country(path: Path, code: str) -> Iterator[Unsound]:
    if code not in COUNTRIES:
        mend = f"write {_MEANT[code]}" if code in _MEANT else "write the two letters of ISO 3166-1, like DE"
        yield Unsound(path, f"{code} is no country of ISO 3166-1", mend)


def _zone_mend(name: str, zones: TimeZones) -> str:
    by_lower = {known.lower(): known for known in zones.names}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.7)
    return f"did you mean {by_lower[near[0]]}?" if near else "write a name of tzdata, like Europe/Berlin"
