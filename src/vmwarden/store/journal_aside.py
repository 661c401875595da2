# SPDX-License-Identifier: Apache-2.0
"""What becomes of a journal that is not what was written: it is kept, and what can be saved is read."""

import re
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from vmwarden.errors import JournalFull, Malformed
from vmwarden.model.journal import Checkpoint
from vmwarden.rules import checkpoint
from vmwarden.rules.sha2 import sha256
from vmwarden.store.journal_file import put_on_disk, unwritable
from vmwarden.store.journal_paths import JournalPaths

#: a bound on the work at boot: a journal file is far below it, a planted one may be of any size
HASHED_BYTES = 268_435_456
#: damaged journals that are kept: a failing disk must not fill itself with them
MOST_ASIDE = 64
_PIECE = 1_048_576
#: notes are shorter than this; pieces overlap by it so that none is cut
_OVERLAP = 1024
#: signatures tried, highest size first: a planted file may hold any number of false notes
_TRIES = 1000
_NOTE = re.compile(
    rb"(vmwarden/[a-z0-9][a-z0-9._-]{0,62}/journal(?:/[0-9a-f]{16})?)\n"
    rb"(0|[1-9][0-9]{0,15})\n[A-Za-z0-9+/]{43}=\n\n\xe2\x80\x94 \1 [A-Za-z0-9+/]{91}=\n"
)


@dataclass(frozen=True, kw_only=True)
class Aside:
    """name: under which the damaged file is kept, "" if there was no file to keep.

    sha256: of its first hashed_bytes (of all of it, below HASHED_BYTES); "" if it is no regular file.
    newest: the highest checkpoint found in what is left that this VM's key signed.
    """

    name: str
    sha256: str
    hashed_bytes: int
    newest: Checkpoint | None


def set_aside(paths: JournalPaths, *, key: Ed25519PublicKey, vm: str) -> Aside:
    """Rename the journal and what belongs to it, its sealed segments too.  Nothing is deleted.

    Raises JournalFull if that fails or MOST_ASIDE stand there already.
    """
    try:
        digest, hashed = "", 0
        notes: dict[str, int] = {}
        belongings = [*paths.companions(), paths.head, *paths.sealed()]
        for path in (paths.path, *belongings):
            read = _read(path, notes)
            if path == paths.path and read is not None:
                digest, hashed = read
        if len(paths.aside()) >= MOST_ASIDE:
            raise JournalFull(
                f"{paths.path}: {MOST_ASIDE} damaged journals stand aside; find the cause, take them away"
            )
        kept = paths.next_aside()
        name = kept.name if _rename(paths.path, kept) else ""
        for path in belongings:
            suffix = path.name.removeprefix(paths.path.name)
            if _rename(path, kept.with_name(kept.name + suffix)):
                name = kept.name
        put_on_disk(paths.path.parent)
    except OSError as error:
        raise unwritable(paths.path, error) from error
    return Aside(name=name, sha256=digest, hashed_bytes=hashed, newest=_newest(notes, key=key, vm=vm))


def _read(path: Path, notes: dict[str, int]) -> tuple[str, int] | None:
    """Digest and length of a regular file; adds what looks like a checkpoint to notes.  Raises OSError."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
    except FileNotFoundError:
        return None
    digest, hashed, before = sha256(), 0, b""
    with path.open("rb") as file:
        while hashed < HASHED_BYTES and (piece := file.read(_PIECE)):
            digest.update(piece)
            hashed += len(piece)
            for match in _NOTE.finditer(before + piece):
                notes[match[0].decode()] = int(match[2])
            if len(notes) > 2 * _TRIES:
                for note, _ in sorted(notes.items(), key=lambda item: item[1])[:-_TRIES]:
                    del notes[note]
            before = (before + piece)[-_OVERLAP:]
    return digest.hexdigest(), hashed


def _newest(notes: dict[str, int], *, key: Ed25519PublicKey, vm: str) -> Checkpoint | None:
    highest = sorted(notes.items(), key=lambda item: item[1], reverse=True)
    for note, _ in highest[:_TRIES]:
        name = note.partition("\n")[0]
        try:
            if checkpoint.vm_of(name) == vm and checkpoint.is_signed(note, key=key, name=name):
                return checkpoint.verify_stored(note, key=key, name=name)
        except Malformed:
            continue
    return None


def _rename(source: Path, target: Path) -> bool:
    """False if there is nothing to rename.  Raises OSError."""
    try:
        source.rename(target)
    except FileNotFoundError:
        return False
    return True
