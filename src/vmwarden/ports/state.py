# SPDX-License-Identifier: Apache-2.0
"""What the warden remembers."""

from typing import Protocol

from vmwarden.model.escalation import Escalation
from vmwarden.model.installed import Change, Installed
from vmwarden.model.moment import Moment


class State(Protocol):
    """What the warden remembers on disk."""

    def load(self, now: Moment) -> Installed: ...

    def settle(self, now: Moment) -> tuple[Change, ...]:
        """Finish what was begun on disk, revert a trial that is over; what was done, for the journal."""
        ...

    def untold(self) -> tuple[Change, ...]:
        """What commands did to the state since the journal was last told."""
        ...

    def told(self, changes: tuple[Change, ...]) -> bool:
        """These are in the journal; False if there are more by now."""
        ...

    def escalation(self) -> Escalation: ...

    def remember(self, escalation: Escalation) -> None: ...

    def floor_ms(self) -> int: ...

    def raise_floor(self, utc_ms: int) -> None: ...

    def boot_rules(self) -> str:
        """The closed rules of the last good policy, as nft text."""
        ...
