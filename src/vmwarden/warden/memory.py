# SPDX-License-Identifier: Apache-2.0
"""What the warden remembers on disk (the State of warden.warden), in the files of vmwarden.store."""

from vmwarden.controls.gate import uids_of
from vmwarden.model.escalation import Escalation
from vmwarden.model.installed import Change, Installed, Slot
from vmwarden.model.moment import Moment
from vmwarden.model.policy import Policy
from vmwarden.rules.ruleset import NO_MANAGE, boot_file, intact
from vmwarden.store import cells, delivery, floors, incidents, installed, unrecorded
from vmwarden.store.layout import Layout


def closed_rules(policy: Policy) -> str:
    """The boot file of a policy: the closed rules as nft text.  Raises ControlFailed, Malformed."""
    return boot_file(policy, users=uids_of(policy))


class Memory:
    """Files below one layout."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def load(self, now: Moment) -> Installed:
        return installed.load(self._layout, now)

    def settle(self, now: Moment) -> tuple[Change, ...]:
        return delivery.settle(self._layout, now, closed_rules=closed_rules)

    def untold(self) -> tuple[Change, ...]:
        return unrecorded.peek(self._layout)

    def told(self, changes: tuple[Change, ...]) -> bool:
        return unrecorded.clear(self._layout, changes)

    def escalation(self) -> Escalation:
        return incidents.load(self._layout).escalation

    def remember(self, escalation: Escalation) -> None:
        incidents.save(self._layout, escalation)

    def floor_ms(self) -> int:
        return floors.time_floor(self._layout)

    def raise_floor(self, utc_ms: int) -> None:
        floors.raise_time_floor(self._layout, utc_ms)

    def boot_rules(self) -> str:
        """What vmwarden-closed loads; rules without any manage where that cannot be read or is damaged."""
        found = cells.read_one(self._layout, Slot.CLOSED)
        text = found.decode("utf-8", "replace") if isinstance(found, bytes) else ""
        return text if intact(text) else NO_MANAGE
