# SPDX-License-Identifier: Apache-2.0
"""A source of evidence."""

from typing import Protocol

from vmwarden.model.evidence import Evidence
from vmwarden.model.moment import Moment
from vmwarden.ports.tree import Tree


class Source(Protocol):
    """Reads one local channel of one platform.

    name: stable, the first part of every evidence id.
    live_only: it needs the running machine (a clock, a socket); with --root it says unavailable.
    """

    @property
    def name(self) -> str: ...

    @property
    def live_only(self) -> bool: ...

    def read(self, tree: Tree, now: Moment) -> tuple[Evidence, ...]:
        """All that this source says.  Never raises for what the tree holds: a dead source returns one
        evidence with unavailable set, never an empty tuple."""
        ...

    def statements(self, tree: Tree) -> tuple[str, ...]:
        """Compact JWS documents that ride on this channel, unread; empty where there are none."""
        ...
