# SPDX-License-Identifier: Apache-2.0
"""The record."""

from typing import Annotated, Any

from msgspec import Meta

from vmwarden.model.wire import Wire

#: bound on the canonical bytes of one record; a decision with 64 findings is about 16 kB
RECORD_BYTES = 65536

#: every kind that may be written; shapes of the bodies: docs/reference/journal.md
KINDS = frozenset(
    {
        "journal.started",
        "journal.corrupt",
        "journal.rotated",
        "journal.full",
        "warden.started",
        "warden.stopped",
        "warden.handed-over",
        "policy.applied",
        "policy.confirmed",
        "policy.reverted",
        "policy.refused",
        "policy.apply-undone",
        "policy.restored",
        "policy.revert-impossible",
        "pending.dropped",
        "changes.forgotten",
        "latch.repaired",
        "closed-rules.failed",
        "floors.recovered",
        "owners.rotated",
        "vm.enrolled",
        "vm.armed",
        "vm.disarmed",
        "vm.purged",
        "evidence.refused",
        "decision.changed",
        "posture.intent",
        "posture.taken",
        "posture.failed",
        "ask.recorded",
        "gate.installed",
        "gate.removed",
        "gate.repaired",
        "flows.ended",
        "gate.link-down",
        "gate.link-up",
        "watcher.connected",
        "watcher.lost",
        "clock.floor-advanced",
        "clock.stepped",
        "hours.loaded",
        "event",
    }
)

Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$", description="hex SHA-256")]


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
    root: Hash
    note: str


class JournalBase(Wire, frozen=True, kw_only=True, tag_field="format", tag="vmwarden.journal/1"):
    """What a journal file stands on.

    origin: names the log in its checkpoints (rules.checkpoint).  key: OpenSSH public key line of the
    signer, without comment.  first_seq: seq of the first record in this file; older ones are in sealed
    segments.  frontier: the hashes that stand for all records before first_seq, largest subtree first.
    """

    origin: Annotated[str, Meta(min_length=1, max_length=128)]
    key: Annotated[str, Meta(max_length=128)]
    first_seq: Annotated[int, Meta(ge=0, le=2**53)] = 0
    frontier: Annotated[tuple[Hash, ...], Meta(max_length=53)] = ()
