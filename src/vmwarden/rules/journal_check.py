# SPDX-License-Identifier: Apache-2.0
"""Whether a journal is what was written."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from vmwarden.errors import BadSignature, Tampered, UntrustedInput, UsageError
from vmwarden.model.journal import RECORD_BYTES, Checkpoint, JournalBase, Record
from vmwarden.rules import canonical, checkpoint, tree

#: bound on the canonical bytes of a JournalBase: 53 hashes of 67 bytes and the rest
BASE_BYTES = 8192


class StoredRecord(NamedTuple):
    """A row as it stands, believed in nothing."""

    seq: int
    data: bytes
    leaf: bytes


class StoredCheckpoint(NamedTuple):
    """A row as it stands, believed in nothing."""

    size: int
    note: str


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A journal in which nothing is wrong.

    size: records of the whole log; first_seq up to size - 1 were read.  checkpoints: how many were verified.
    newest: the checkpoint over everything.
    """

    base: JournalBase
    size: int
    checkpoints: int
    newest: Checkpoint


def read_base(data: bytes) -> tuple[JournalBase, tree.Frontier, Ed25519PublicKey]:
    """What a file stands on.  Raises Tampered."""
    try:
        base = canonical.decode(data, JournalBase, limit=BASE_BYTES, what="the journal's base")
        checkpoint.vm_of(base.origin)
        key = checkpoint.key_of(base.key)
        if checkpoint.key_line(key) != base.key:
            raise Tampered("the journal's base: its key has more than one form")
        return base, frontier_of(base), key
    except UntrustedInput as error:
        raise Tampered(f"the journal's base: {error}") from error


def frontier_of(base: JournalBase) -> tree.Frontier:
    """Of everything before base.first_seq.  Raises Malformed."""
    return tree.Frontier(base.first_seq, tuple(bytes.fromhex(one) for one in base.frontier))


def read_record(row: StoredRecord, *, seq: int) -> Record:
    """The record in a row that should be number seq.  Raises Tampered naming seq."""
    if row.seq != seq:
        raise Tampered(f"record {seq} is missing: the next one is {row.seq}", seq=seq)
    if tree.leaf(row.data) != row.leaf:
        raise Tampered(f"record {seq}: its bytes do not have its hash", seq=seq)
    try:
        record = canonical.decode(row.data, Record, limit=RECORD_BYTES, what=f"record {seq}")
    except UntrustedInput as error:
        raise Tampered(str(error), seq=seq) from error
    if record.seq != seq:
        raise Tampered(f"record {seq}: says that it is record {record.seq}", seq=seq)
    return record


def check(
    base_data: bytes,
    records: Iterable[StoredRecord],
    checkpoints: Iterable[StoredCheckpoint],
    *,
    key: Ed25519PublicKey | None = None,
    against: Sequence[str] = (),
) -> Checked:
    """Read a whole journal, in order, and every checkpoint.

    key: who must have signed; None = the key that the journal itself names, which shows that the journal
    fits itself and not whose it is.  against: notes from outside this journal; only they can show that
    the journal was cut back, or replaced by one with another past.

    Raises Tampered (seq: the first wrong record; where several records are covered by one signature that
    does not fit, the first of them), UntrustedInput for what is wrong with `against`, UsageError if a
    note of `against` speaks of records that are older than this file.
    """
    base, frontier, own_key = read_base(base_data)
    if key is not None and checkpoint.key_line(key) != base.key:
        raise Tampered(f"the journal is signed by another key: {base.key}")
    outside = [checkpoint.verify(note, key=own_key, name=base.origin) for note in against]
    for one in outside:
        if one.size < base.first_seq:
            raise UsageError(
                f"that checkpoint is over {one.size} records and this file begins with record "
                f"{base.first_seq}: check the sealed segment that ends it"
            )
    pending = _in_order(checkpoints)
    anchored, following = 0, next(pending, None)
    verified: Checkpoint | None = None
    roots = _Roots(outside)

    def settle() -> None:
        """Verify the checkpoint of the present size, if there is one."""
        nonlocal anchored, following, verified
        if following is not None and following.size == frontier.size:
            verified = _signed_root(following, frontier, key=own_key, name=base.origin, since=anchored)
            anchored = frontier.size
            count[0] += 1
            following = next(pending, None)
        roots.settle(frontier)

    count = [0]
    anchored = base.first_seq
    settle()
    if base.first_seq and verified is None:
        raise Tampered(f"nothing is signed over what came before record {base.first_seq}", seq=base.first_seq)
    for row in records:
        seq = frontier.size
        if following is not None and following.size < seq:
            raise Tampered(f"a checkpoint over {following.size} records does not belong here", seq=seq)
        record = read_record(row, seq=seq)
        if seq == base.first_seq:
            _demand_first(record, base, frontier)
        frontier = frontier.append(row.leaf)
        settle()
    if following is not None:
        raise Tampered(
            f"record {frontier.size} is missing: a checkpoint covers {following.size} records",
            seq=frontier.size,
        )
    roots.demand_all(frontier.size)
    if verified is None or verified.size != frontier.size or frontier.size == base.first_seq:
        seq = verified.size if verified is not None else base.first_seq
        raise Tampered(f"from record {seq} on nothing is signed", seq=seq)
    return Checked(base=base, size=frontier.size, checkpoints=count[0], newest=verified)


def demand_follows(before: Checked, after: JournalBase) -> None:
    """Raise Tampered unless the segment on `after` goes on where `before` ended."""
    if before.base.origin != after.origin or before.base.key != after.key:
        raise Tampered(f"segments of two logs: {before.base.origin} and {after.origin}")
    if before.size != after.first_seq:
        raise Tampered(f"records {before.size} to {after.first_seq - 1} are missing", seq=before.size)
    if frontier_of(after).root().hex() != before.newest.root:
        raise Tampered(f"the segment from record {after.first_seq} has another past", seq=after.first_seq)


class _Roots:
    """Checkpoints from outside, compared as the tree passes their size."""

    def __init__(self, outside: Iterable[Checkpoint]) -> None:
        self._waiting = sorted(outside, key=lambda one: one.size)

    def settle(self, frontier: tree.Frontier) -> None:
        while self._waiting and self._waiting[0].size == frontier.size:
            one = self._waiting.pop(0)
            if frontier.root().hex() != one.root:
                raise Tampered(f"the first {one.size} records are not those of the checkpoint from outside")

    def demand_all(self, size: int) -> None:
        if self._waiting:
            raise Tampered(
                f"cut back: the journal ends with {size} records, and "
                f"a checkpoint was signed over {self._waiting[-1].size}",
                seq=size,
            )


def _in_order(rows: Iterable[StoredCheckpoint]) -> Iterator[StoredCheckpoint]:
    before = -1
    for row in rows:
        if row.size <= before:
            raise Tampered(f"checkpoints out of order: {row.size} after {before}")
        before = row.size
        yield row


def _signed_root(
    row: StoredCheckpoint, frontier: tree.Frontier, *, key: Ed25519PublicKey, name: str, since: int
) -> Checkpoint:
    """The verified checkpoint in row.  since: size at the last one before it."""
    first = min(since, frontier.size - 1) if frontier.size else 0
    try:
        signed = checkpoint.verify_stored(row.note, key=key, name=name)
    except BadSignature as error:
        raise Tampered(f"checkpoint over {row.size} records: {error}", seq=first) from error
    except UntrustedInput as error:
        raise Tampered(f"checkpoint over {row.size} records: {error}", seq=first) from error
    if signed.size != row.size:
        raise Tampered(f"checkpoint over {row.size} records: was signed over {signed.size}", seq=first)
    if signed.root != frontier.root().hex():
        raise Tampered(
            f"records {first} to {frontier.size - 1}: not those that the checkpoint over {row.size} signs",
            seq=first,
        )
    return signed


def _demand_first(record: Record, base: JournalBase, frontier: tree.Frontier) -> None:
    """The base is outside the tree; the first record repeats it inside."""
    wanted: dict[str, Any]
    if base.first_seq:
        wanted, kinds = {"root": frontier.root().hex()}, {"journal.rotated"}
    else:
        wanted, kinds = {"origin": base.origin, "key": base.key}, {"journal.started", "journal.corrupt"}
    if record.kind not in kinds or any(record.body.get(name) != value for name, value in wanted.items()):
        raise Tampered(f"record {record.seq}: does not begin this journal", seq=record.seq)
