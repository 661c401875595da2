# SPDX-License-Identifier: Apache-2.0
"""The record."""

from typing import Annotated, Any

from msgspec import Meta

from vmwarden.model.wire import Wire


class Record(Wire, frozen=True, kw_only=True):
    """One entry; its leaf is SHA-256(0x00 || canonical bytes), RFC 6962.

    seq: from 0, no gaps.  kind: stable (docs/reference/journal.md).  body: depends on kind.
    """

    seq: Annotated[int, Meta(ge=0)]
    utc_ms: int
    boot_ms: int
    boot_id: str
    kind: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]*(\.[a-z0-9-]+)*$")]
    body: dict[str, Any]


class Checkpoint(Wire, frozen=True, kw_only=True):
    """size leaves have this root (hex SHA-256); note is the signed note in the C2SP form."""

    size: Annotated[int, Meta(ge=0)]
    root: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    note: str
