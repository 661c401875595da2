# SPDX-License-Identifier: Apache-2.0
"""Where the files of one journal stand: all in one folder, all named after the journal.

journal.db                        records, checkpoints, base; -wal and -shm beside it are SQLite's
journal.db.head                   the newest checkpoint once more, outside the database
journal.db.reserve                room for the last records, given up when the disk is full
journal.db.sealed-<first>-<size>  older records, complete and never written again
journal.db.aside-<n>              set aside, with its -wal, -shm, -journal, .head and .sealed-…
journal.db.new                    a journal that is being made; worthless after a crash
"""

import re
from dataclasses import dataclass
from pathlib import Path

#: SQLite's files beside a database
COMPANIONS = ("-wal", "-shm", "-journal")
_SEALED = re.compile(r"\.sealed-([0-9]{12,})-([0-9]{12,})")
#: what belongs to a journal set aside, and what a crash in the middle of sealing or making one leaves
_LEFT = re.compile(
    r"\.aside-[0-9]{1,9}(-wal|-shm|-journal|\.head|\.sealed-[0-9-]+)"
    r"|\.(sealed-[0-9-]+\.)?new(-wal|-shm|-journal)?"
)
_ASIDE = re.compile(r"\.aside-([0-9]{1,9})")


@dataclass(frozen=True)
class JournalPaths:
    """path: of the database."""

    path: Path

    @property
    def head(self) -> Path:
        return self._beside(".head")

    @property
    def wal(self) -> Path:
        return self._beside("-wal")

    @property
    def reserve(self) -> Path:
        return self._beside(".reserve")

    @property
    def new(self) -> Path:
        return self._beside(".new")

    def companions(self) -> tuple[Path, ...]:
        """SQLite's files beside the database, whether they exist or not."""
        return tuple(self._beside(suffix) for suffix in COMPANIONS)

    def everything(self) -> tuple[Path, ...]:
        """Every file of this journal that is there: what image prepare and purge remove.  Raises OSError."""
        own = (self.path, self.head, self.reserve, *self.companions())
        standing = tuple(path for path in own if path.is_symlink() or path.exists())
        return standing + self.sealed() + self.aside() + tuple(path for _, path in self._matching(_LEFT))

    def sealed_name(self, first: int, size: int) -> Path:
        """Of the segment that holds records first to size - 1."""
        return self._beside(f".sealed-{first:012d}-{size:012d}")

    def first_of(self, segment: Path) -> int:
        """Number of the first record in one of sealed()."""
        match = _SEALED.fullmatch(segment.name, len(self.path.name))
        return int(match[1]) if match else 0

    def sealed_stem(self, first: int) -> str:
        """How the name of every segment begins that starts with record first."""
        return self._beside(f".sealed-{first:012d}-").name

    def sealed(self) -> tuple[Path, ...]:
        """Sealed segments that are there, oldest first.  Raises OSError."""
        found = self._matching(_SEALED)
        return tuple(path for _, path in sorted((int(match[1]), path) for match, path in found))

    def aside(self) -> tuple[Path, ...]:
        """Journals that were set aside, oldest first.  Raises OSError."""
        found = self._matching(_ASIDE)
        return tuple(path for _, path in sorted((int(match[1]), path) for match, path in found))

    def next_aside(self) -> Path:
        """A name that is free.  Raises OSError."""
        taken = [int(match[1]) for match, _ in self._matching(_ASIDE)]
        return self._beside(f".aside-{max(taken, default=0) + 1}")

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    def _matching(self, form: re.Pattern[str]) -> list[tuple[re.Match[str], Path]]:
        start = len(self.path.name)
        found = []
        for path in self.path.parent.iterdir():
            match = form.fullmatch(path.name, start) if path.name.startswith(self.path.name) else None
            if match is not None:
                found.append((match, path))
        return found
