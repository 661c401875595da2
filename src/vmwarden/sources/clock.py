# SPDX-License-Identifier: Apache-2.0
"""The system clock: what the host, or time synchronisation, made this VM believe."""

from vmwarden.model.evidence import Evidence, Subject
from vmwarden.model.moment import Moment
from vmwarden.ports.tree import Tree
from vmwarden.rules import claim, instant


class Clock:
    """A declared claim for the reader's eye; no rule takes its time from here."""

    name = "clock"
    live_only = True

    def read(self, tree: Tree, now: Moment) -> tuple[Evidence, ...]:
        if not tree.live:
            return (claim.unavailable(self.name, Subject.CLOCK, claim.NOT_LIVE, now),)
        return (claim.declared(self.name, Subject.CLOCK, instant.text(now.utc_ms), now),)

    def statements(self, tree: Tree) -> tuple[str, ...]:
        return ()
