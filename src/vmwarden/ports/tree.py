# SPDX-License-Identifier: Apache-2.0
"""A file-system root, real or recorded."""

from typing import Protocol


class Tree(Protocol):
    """Bounded reads below one root; nothing outside is ever opened, symbolic links included.

    Paths are absolute ("/sys/class/dmi/id/sys_vendor").
    """

    @property
    def live(self) -> bool:
        """True for the running machine, False for a recorded tree."""
        ...

    def read(self, path: str, limit: int = 65536) -> bytes:
        """At most limit bytes.  Raises SourceUnavailable with the reason (absent, denied, too large)."""
        ...

    def link(self, path: str) -> str:
        """Where a symbolic link points, as it is written; nothing is followed.  Raises SourceUnavailable."""
        ...

    def list(self, path: str) -> tuple[str, ...]:
        """Names in a folder, sorted.  Raises SourceUnavailable."""
        ...
