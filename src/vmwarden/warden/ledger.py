# SPDX-License-Identifier: Apache-2.0
"""The journal as the warden uses it: bounded by quota, and never a reason to stop guarding."""

from collections.abc import Callable
from typing import Any

from vmwarden.errors import JournalError, WorldError
from vmwarden.model.control import JournalStatus
from vmwarden.model.moment import Moment
from vmwarden.model.posture import Posture
from vmwarden.ports.journal import Journal
from vmwarden.rules.quota import Spent, spend

#: records that others can cause as often as they like: a captured watcher, a host that changes its mind, a
#: kernel that refuses.  rules.quota says how many are written.
_RATIONED = frozenset(
    (
        "event",
        "watcher.connected",
        "watcher.lost",
        "decision.changed",
        "posture.taken",
        "posture.failed",
        "ask.recorded",
        "gate.installed",
        "gate.repaired",
        "clock.floor-advanced",
    )
)
#: counts openings: what is not recorded does not happen, so these are rationed by not happening
_OPENINGS = "posture.intent"


class Ledger:
    """Records what happens; says so when it cannot."""

    def __init__(self, journal: Journal, say: Callable[[str], None]) -> None:
        self._journal = journal
        self._say = say
        self._ok = True
        self._spent: dict[str, Spent] = {}

    def record(self, kind: str, body: dict[str, Any], now: Moment) -> bool:
        """False when the journal did not take it; True also for one that its quota withheld."""
        if kind in _RATIONED:
            self._spent[kind], withheld = spend(self._spent.get(kind), now)
            if withheld is None:
                return True
            body = {**body, "withheld": withheld} if withheld else body
        try:
            self._journal.append(kind, body, now)
        except (JournalError, WorldError) as error:
            if self._ok:
                self._say(f"the journal does not take records: {error}; nothing is opened until it does")
            self._ok = False
            return False
        self._ok = True
        return True

    def withheld(self, kind: str) -> bool:
        """Whether the last record of that kind was too many; then the console is spared, too."""
        spent = self._spent.get(kind)
        return spent is not None and spent.withheld > 0

    def may_open(self, now: Moment) -> bool:
        """Whether the quota of openings has one left."""
        return spend(self._spent.get(_OPENINGS), now)[1] is not None

    def opening(self, posture: Posture, now: Moment) -> bool:
        """Record that the VM is about to open; False: it may not, because that cannot be recorded."""
        spent, left = spend(self._spent.get(_OPENINGS), now)
        if left is None or not self._journal.room():
            return False
        if not self.record(_OPENINGS, {"posture": posture}, now):
            return False
        self._spent[_OPENINGS] = spent
        return True

    def sign(self, now: Moment) -> None:
        """Keep the signature over the journal as it stands: at boot and with every posture."""
        try:
            self._journal.checkpoint(now)
        except (JournalError, WorldError):
            pass  # record has said so, or will with its next record

    def note(self, now: Moment) -> str:
        """A signed note over the journal as it stands.  Raises JournalError."""
        return self._journal.checkpoint(now).note

    def status(self) -> JournalStatus:
        """Size, root, and whether it takes records."""
        size, root = self._journal.head()
        return JournalStatus(size=size, root=root, writable=self._ok)
