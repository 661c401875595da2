# SPDX-License-Identifier: Apache-2.0
"""Journals where there is none: on a VM that is not enrolled, or whose journal cannot be opened."""

from typing import Any

from vmwarden.errors import JournalFull
from vmwarden.model.journal import Checkpoint, Record
from vmwarden.model.moment import Moment
from vmwarden.rules import tree


class Unkept:
    """A ports.journal.Journal that keeps nothing.

    refusal: "" for a VM that is not enrolled, where nothing is to be recorded; otherwise why nothing can be:
    then every append is refused, and so nothing is opened.
    """

    def __init__(self, refusal: str = "") -> None:
        self._refusal = refusal

    def append(self, kind: str, body: dict[str, Any], now: Moment) -> Record:
        if self._refusal:
            raise JournalFull(self._refusal)
        return Record(
            seq=0, utc_ms=now.utc_ms, boot_ms=now.boot_ms, boot_id=now.boot_id, kind=kind, body=body
        )

    def head(self) -> tuple[int, str]:
        return 0, tree.EMPTY_ROOT.hex()

    def checkpoint(self, now: Moment) -> Checkpoint:
        raise JournalFull(self._refusal or "this VM is not enrolled and keeps no journal")

    def room(self) -> bool:
        return not self._refusal
