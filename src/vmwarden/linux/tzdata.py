# SPDX-License-Identifier: Apache-2.0
"""The time zones of this machine: files of tzdata, and their version."""

import re
from collections.abc import Iterable
from pathlib import Path

from vmwarden.errors import FileAbsent, Malformed, Problem, SourceUnavailable, TooLarge
from vmwarden.linux.files import read_bounded
from vmwarden.model.policy import Hours
from vmwarden.rules.calendar import opening, timetable, tzif
from vmwarden.rules.calendar.timetable import Timetable
from vmwarden.rules.calendar.zone import UTC, Zone

#: where zoneinfo looks (Python's Lib/sysconfig.py, TZPATH); importing it costs a warden 0.7 MB
FOLDERS = ("/usr/share/zoneinfo", "/usr/lib/zoneinfo", "/usr/share/lib/zoneinfo", "/etc/zoneinfo")
#: names of the tz database (theory.html, "Timezone identifiers")
_NAME = re.compile(r"[A-Za-z0-9_+-]{1,32}(/[A-Za-z0-9_+-]{1,32}){0,2}")
#: what this machine is set to, what nobody has set, and zones that count leap seconds
_NO_ZONES = re.compile(r"localtime|posixrules|Factory|(right|posix)(/.*)?")
#: where tzdata's version stands: its source text in one file, or a file of its own
_VERSIONS = (("tzdata.zi", re.compile(r"# version (\S+)")), ("+VERSION", re.compile(r"(\S+)")))
#: bound on tzdata.zi, bytes: 110 kB in 2025b
_TABLE_BYTES = 1 << 20


class Tzdata:
    """folders: searched in their order, like zoneinfo does."""

    def __init__(self, folders: Iterable[str | Path] = FOLDERS) -> None:
        self._folders = tuple(Path(folder) for folder in folders)

    def version(self) -> str:
        """Like 2025b; "unknown" where the package does not tell."""
        for folder in self._folders:
            for file, form in _VERSIONS:
                try:
                    text = read_bounded((folder / file).resolve(), _TABLE_BYTES).decode("ascii", "replace")
                except FileAbsent:
                    continue
                found = form.match(text)
                if found is not None:
                    return found[1]
        return "unknown"

    def zone(self, name: str) -> Zone:
        """Raises Malformed for a zone that is not there, SourceUnavailable if tzdata is not there at all."""
        if name == UTC.name:
            return UTC
        if _NAME.fullmatch(name) is None or _NO_ZONES.fullmatch(name):
            raise self._unknown(name)
        for folder in self._folders:
            try:
                return tzif.parse(read_bounded((folder / name).resolve(), tzif.FILE_BYTES), name)
            except (FileAbsent, TooLarge):
                continue
            except Malformed:
                if (folder / name).is_dir():
                    continue
                raise
        if not any(folder.is_dir() for folder in self._folders):
            raise SourceUnavailable("there is no tzdata on this machine", mend="install the package tzdata")
        raise self._unknown(name)

    def zones(self, names: Iterable[str]) -> dict[str, Zone]:
        """By their names.  Raises Malformed with every zone that is not there."""
        found: dict[str, Zone] = {}
        problems: list[Problem] = []
        for name in sorted(set(names)):
            try:
                found[name] = self.zone(name)
            except Malformed as error:
                problems += error.problems
        if problems:
            raise Malformed("unknown time zones", problems=problems)
        return found

    def timetable(self, hours: Hours) -> Timetable:
        """Hours, compiled by these zones.  Raises as zones does."""
        return timetable.compile(hours, self.zones(opening.zones_of(hours)))

    def _unknown(self, name: str) -> Malformed:
        import difflib
        import zoneinfo

        known = zoneinfo.available_timezones()
        lower = {zone.lower(): zone for zone in known if not _NO_ZONES.fullmatch(zone)}
        near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
        mend = f"did you mean {lower[near[0]]}?" if near else "write one like Europe/Berlin, or UTC"
        return Malformed(f"{name!r} is no time zone of tzdata", mend=mend)
