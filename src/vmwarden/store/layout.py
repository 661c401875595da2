# SPDX-License-Identifier: Apache-2.0
"""Where the files of the VM lie.  Nowhere else is a path of them written down."""

from pathlib import Path
from typing import NamedTuple

from vmwarden.model.installed import Slot

#: below Layout.state; owners.json alone lies in Layout.etc, because images carry it and the warden never
#: needs to write there except to rotate owners
_STATE = {
    Slot.ENROLMENT: "enrolment.json",
    Slot.IDENTITY: "identity.key",
    Slot.POLICY: "policy.signed.json",
    Slot.PREVIOUS: "policy.previous.json",
    Slot.PENDING: "pending.json",
    Slot.ARMED: "armed",
    Slot.CLOSED: "closed.nft",
    Slot.FLOORS: "floors.json",
    Slot.INCIDENTS: "incidents.json",
    Slot.UNRECORDED: "unrecorded.json",
    Slot.LOCK: "lock",
}


class Layout(NamedTuple):
    """Three folders: etc (what the image brings), state (0700, survives a boot), run (sockets)."""

    etc: Path = Path("/etc/vmwarden")
    state: Path = Path("/var/lib/vmwarden")
    run: Path = Path("/run/vmwarden")

    @classmethod
    def below(cls, root: Path) -> "Layout":
        """The same folders below root: for images and tests."""
        usual = cls()
        return cls(
            etc=root / usual.etc.relative_to("/"),
            state=root / usual.state.relative_to("/"),
            run=root / usual.run.relative_to("/"),
        )

    def path(self, slot: Slot) -> Path:
        """Of the file for slot."""
        if slot is Slot.OWNERS:
            return self.etc / "owners.json"
        return self.state / _STATE[slot]

    @property
    def owners(self) -> Path:
        return self.path(Slot.OWNERS)

    @property
    def identity(self) -> Path:
        """Private key of this VM, OpenSSH form, 0600."""
        return self.path(Slot.IDENTITY)

    @property
    def armed(self) -> Path:
        """The latch: its presence, or that of closed_rules, is what vmwarden-closed.service looks for."""
        return self.path(Slot.ARMED)

    @property
    def closed_rules(self) -> Path:
        """What vmwarden-closed.service loads with plain nft."""
        return self.path(Slot.CLOSED)

    @property
    def journal(self) -> Path:
        """The database; its room keeps more files beside it, all beginning with this name."""
        return self.state / "journal.db"

    @property
    def control_socket(self) -> Path:
        return self.run / "control.sock"

    @property
    def watcher_socket(self) -> Path:
        return self.run / "watcher.sock"
