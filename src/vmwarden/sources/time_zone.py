# SPDX-License-Identifier: Apache-2.0
"""The time zone that this VM is set to.  It says nothing of the host; fences on place never read it."""

import re

from vmwarden.errors import Malformed, SourceUnavailable
from vmwarden.model.evidence import Evidence, Subject
from vmwarden.model.moment import Moment
from vmwarden.ports.tree import Tree
from vmwarden.rules import claim

_LINK = "/etc/localtime"
_FILE = "/etc/timezone"
#: names of the tz database (theory.html, "Timezone identifiers")
_NAME = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}")


class TimeZone:
    """From the link /etc/localtime (authoritative by localtime(5)), else from Debian's /etc/timezone."""

    name = "time_zone"
    live_only = False

    def read(self, tree: Tree, now: Moment) -> tuple[Evidence, ...]:
        reasons = []
        for look in (_linked, _written):
            try:
                zone = look(tree)
            except (SourceUnavailable, Malformed) as error:
                reasons.append(str(error))
            else:
                return (claim.declared(self.name, Subject.GUEST_TIME_ZONE, zone, now),)
        return (claim.unavailable(self.name, Subject.GUEST_TIME_ZONE, "; ".join(reasons), now),)

    def statements(self, tree: Tree) -> tuple[str, ...]:
        return ()


def _linked(tree: Tree) -> str:
    _, marker, zone = tree.link(_LINK).partition("/zoneinfo/")
    if not marker:
        raise Malformed(f"{_LINK}: does not point into zoneinfo")
    return _named(zone.removeprefix("posix/").removeprefix("right/"), _LINK)


def _written(tree: Tree) -> str:
    return _named(claim.printable(tree.read(_FILE, 256), _FILE), _FILE)


def _named(zone: str, where: str) -> str:
    if len(zone) > claim.VALUE_CHARACTERS or _NAME.fullmatch(zone) is None:
        raise Malformed(f"{where}: no name of a time zone")
    return zone
