# SPDX-License-Identifier: Apache-2.0
"""Open a journal that stands on disk, and refuse it unless it fits itself.

Always checked: the schema, every hash, the newest signature over all of them, the bytes of the last
records, and the head beside the file.  The bytes of older records and kept checkpoints are checked by
`journal verify`.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from vmwarden.errors import FileAbsent, FileUnavailable, JournalFull, Tampered, UntrustedInput
from vmwarden.model.journal import Checkpoint, JournalBase
from vmwarden.rules import checkpoint, journal_check, tree
from vmwarden.store import journal_file, journal_head
from vmwarden.store.journal_paths import JournalPaths

#: records whose bytes are read again at every opening
TAIL = 256


class OtherSigner(Tampered):
    """Another identity keeps this journal: the VM was enrolled anew, or somebody put it there."""

    def __init__(self, base: JournalBase, key: Ed25519PublicKey) -> None:
        self.base = base
        self.key = key
        super().__init__(f"the journal is that of {base.origin}, signed by {base.key}")


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What stands on disk.  head_damage: what is wrong with the head alone, "" if nothing."""

    base: JournalBase
    frontier: tree.Frontier
    newest: Checkpoint
    head_damage: str


def standing(paths: JournalPaths) -> bool:
    """Whether there is a journal.  Raises Tampered if only its remains are there, JournalFull."""
    if journal_file.regular(paths.path):
        return True
    try:
        remains = [path for path in (paths.head, paths.wal) if path.is_symlink() or path.exists()]
        if paths.path.parent.exists():
            remains += paths.sealed()
    except OSError as error:
        raise journal_file.unwritable(paths.path, error) from error
    if remains:
        raise Tampered(f"{paths.path}: is gone, and {remains[0].name} is still there")
    return False


def load(
    paths: JournalPaths, *, key: Ed25519PublicKey, vm: str, pages: int
) -> tuple[sqlite3.Connection, Loaded]:
    """The journal of vm, whose key this is, open for appending.  pages: hard bound on the file.

    Raises OtherSigner, any other Tampered, JournalFull.
    """
    path = paths.path
    loaded = _inspect(paths, key=key, vm=vm)
    try:
        path.chmod(0o600)
        db = journal_file.connect(path, pages=pages)
        try:
            if journal_file.newest_checkpoint(db).note != loaded.newest.note:
                raise Tampered(f"{path}: somebody else writes to the journal")
        except (*journal_file.FAILURES, Tampered):
            db.close()
            raise
    except journal_file.FAILURES as error:
        raise journal_file.blame(path, error) from error
    except OSError as error:
        raise journal_file.unwritable(path, error) from error
    return db, loaded


def _inspect(paths: JournalPaths, *, key: Ed25519PublicKey, vm: str) -> Loaded:
    """Read only, not even SQLite's recovery: a damaged file has to be kept as it was found."""
    path = paths.path
    try:
        db = journal_file.connect_reader(path)
    except FileAbsent as error:
        raise JournalFull(str(error)) from error
    try:
        return _read(db, paths, key=key, vm=vm)
    except journal_file.FAILURES as error:
        raise journal_file.blame(path, error) from error
    finally:
        db.close()


def _read(db: sqlite3.Connection, paths: JournalPaths, *, key: Ed25519PublicKey, vm: str) -> Loaded:
    journal_file.demand_schema(db)
    base, before, own = journal_check.read_base(journal_file.base_bytes(db))
    if checkpoint.vm_of(base.origin) != vm or own.public_bytes_raw() != key.public_bytes_raw():
        _newest(db, base, own)  # a bent key is damage, not another identity
        raise OtherSigner(base, own)
    head, head_damage = _head(paths, base, key)
    leaves = _leaves(db, before.size)
    covered = head.size if head is not None else 0
    frontier = before.extend(islice(leaves, max(0, covered - before.size)))
    if head is not None and covered >= before.size:
        if frontier.size < covered:
            raise Tampered(
                f"the journal ends with {frontier.size} records, and its head covers {covered}",
                seq=frontier.size,
            )
        if frontier.root().hex() != head.root:
            raise Tampered(f"the first {covered} records are not those that the head covers")
    frontier = frontier.extend(leaves)
    newest = _newest(db, base, key)
    if newest.size != frontier.size:
        raise Tampered(
            f"{frontier.size} records stand there, and the newest checkpoint covers {newest.size}",
            seq=min(frontier.size, newest.size),
        )
    if newest.root != frontier.root().hex():
        raise Tampered("the records are not those that the newest checkpoint signs")
    first = max(before.size, frontier.size - TAIL)
    for seq, row in enumerate(journal_file.records(db, first=first), first):
        journal_check.read_record(row, seq=seq)
    return Loaded(base=base, frontier=frontier, newest=newest, head_damage=head_damage)


def _leaves(db: sqlite3.Connection, first: int) -> Iterator[bytes]:
    for expected, (seq, leaf) in enumerate(db.execute("SELECT seq, leaf FROM record ORDER BY seq"), first):
        if seq != expected:
            raise Tampered(f"record {expected} is missing: the next one is {seq}", seq=expected)
        if not isinstance(leaf, bytes) or len(leaf) != tree.HASH_BYTES:
            raise Tampered(f"record {expected}: its hash is not a hash", seq=expected)
        yield leaf


def _newest(db: sqlite3.Connection, base: JournalBase, key: Ed25519PublicKey) -> Checkpoint:
    stored = journal_file.newest_checkpoint(db)
    try:
        newest = checkpoint.verify_stored(stored.note, key=key, name=base.origin)
    except UntrustedInput as error:
        raise Tampered(f"the newest checkpoint: {error}") from error
    if newest.size != stored.size:
        raise Tampered(f"the checkpoint over {stored.size} records was signed over {newest.size}")
    return newest


def _head(paths: JournalPaths, base: JournalBase, key: Ed25519PublicKey) -> tuple[Checkpoint | None, str]:
    """A damaged head alone says nothing against the journal: it is told, and written anew."""
    try:
        return journal_head.read(paths.head, key=key, name=base.origin), ""
    except (UntrustedInput, FileUnavailable) as error:
        return None, str(error)
