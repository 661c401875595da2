# SPDX-License-Identifier: Apache-2.0
"""Where the record is written."""

from typing import Any, Protocol

from vmwarden.model.journal import Checkpoint, Record
from vmwarden.model.moment import Moment


class Journal(Protocol):
    """Append-only, on disk when append returns."""

    def append(self, kind: str, body: dict[str, Any], now: Moment) -> Record:
        """Raises JournalFull when there is no room, Tampered when the file does not fit itself."""
        ...

    def head(self) -> tuple[int, str]:
        """Records written, and the root over them (hex)."""
        ...

    def checkpoint(self, now: Moment) -> Checkpoint:
        """Sign the tree as it stands.  Raises JournalFull."""
        ...

    def room(self) -> bool:
        """Whether the records of an opening, and of the closing that may follow it, will find room.

        To be asked before every opening; False refuses it.  Never raises.
        """
        ...
