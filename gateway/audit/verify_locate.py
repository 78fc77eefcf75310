"""Naming the record that makes a tree another than the signed one, where somebody mended every hash above it. Pure.

Rules: what is named exactly is proven: with that one change undone the root is the signed one. Where nothing proves
more, every record since the last checkpoint that fits can be the bad one, and the first of them is named.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest
from itertools import combinations, islice

from gateway.audit.merkle import (
    EMPTY_FRONTIER,
    STORED_HEIGHT,
    Frontier,
    append_leaves,
    frontier_root,
    root_of_hashes,
    root_of_parts,
)
from gateway.audit.verify_faults import Fault, FaultKind, fault_at, fault_between
from gateway.audit.verify_tree import Disagreement

_BLOCK = 1 << STORED_HEIGHT
# A fraction of a second of hashing; searches that would need more are not finished.
_MAX_HASHES = 400_000
_MAX_DISPLACED = 16
# Concurrent calls stand a few places from the order of their times anyway.
_NEAR = 3


@dataclass(frozen=True, slots=True)
class Leaves:
    """The records from the last good checkpoint on, also some behind the one that does not fit: time and leaf hash."""

    times: Sequence[object]
    hashes: Sequence[bytes]


def locate(found: Disagreement, leaves: Leaves, *, stored_blocks: Mapping[int, object]) -> Fault:
    """Which record it is, or can be. stored_blocks: the stored nodes of level 1 by number."""
    start, count = found.agreed.size, found.size - found.agreed.size
    if len(leaves.hashes) < count:
        return _anything(found, start, found.size)
    pair = next(_exchanged(found, leaves), None)
    if pair is not None:
        first, other = start + pair[0], start + pair[1]
        why = f"it and record {other} changed places"
        if pair == (count - 1, count):
            why += ", or it was put in and the ones after it moved"
        return Fault(first, FaultKind.REORDERED, why, first)
    extra = _inserted(found, leaves)
    if extra is not None:
        why = "it was put in, and the ones after it moved"
        return fault_at(start + extra, FaultKind.EXTRA, why)
    first, end = _narrowed(found, leaves, stored_blocks)
    return _anything(found, first, end)


def _anything(found: Disagreement, first: int, end: int) -> Fault:
    which = "it" if first == end - 1 else f"a record from {first} to {end - 1}"
    why = f"{which} is not as signed by the checkpoint of {found.size} records"
    return fault_between(first, end, FaultKind.CHANGED, why)


def _root(found: Disagreement, hashes: Sequence[bytes]) -> bytes:
    return frontier_root(append_leaves(found.agreed, hashes)[0])


def _exchanged(found: Disagreement, leaves: Leaves) -> Iterator[tuple[int, int]]:
    # Two records whose exchange gives the signed root.
    count = found.size - found.agreed.size
    hashes = list(leaves.hashes)
    for first, other in islice(_pairs(leaves, count), _MAX_HASHES // max(count, 1)):
        inside = hashes[:count]
        inside[first] = hashes[other]
        if other < count:
            inside[other] = hashes[first]
        if _root(found, inside) == found.root:
            yield first, other


def _pairs(leaves: Leaves, count: int) -> Iterator[tuple[int, int]]:
    # Likely ones first: records stand nearly in the order of their times, so two that changed places stand out.
    if all(type(time) is str for time in leaves.times):
        places = sorted(range(len(leaves.times)), key=lambda place: str(leaves.times[place]))
        displaced = [(abs(rank - place), place) for rank, place in enumerate(places)]
        far = sorted(place for distance, place in nlargest(_MAX_DISPLACED, displaced) if distance)
        yield from (pair for pair in combinations(far, 2) if pair[0] < count)
    for distance in range(1, _NEAR + 1):
        for first in range(min(count, len(leaves.hashes) - distance)):
            yield first, first + distance


def _inserted(found: Disagreement, leaves: Leaves) -> int | None:
    # The record without which those after it, moved down by one, give the signed root.
    count = found.size - found.agreed.size
    hashes = list(leaves.hashes[: count + 1])
    if len(hashes) <= count or count * count > _MAX_HASHES:
        return None
    for place in range(count):
        if _root(found, hashes[:place] + hashes[place + 1 :]) == found.root:
            return place
    return None


def _narrowed(
    found: Disagreement, leaves: Leaves, stored_blocks: Mapping[int, object]
) -> tuple[int, int]:
    # Stored nodes prove themselves if they lead to the signed root: then the blocks that differ hold what is bad.
    start, size = found.agreed.size, found.size
    first_block, end_block = start // _BLOCK, size // _BLOCK
    rest = leaves.hashes[max(end_block * _BLOCK - start, 0) : size - start]
    stored = [stored_blocks.get(number) for number in range(first_block, end_block)]
    nodes = [node for node in stored if isinstance(node, bytes) and len(node) == len(found.root)]
    if not nodes or len(nodes) != len(stored):
        return start, size
    blocks = Frontier(first_block, found.agreed.hashes[: first_block.bit_count()])
    above, _ = append_leaves(blocks, nodes)
    if root_of_parts((*above.hashes, *append_leaves(EMPTY_FRONTIER, rest)[0].hashes)) != found.root:
        return start, size
    for number, node in enumerate(nodes, first_block):
        if _block_root(found, leaves, number) != node:
            return max(start, number * _BLOCK), min(size, (number + 1) * _BLOCK)
    return start, size


def _block_root(found: Disagreement, leaves: Leaves, number: int) -> bytes:
    start = found.agreed.size
    first, end = number * _BLOCK - start, (number + 1) * _BLOCK - start
    if first >= 0:
        return root_of_hashes(leaves.hashes[first:end])
    # The block began before: the part that fits is in the frontier.
    inside = found.agreed.hashes[(start // _BLOCK).bit_count() :]
    return frontier_root(append_leaves(Frontier(start % _BLOCK, inside), leaves.hashes[:end])[0])
