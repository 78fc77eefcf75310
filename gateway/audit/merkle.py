"""The Merkle tree over a ledger's entries: roots, what a ledger stores of it, and proofs. Pure.

Rules: RFC 6962 section 2.1, nothing of our own; the prefixes keep leaves and nodes apart; no padding, no doubled leaf.
Whatever is wrong with a hash, a size or a proof is one error, LogInvalidError, also in the modules above this one.

A ledger stores the hash of every leaf and of every full subtree of 256^level leaves; the root of any range of leaves
needs no more than that: split the range with perfect_parts, compute each part with root_of_hashes, and join them with
root_of_parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

HASH_BYTES = 32
MAX_SIZE = (1 << 63) - 1  # What a database's signed 64-bit column and a witness's record can hold.
MAX_PROOF_HASHES = 63  # Source: C2SP tlog-witness; enough for any proof of a tree that exists.
STORED_HEIGHT = 8  # Nodes are stored at every 8th height: 256 children each.

# RFC 6962 section 2.1: without these an entry could be made that hashes as a node does.
_LEAF_PREFIX = b"\x00"
_NODE_PREFIX = b"\x01"

EMPTY_ROOT = sha256(b"").digest()


class LogInvalidError(Exception):
    """Something of a transparency log does not parse or does not verify; the message says what."""


def hash_leaf(entry: bytes) -> bytes:
    """The hash of an entry, SHA-256(0x00 || entry). Source: RFC 6962 section 2.1."""
    return sha256(_LEAF_PREFIX + entry).digest()


def hash_node(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees, SHA-256(0x01 || left || right). Source: RFC 6962 section 2.1."""
    return sha256(_NODE_PREFIX + left + right).digest()


def _require_hashes(hashes: Sequence[bytes]) -> None:
    if set(map(len, hashes)) - {HASH_BYTES}:
        raise LogInvalidError("a hash is not 32 bytes long")


@dataclass(frozen=True, slots=True)
class Node:
    """A full subtree that a ledger stores: the number-th (from 0) of 256^level leaves, level >= 1."""

    level: int
    number: int
    node_hash: bytes


@dataclass(frozen=True, slots=True)
class Frontier:
    """All that appending needs of a tree: the roots of its perfect subtrees, largest first.

    There is one for each set bit of size. Raises LogInvalidError for anything else.
    """

    size: int
    hashes: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.size <= MAX_SIZE:
            raise LogInvalidError("the size of a tree must be from 0 to 2^63 - 1")
        if self.size.bit_count() != len(self.hashes):
            raise LogInvalidError(
                f"a tree of {self.size} leaves has {self.size.bit_count()} perfect subtrees, "
                f"not {len(self.hashes)}"
            )
        _require_hashes(self.hashes)


EMPTY_FRONTIER = Frontier(0, ())


def frontier_root(frontier: Frontier) -> bytes:
    """The root of the whole tree."""
    return root_of_parts(frontier.hashes)


def append_leaves(frontier: Frontier, leaf_hashes: Sequence[bytes]) -> tuple[Frontier, list[Node]]:
    """The frontier after these leaves, and the nodes to store that became full by them.

    Nodes come lower levels first and each level in order. Raises LogInvalidError for a leaf hash that is not 32
    bytes.
    """
    _require_hashes(leaf_hashes)
    nodes: list[Node] = []
    older = list(frontier.hashes)
    kept: list[bytes] = []  # The new frontier, smallest first.
    row = list(leaf_hashes)  # The roots of height `height` that are new.
    height = 0
    # Row by row is twice as fast as leaf by leaf: pairs are hashed in one comprehension.
    while row:
        if height and height % STORED_HEIGHT == 0:
            nodes += _stored(row, height, frontier.size >> height)
        if (frontier.size >> height) & 1:
            row.insert(0, older.pop())
        if len(row) & 1:
            kept.append(row.pop())
        row = _paired(row)
        height += 1
    hashes = (*older, *reversed(kept))
    return Frontier(frontier.size + len(leaf_hashes), hashes), nodes


def inclusion_ranges(index: int, size: int) -> list[tuple[int, int]]:
    """The half-open ranges of leaves whose roots prove that a leaf is in a tree, in proof order.

    Raises LogInvalidError unless 0 <= index < size. Source: RFC 6962 section 2.1.1.
    """
    _require_index(index, size)
    ranges = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _left_size(end - start)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    return ranges[::-1]


def consistency_ranges(old_size: int, size: int) -> list[tuple[int, int]]:
    """The half-open ranges of leaves whose roots prove that a tree goes on from an older one, in proof order.

    Raises LogInvalidError unless 0 <= old_size <= size. Source: RFC 6962 section 2.1.2.
    """
    _require_sizes(old_size, size)
    if old_size == 0:
        return []
    ranges = []
    start, end = 0, size
    while old_size != end:
        middle = start + _left_size(end - start)
        if old_size <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    if start > 0:  # Else what remains is the old tree itself, whose root the verifier has.
        ranges.append((start, end))
    return ranges[::-1]


def perfect_parts(start: int, end: int) -> list[tuple[int, int]]:
    """The largest aligned perfect subtrees that make up a range of leaves, left to right, as (start, count).

    For a range of a proof the roots of these parts, given to root_of_parts, are the root of the range. Raises
    LogInvalidError unless 0 <= start <= end.
    """
    if not 0 <= start <= end:
        raise LogInvalidError(f"{start} to {end} is no range of leaves")
    parts = []
    while start < end:
        count = 1 << ((end - start).bit_length() - 1)
        if start:
            count = min(count, start & -start)
        parts.append((start, count))
        start += count
    return parts


def root_of_parts(hashes: Sequence[bytes]) -> bytes:
    """The root over perfect subtrees of falling sizes, largest first; EMPTY_ROOT over none."""
    if not hashes:
        return EMPTY_ROOT
    root = hashes[-1]
    for part_hash in hashes[-2::-1]:
        root = hash_node(part_hash, root)
    return root


def root_of_hashes(hashes: Sequence[bytes]) -> bytes:
    """The root over leaves, or over perfect subtrees of one size, left to right; EMPTY_ROOT over none."""
    if not hashes:
        return EMPTY_ROOT
    row = list(hashes)
    while len(row) > 1:
        # Without a partner the last one rises as it is: RFC 6962 splits at the largest power of two below n.
        alone = [row.pop()] if len(row) & 1 else []
        row = _paired(row) + alone
    return row[0]


def verify_inclusion(
    *, index: int, size: int, leaf_hash: bytes, proof: Sequence[bytes], root: bytes
) -> None:
    """Check that a tree of this size and root has this leaf at this index.

    Raises LogInvalidError if it is not shown, also by a proof that is longer or shorter than its place demands.
    Source: RFC 9162 section 2.1.3.2.
    """
    _require_index(index, size)
    inner = (index ^ (size - 1)).bit_length()
    # Without this check a proof of one index would do for another.
    _require_length(proof, inner + (index >> inner).bit_count())
    _require_hashes((leaf_hash, root, *proof))
    found = leaf_hash
    for step, sibling in enumerate(proof):
        is_left = step < inner and not (index >> step) & 1
        found = hash_node(found, sibling) if is_left else hash_node(sibling, found)
    if found != root:
        raise LogInvalidError(f"the proof does not lead from leaf {index} to the root")


def verify_consistency(
    *, old_size: int, size: int, old_root: bytes, root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the first old_size leaves of a tree are the tree of old_root.

    Raises LogInvalidError if it is not shown, also by a proof that is longer or shorter than the sizes demand.
    Source: RFC 9162 section 2.1.4.2.
    """
    _require_sizes(old_size, size)
    _require_hashes((old_root, root, *proof))
    if old_size in (0, size):
        _require_length(proof, 0)
        if old_root != (EMPTY_ROOT if old_size == 0 else root):
            raise LogInvalidError(f"there is another root at {old_size} leaves")
        if size == 0 and root != EMPTY_ROOT:
            raise LogInvalidError("the empty tree has another root")
        return
    last = old_size - 1
    whole_heights = (old_size & -old_size).bit_length() - 1
    inner = (last ^ (size - 1)).bit_length() - whole_heights
    steps = inner + (last >> (inner + whole_heights)).bit_count()
    if old_size.bit_count() == 1:  # The old tree is a subtree of the new one; its root is known.
        proof = (old_root, *proof)
    _require_length(proof, steps + 1)
    old_found = new_found = proof[0]
    for step, sibling in enumerate(proof[1:]):
        if step < inner and not (last >> (whole_heights + step)) & 1:
            new_found = hash_node(new_found, sibling)
        else:
            old_found = hash_node(sibling, old_found)
            new_found = hash_node(sibling, new_found)
    if old_found != old_root or new_found != root:
        raise LogInvalidError(f"the tree of {size} leaves does not go on from that of {old_size}")


def _paired(row: list[bytes]) -> list[bytes]:
    pairs = iter(row)
    return [
        sha256(_NODE_PREFIX + left + right).digest()
        for left, right in zip(pairs, pairs, strict=True)
    ]


def _stored(row: list[bytes], height: int, first_number: int) -> list[Node]:
    level = height // STORED_HEIGHT
    return [Node(level, number, node_hash) for number, node_hash in enumerate(row, first_number)]


def _left_size(size: int) -> int:
    # The largest power of two below size.
    return 1 << ((size - 1).bit_length() - 1)


def _require_index(index: int, size: int) -> None:
    if not 0 <= index < size <= MAX_SIZE:
        raise LogInvalidError(f"there is no leaf {index} in a tree of {size} leaves")


def _require_sizes(old_size: int, size: int) -> None:
    if not 0 <= old_size <= size <= MAX_SIZE:
        raise LogInvalidError(f"a tree of {size} leaves cannot go on from one of {old_size}")


def _require_length(proof: Sequence[bytes], length: int) -> None:
    if len(proof) != length:
        raise LogInvalidError(
            "the proof has more or fewer hashes than its place in the tree demands"
        )
