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

    def checkpoint(self, now: Moment) -> Checkpoint:
        """Sign the tree as it stands.  Raises JournalFull."""
        ...
