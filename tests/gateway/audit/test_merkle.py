"""Roots, stored nodes, frontiers and proofs of the tree, against RFC 6962 by the book."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audit.merkle import (
    EMPTY_FRONTIER,
    EMPTY_ROOT,
    MAX_SIZE,
    Frontier,
    LogInvalidError,
    Node,
    append_leaves,
    consistency_ranges,
    frontier_root,
    hash_leaf,
    hash_node,
    inclusion_ranges,
    perfect_parts,
    root_of_hashes,
    root_of_parts,
    verify_consistency,
    verify_inclusion,
)
from tests.gateway.audit import sample_log
from tests.gateway.audit.sample_log import ENTRIES

MOST = 130
LEAVES = [sample_log.leaf(b"%d" % number) for number in range(MOST)]
ROOTS = [sample_log.root(LEAVES[:size]) for size in range(MOST + 1)]
OTHER = sample_log.leaf(b"other")

KNOWN_ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    4: "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    6: "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}
EIGHT = (*ENTRIES, bytes.fromhex("606162636465666768696a6b6c6d6e6f"))

hashes = st.binary(min_size=32, max_size=32)


def altered(proof: list[bytes]) -> list[list[bytes]]:
    """Proofs that are not this one: each hash exchanged, one too many at either end, one too few at either end."""
    changed = [[*proof[:place], OTHER, *proof[place + 1 :]] for place in range(len(proof))]
    shorter = [proof[1:], proof[:-1]] if proof else []
    return [*changed, [*proof, OTHER], [OTHER, *proof], *shorter]


def in_pieces(*cuts: int) -> tuple[Frontier, list[Node]]:
    """The tree over LEAVES up to the last cut, appended in pieces that end at the cuts."""
    frontier, nodes = EMPTY_FRONTIER, []
    for cut in cuts:
        frontier, more = append_leaves(frontier, LEAVES[frontier.size : cut])
        nodes += more
    return frontier, nodes


@pytest.mark.parametrize("size", KNOWN_ROOTS)
def test_roots_are_the_known_answers(size: int) -> None:
    """Both ways to a root give those of the reference tree."""
    leaves = [hash_leaf(entry) for entry in EIGHT[:size]]
    assert KNOWN_ROOTS[size] == frontier_root(append_leaves(EMPTY_FRONTIER, leaves)[0]).hex()
    assert KNOWN_ROOTS[size] == root_of_hashes(leaves).hex()


def test_leaves_and_nodes_are_hashed_apart() -> None:
    """No entry has the hash of a node, whatever it holds."""
    assert hash_node(OTHER, OTHER) != hash_leaf(OTHER + OTHER)
    assert hash_node(OTHER, OTHER) != hash_leaf(b"\x01" + OTHER + OTHER)


@given(st.lists(st.integers(0, MOST)))
def test_a_frontier_does_not_depend_on_the_pieces(cuts: list[int]) -> None:
    """Appending in any pieces, empty ones too, gives the tree of all the leaves."""
    frontier, _ = in_pieces(*sorted(cuts))
    assert ROOTS[frontier.size] == frontier_root(frontier)
    assert in_pieces(frontier.size)[0] == frontier


def test_full_subtrees_come_out_once() -> None:
    """Every subtree of 256 leaves is told when it becomes full, in whatever pieces the leaves come."""
    leaves = [hash_leaf(b"%d" % number) for number in range(1030)]
    expected = [
        Node(1, number, root_of_hashes(leaves[256 * number : 256 * (number + 1)]))
        for number in range(4)
    ]
    for piece in (1, 7, 255, 256, 257, 1030):
        frontier, nodes = EMPTY_FRONTIER, []
        for start in range(0, 1030, piece):
            frontier, more = append_leaves(frontier, leaves[start : start + piece])
            nodes += more
        assert expected == nodes


def test_full_subtrees_of_the_second_level_come_out() -> None:
    """At 65,536 leaves a node of level 2 is full, made of the 256 of level 1."""
    leaves = [OTHER] * 65_535
    frontier, below = append_leaves(EMPTY_FRONTIER, leaves)
    _, last = append_leaves(frontier, [OTHER])
    assert 255 == len(below)
    assert [(1, 255), (2, 0)] == [(node.level, node.number) for node in last]
    level_1 = [node.node_hash for node in (*below, last[0])]
    assert last[1].node_hash == root_of_hashes(level_1) == root_of_hashes([*leaves, OTHER])


def test_leaf_of_a_wrong_length_is_not_appended() -> None:
    """Only hashes become leaves."""
    with pytest.raises(LogInvalidError, match="32 bytes"):
        append_leaves(EMPTY_FRONTIER, [OTHER, b"short"])


@pytest.mark.parametrize(
    ("size", "parts"),
    [(-1, ()), (MAX_SIZE + 1, (OTHER,)), (0, (OTHER,)), (3, (OTHER,)), (1, (b"short",))],
)
def test_frontier_that_is_none_is_refused(size: int, parts: tuple[bytes, ...]) -> None:
    """A frontier has one hash of 32 bytes for each set bit of its size."""
    with pytest.raises(LogInvalidError):
        Frontier(size, parts)


def test_inclusion_proofs_are_those_of_the_book_and_no_others_pass() -> None:
    """For every leaf of every tree: the ranges, the parts of the ranges, and what verifies."""
    for size in range(1, MOST + 1):
        for index in range(size):
            proof = [root_of_hashes(LEAVES[a:b]) for a, b in inclusion_ranges(index, size)]
            assert sample_log.inclusion_proof(index, LEAVES[:size]) == proof
            assert includes(index, size, proof)
            assert not any(includes(index, size, wrong) for wrong in altered(proof))


def test_consistency_proofs_are_those_of_the_book_and_no_others_pass() -> None:
    """For every pair of sizes: the ranges and what verifies."""
    for size in range(1, MOST + 1):
        for old_size in range(1, size + 1):
            proof = [root_of_hashes(LEAVES[a:b]) for a, b in consistency_ranges(old_size, size)]
            assert sample_log.consistency_proof(old_size, LEAVES[:size]) == proof
            assert consistent(old_size, size, proof)
            assert not any(consistent(old_size, size, wrong) for wrong in altered(proof))
            assert not consistent(old_size, size, proof, old_root=OTHER)
            assert not consistent(old_size, size, proof, root=OTHER)


def includes(index: int, size: int, proof: list[bytes], leaf_index: int | None = None) -> bool:
    """Whether the proof shows that the leaf of leaf_index (of index, if None) is at index."""
    leaf_hash = LEAVES[index if leaf_index is None else leaf_index]
    try:
        verify_inclusion(index=index, size=size, leaf_hash=leaf_hash, proof=proof, root=ROOTS[size])
    except LogInvalidError:
        return False
    return True


def consistent(
    old_size: int,
    size: int,
    proof: list[bytes],
    *,
    old_root: bytes | None = None,
    root: bytes | None = None,
) -> bool:
    """Whether the proof shows that the second tree goes on from the first."""
    try:
        verify_consistency(
            old_size=old_size,
            size=size,
            old_root=old_root or ROOTS[old_size],
            root=root or ROOTS[size],
            proof=proof,
        )
    except LogInvalidError:
        return False
    return True


def test_every_range_of_a_proof_is_made_of_its_perfect_parts() -> None:
    """Joining the parts gives the range's root, for whole trees and for every range of every proof."""
    for size in range(1, MOST + 1):
        ranges = {(0, size)}
        for place in range(size):
            ranges |= {*inclusion_ranges(place, size), *consistency_ranges(place, size)}
        for start, end in ranges:
            parts = perfect_parts(start, end)
            assert all(first % count == 0 for first, count in parts)
            roots = [root_of_hashes(LEAVES[first : first + count]) for first, count in parts]
            assert root_of_parts(roots) == root_of_hashes(LEAVES[start:end])


@pytest.mark.parametrize(
    ("start", "end", "parts"),
    [
        (0, 0, []),
        (0, 7, [(0, 4), (4, 2), (6, 1)]),
        (5, 16, [(5, 1), (6, 2), (8, 8)]),
        (8, 13, [(8, 4), (12, 1)]),
        (256, 768, [(256, 256), (512, 256)]),
    ],
)
def test_perfect_parts_are_the_largest(start: int, end: int, parts: list[tuple[int, int]]) -> None:
    """Each part is as large as its start and the rest of the range allow."""
    assert parts == perfect_parts(start, end)


@pytest.mark.parametrize(("start", "end"), [(-1, 3), (4, 3)])
def test_no_parts_of_what_is_no_range(start: int, end: int) -> None:
    """A range goes up and starts at 0 or later."""
    with pytest.raises(LogInvalidError):
        perfect_parts(start, end)


def test_a_proof_of_one_index_does_not_do_for_another() -> None:
    """With the right leaf at hand and every place tried, only its own place verifies."""
    for size in range(1, 34):
        for index in range(size):
            proof = sample_log.inclusion_proof(index, LEAVES[:size])
            passing = [other for other in range(size) if includes(other, size, proof, index)]
            assert [index] == passing


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0), (0, MAX_SIZE + 1)])
def test_index_outside_the_tree_is_refused(index: int, size: int) -> None:
    """Neither made nor verified."""
    with pytest.raises(LogInvalidError, match="no leaf"):
        inclusion_ranges(index, size)
    with pytest.raises(LogInvalidError, match="no leaf"):
        verify_inclusion(index=index, size=size, leaf_hash=OTHER, proof=[], root=OTHER)


@pytest.mark.parametrize(
    ("old_size", "size"), [(-1, 3), (4, 3), (0, MAX_SIZE + 1), (MAX_SIZE, MAX_SIZE + 1)]
)
def test_sizes_that_do_not_follow_are_refused(old_size: int, size: int) -> None:
    """Neither made nor verified: a tree does not shrink."""
    with pytest.raises(LogInvalidError, match="go on"):
        consistency_ranges(old_size, size)
    with pytest.raises(LogInvalidError, match="go on"):
        verify_consistency(old_size=old_size, size=size, old_root=OTHER, root=OTHER, proof=[])


@pytest.mark.parametrize(("index", "size", "length"), [(0, 1, 0), (3, 7, 3), (4, 7, 3), (6, 7, 2)])
def test_inclusion_proofs_have_the_known_lengths(index: int, size: int, length: int) -> None:
    """As in the reference tree."""
    assert length == len(inclusion_ranges(index, size))


@pytest.mark.parametrize(
    ("old_size", "size", "length"),
    [(1, 8, 3), (2, 5, 2), (3, 7, 4), (4, 7, 1), (6, 7, 3), (6, 8, 3), (5, 5, 0), (0, 5, 0)],
)
def test_consistency_proofs_have_the_known_lengths(old_size: int, size: int, length: int) -> None:
    """As in the reference tree."""
    assert length == len(consistency_ranges(old_size, size))


def test_the_empty_tree_is_consistent_with_every_tree() -> None:
    """By an empty proof alone, and only if the old root is that of the empty tree."""
    assert consistent(0, 5, [])
    assert consistent(0, 0, [])
    assert not consistent(0, 5, [OTHER])
    assert not consistent(0, 5, [], old_root=OTHER)
    assert not consistent(0, 0, [], root=OTHER)


def test_a_tree_is_consistent_with_itself_alone() -> None:
    """At one size: by an empty proof, and only if the roots are equal."""
    assert consistent(5, 5, [])
    assert not consistent(5, 5, [OTHER])
    assert not consistent(5, 5, [], root=OTHER)


def test_hashes_of_a_wrong_length_are_refused() -> None:
    """Bytes moved from one hash to its neighbour would keep what is hashed."""
    proof = sample_log.inclusion_proof(2, LEAVES[:4])
    moved_leaf = LEAVES[2] + proof[0][:1]
    moved = [proof[0][1:], proof[1]]
    with pytest.raises(LogInvalidError, match="32 bytes"):
        verify_inclusion(index=2, size=4, leaf_hash=moved_leaf, proof=moved, root=ROOTS[4])
    with pytest.raises(LogInvalidError, match="32 bytes"):
        verify_inclusion(index=0, size=1, leaf_hash=b"x", proof=[], root=b"x")
    with pytest.raises(LogInvalidError, match="32 bytes"):
        verify_consistency(old_size=2, size=2, old_root=b"x", root=b"x", proof=[])


@given(
    st.integers(-2, 40),
    st.integers(-2, 40),
    st.lists(st.one_of(hashes, st.binary(max_size=40)), max_size=70),
)
@settings(max_examples=300)
def test_random_proofs_are_refused(first: int, size: int, proof: list[bytes]) -> None:
    """No other error gets out, and none of them passes."""
    with pytest.raises(LogInvalidError):
        verify_inclusion(index=first, size=size, leaf_hash=OTHER, proof=proof, root=EMPTY_ROOT)
    with pytest.raises(LogInvalidError):
        verify_consistency(old_size=first, size=size, old_root=OTHER, root=EMPTY_ROOT, proof=proof)


def test_the_largest_trees_need_short_proofs() -> None:
    """Ranges come from sizes alone, one for each step up the tree."""
    assert 62 == len(inclusion_ranges(12345, 1 << 62))
    assert 62 == len(inclusion_ranges(MAX_SIZE - 1, MAX_SIZE))
