# SPDX-License-Identifier: Apache-2.0
"""A journal in memory that keeps the promises of the one on disk."""

from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vmwarden.errors import JournalFull
from vmwarden.model.journal import Checkpoint, Record
from vmwarden.model.moment import Moment
from vmwarden.rules import checkpoint, record, tree

#: a fixed key: what a test prints is the same every time
SEED = bytes(range(32))


class MemoryJournal:
    """ports.journal.Journal.  records: what was written.  capacity: how many fit; may be changed at any
    time, as room on a disk may."""

    def __init__(self, *, vm: str = "test-vm", capacity: int | None = None) -> None:
        self.key = Ed25519PrivateKey.from_private_bytes(SEED)
        self.origin = checkpoint.origin(vm)
        self.capacity = capacity
        self.records: list[Record] = []
        self.checkpoints: list[Checkpoint] = []
        self._frontier = tree.Frontier()
        first = Moment(boot_ms=0, utc_ms=0)
        self._write(
            "journal.started",
            {"origin": self.origin, "key": checkpoint.key_line(self.key.public_key()), "aside": []},
            first,
        )

    def append(self, kind: str, body: dict[str, Any], now: Moment) -> Record:
        """Raises JournalFull beyond capacity, BugError as the journal on disk does."""
        record.make(kind, body, now, seq=0)
        if self.capacity is not None and len(self.records) >= self.capacity:
            raise JournalFull("no room")
        return self._write(kind, body, now)

    def checkpoint(self, now: Moment) -> Checkpoint:
        """Sign the tree as it stands."""
        made = checkpoint.sign(
            self.origin, size=self._frontier.size, root=self._frontier.root(), key=self.key
        )
        self.checkpoints.append(made)
        return made

    def head(self) -> tuple[int, str]:
        """Records written, and the root over them."""
        return self._frontier.size, self._frontier.root().hex()

    def room(self) -> bool:
        """Whether two more records fit."""
        return self.capacity is None or len(self.records) + 2 <= self.capacity

    def kinds(self) -> list[str]:
        """Of all records, in order."""
        return [one.kind for one in self.records]

    def _write(self, kind: str, body: dict[str, Any], now: Moment) -> Record:
        written, data = record.make(kind, body, now, seq=len(self.records))
        self._frontier = self._frontier.append(tree.leaf(data))
        self.records.append(written)
        return written
