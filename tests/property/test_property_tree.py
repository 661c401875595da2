# SPDX-License-Identifier: Apache-2.0
"""rules.tree against the definitions of RFC 6962, written down naively."""

import random
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmwarden.errors import BugError, Malformed
from vmwarden.rules import tree


def mth(entries: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, over data."""
    if not entries:
        return sha256(b"").digest()
    if len(entries) == 1:
        return sha256(b"\0" + entries[0]).digest()
    k = 1
    while 2 * k < len(entries):
        k *= 2
    return sha256(b"\1" + mth(entries[:k]) + mth(entries[k:])).digest()


ENTRIES = [f"entry {n}".encode() for n in range(70)]
LEAVES = [tree.leaf(entry) for entry in ENTRIES]
ROOTS = [mth(ENTRIES[:n]) for n in range(71)]


def test_roots_published_with_rfc_6962_implementations() -> None:
    # certificate-transparency's test data (merkletree/merkle_tree_test.cc), 8 leaves
    data = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ]
    leaves = [tree.leaf(bytes.fromhex(one)) for one in data]
    assert tree.root(leaves[:1]).hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert tree.root(leaves).hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


def test_every_frontier_has_the_root_of_the_definition() -> None:
    frontier = tree.Frontier()
    for size in range(71):
        assert frontier.root() == tree.root(LEAVES[:size]) == ROOTS[size]
        assert len(frontier.hashes) == size.bit_count()
        if size < 70:
            frontier = frontier.append(LEAVES[size])


@pytest.mark.parametrize("size", range(1, 70))
def test_inclusion_of_every_leaf_and_of_no_other(size: int) -> None:
    leaves, root = LEAVES[:size], ROOTS[size]
    for index in range(size):
        proof = tree.inclusion_proof(leaves, index)

        def holds(leaf: bytes, at: int, of: int, path: tuple[bytes, ...]) -> bool:
            return tree.verify_inclusion(leaf, index=at, size=of, proof=path, root_hash=root)

        assert holds(leaves[index], index, size, proof)
        assert not holds(tree.leaf(b"else"), index, size, proof)
        assert not holds(leaves[index], (index + 1) % size, size, proof) or size == 1
        assert not holds(leaves[index], index, size, (*proof, leaves[0]))
        assert not proof or not holds(leaves[index], index, size, proof[:-1])
        assert not proof or not holds(leaves[index], index, size, proof[1:])
        assert not holds(leaves[index], size, size, proof)
        assert not holds(leaves[index], -1, size, proof)


@pytest.mark.parametrize("new", range(70))
def test_consistency_of_every_prefix_and_of_nothing_else(new: int) -> None:
    for old in range(new + 1):
        proof = tree.consistency_proof(LEAVES[:new], old)

        def holds(old_root: bytes, new_root: bytes, path: tuple[bytes, ...], size: int = old) -> bool:
            return tree.verify_consistency(
                old_size=size, new_size=new, old_root=old_root, new_root=new_root, proof=path
            )

        other = tree.leaf(b"else")
        assert holds(ROOTS[old], ROOTS[new], proof)
        assert not holds(other, ROOTS[new], proof)
        assert not holds(ROOTS[old], other, proof) or old == 0
        assert not holds(ROOTS[old], ROOTS[new], (*proof, other))
        assert not proof or not holds(ROOTS[old], ROOTS[new], proof[:-1])
        assert not holds(ROOTS[old], ROOTS[new], proof, -1)
        assert not holds(ROOTS[old], ROOTS[new], proof, new + 1)
        for n, one in enumerate(proof):
            bent = bytes([one[0] ^ 1]) + one[1:]
            assert not holds(ROOTS[old], ROOTS[new], (*proof[:n], bent, *proof[n + 1 :]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=8), max_size=300), st.data())
def test_random_trees(entries: list[bytes], data: st.DataObject) -> None:
    leaves = [tree.leaf(one) for one in entries]
    cut = data.draw(st.integers(0, len(entries)))
    frontier = tree.Frontier().extend(leaves[:cut])
    assert frontier.extend(leaves[cut:]).root() == mth(entries)
    assert tree.verify_consistency(
        old_size=cut,
        new_size=len(entries),
        old_root=frontier.root(),
        new_root=mth(entries),
        proof=tree.consistency_proof(leaves, cut),
    )
    if entries:
        index = data.draw(st.integers(0, len(entries) - 1))
        path = tree.inclusion_proof(leaves, index)
        assert tree.verify_inclusion(
            leaves[index], index=index, size=len(leaves), proof=path, root_hash=mth(entries)
        )


@settings(max_examples=200, deadline=None)
@given(st.integers(-2, 80), st.integers(-2, 80), st.lists(st.binary(min_size=32, max_size=32), max_size=9))
def test_arbitrary_proofs_prove_nothing_and_break_nothing(old: int, new: int, proof: list[bytes]) -> None:
    # with roots that belong to no tree, only the trivial statement (the same root, no proof) holds
    a, b = sha256(b"a").digest(), sha256(b"b").digest()
    assert not tree.verify_consistency(old_size=old, new_size=new, old_root=a, new_root=b, proof=proof)
    assert not tree.verify_inclusion(a, index=old, size=new, proof=proof, root_hash=b)


def test_leaf_and_node_are_apart() -> None:
    a, b = LEAVES[0], LEAVES[1]
    assert tree.leaf(a + b) != tree.node(a, b)


def test_a_frontier_from_disk_is_checked() -> None:
    for size, hashes in [(1, ()), (2, (b"x" * 32, b"y" * 32)), (1, (b"x" * 31,)), (-1, ())]:
        with pytest.raises(Malformed):
            tree.Frontier(size, hashes)


def test_proofs_of_what_is_not_there() -> None:
    for index in (-1, 3):
        with pytest.raises(BugError):
            tree.inclusion_proof(LEAVES[:3], index)
    for size in (-1, 4):
        with pytest.raises(BugError):
            tree.consistency_proof(LEAVES[:3], size)


def test_many_leaves_take_little_memory() -> None:
    leaf = tree.leaf(random.Random(1).randbytes(20))
    frontier = tree.Frontier().extend(leaf for _ in range(5000))
    assert (frontier.size, len(frontier.hashes)) == (5000, (5000).bit_count())
