# SPDX-License-Identifier: Apache-2.0
"""The maths of the journal: the Merkle tree of RFC 6962, section 2.1, with SHA-256.

Leaves here are leaf hashes (32 bytes), not data.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vmwarden.errors import BugError, Malformed
from vmwarden.rules.sha2 import sha256

HASH_BYTES = 32
#: root of the tree without leaves
EMPTY_ROOT = sha256(b"").digest()


def leaf(data: bytes) -> bytes:
    """Hash of one entry.  The prefix keeps an entry from being taken for an inner node."""
    return sha256(b"\x00" + data).digest()


def node(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True)
class Frontier:
    """All that is needed of a tree to append to it and to know its root: one hash a set bit of size.

    hashes: roots of the full subtrees that size splits into, largest first.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        """Raises Malformed: a frontier is also read from disk."""
        if self.size < 0 or len(self.hashes) != self.size.bit_count():
            raise Malformed(f"a frontier of {self.size} leaves does not have {len(self.hashes)} hashes")
        if any(len(one) != HASH_BYTES for one in self.hashes):
            raise Malformed(f"a hash of a frontier is not {HASH_BYTES} bytes")

    def append(self, *leaves: bytes) -> "Frontier":
        """The frontier with these leaf hashes added, in order."""
        return self.extend(leaves)

    def extend(self, leaves: Iterable[bytes]) -> "Frontier":
        """The same for many; log2(size) hashes are held, whatever their number."""
        size, hashes = self.size, list(self.hashes)
        for one in leaves:
            # Each trailing set bit of size is a full subtree that the new leaf completes to the next size.
            bits = size
            while bits & 1:
                one = node(hashes.pop(), one)
                bits >>= 1
            hashes.append(one)
            size += 1
        return Frontier(size, tuple(hashes))

    def root(self) -> bytes:
        """Root hash of the tree."""
        if not self.hashes:
            return EMPTY_ROOT
        result = self.hashes[-1]
        for one in reversed(self.hashes[:-1]):
            result = node(one, result)
        return result


def root(leaves: Iterable[bytes]) -> bytes:
    """Root hash over leaf hashes."""
    return Frontier().extend(leaves).root()


def inclusion_proof(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """PATH(index, leaves): what, with the leaf, adds up to the root.  Raises BugError out of range."""
    if not 0 <= index < len(leaves):
        raise BugError(f"no leaf {index} among {len(leaves)}")
    if len(leaves) == 1:
        return ()
    split = _split(len(leaves))
    left, right = leaves[:split], leaves[split:]
    if index < split:
        return (*inclusion_proof(left, index), root(right))
    return (*inclusion_proof(right, index - split), root(left))


def consistency_proof(leaves: Sequence[bytes], old_size: int) -> tuple[bytes, ...]:
    """PROOF(old_size, leaves): that the first old_size leaves are a prefix.  Raises BugError out of range."""
    if not 0 <= old_size <= len(leaves):
        raise BugError(f"no tree of {old_size} within {len(leaves)}")
    return () if old_size == 0 else _subproof(leaves, old_size, whole=True)


def verify_inclusion(
    leaf_hash: bytes, *, index: int, size: int, proof: Sequence[bytes], root_hash: bytes
) -> bool:
    """Whether proof shows leaf_hash at index in the tree of size leaves with root_hash

    RFC 9162, 2.1.3.2.
    """
    if not 0 <= index < size:
        return False
    place, last, result = index, size - 1, leaf_hash
    for one in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            result = node(one, result)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            result = node(result, one)
        place, last = place >> 1, last >> 1
    return last == 0 and result == root_hash


def verify_consistency(
    *, old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether proof shows that the new tree begins with the old one (RFC 9162, 2.1.4.2)."""
    if not 0 <= old_size <= new_size:
        return False
    if old_size == new_size:
        return not proof and old_root == new_root
    if old_size == 0:
        return not proof and old_root == EMPTY_ROOT
    # A power of two is a full subtree: its root is known already and left out of the proof.
    path = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    if not path:
        return False
    place, last = old_size - 1, new_size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    old = new = path[0]
    for one in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            old, new = node(one, old), node(one, new)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            new = node(new, one)
        place, last = place >> 1, last >> 1
    return last == 0 and old == old_root and new == new_root


def _split(size: int) -> int:
    """Largest power of two below size; size is at least 2."""
    return 1 << (size - 1).bit_length() - 1


def _subproof(leaves: Sequence[bytes], old_size: int, *, whole: bool) -> tuple[bytes, ...]:
    if old_size == len(leaves):
        return () if whole else (root(leaves),)
    split = _split(len(leaves))
    left, right = leaves[:split], leaves[split:]
    if old_size <= split:
        return (*_subproof(left, old_size, whole=whole), root(right))
    return (*_subproof(right, old_size - split, whole=False), root(left))
