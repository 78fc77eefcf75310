"""Naming a record under mended hashes: what is named exactly is proven, else the checkpoints bracket it."""

import pytest

from gateway.audit.merkle import EMPTY_FRONTIER, append_leaves, frontier_root
from gateway.audit.verify_faults import FaultKind
from gateway.audit.verify_locate import Leaves, locate
from gateway.audit.verify_tree import Disagreement

LEAVES = [number.to_bytes(32, "big") for number in range(1, 901)]
_, NODES = append_leaves(EMPTY_FRONTIER, LEAVES)
BLOCKS: dict[int, object] = {node.number: node.node_hash for node in NODES}
NEW = b"\xff" * 32


def located(
    leaves: list[bytes],
    start: int,
    size: int,
    *,
    times: list[object] | None = None,
    blocks: dict[int, object] | None = None,
) -> tuple[int, int, FaultKind]:
    """First, last and kind, where the true leaves were signed at start and size."""
    agreed, _ = append_leaves(EMPTY_FRONTIER, LEAVES[:start])
    root = frontier_root(append_leaves(EMPTY_FRONTIER, LEAVES[:size])[0])
    when = [f"{leaf.hex()}" for leaf in leaves] if times is None else times
    given = Leaves(when[start:], leaves[start:])
    fault = locate(
        Disagreement(agreed, size, root), given, stored_blocks={} if blocks is None else blocks
    )
    return fault.position, fault.last, fault.kind


def replaced(place: int) -> list[bytes]:
    """The leaves with another one at a place."""
    return [*LEAVES[:place], NEW, *LEAVES[place + 1 :]]


def exchanged(first: int, other: int) -> list[bytes]:
    """The leaves with two in each other's place."""
    leaves = list(LEAVES)
    leaves[first], leaves[other] = leaves[other], leaves[first]
    return leaves


@pytest.mark.parametrize(("first", "other"), [(100, 101), (103, 148), (120, 500), (149, 150)])
def test_an_exchange_is_named(first: int, other: int) -> None:
    """Also with a record that was signed later."""
    found = located(exchanged(first, other), 100, 150)
    assert (first, first, FaultKind.REORDERED) == found


def test_neighbours_are_found_without_times() -> None:
    """Times may be equal, or none."""
    leaves = exchanged(110, 112)
    same: list[object] = ["same"] * len(leaves)
    assert (110, 110, FaultKind.REORDERED) == located(leaves, 100, 150, times=same)
    nothing: list[object] = [None] * len(leaves)
    assert (110, 110, FaultKind.REORDERED) == located(leaves, 100, 150, times=nothing)


@pytest.mark.parametrize("place", [100, 120, 148])
def test_an_insertion_is_named(place: int) -> None:
    """Those after it moved."""
    leaves = [*LEAVES[:place], NEW, *LEAVES[place:]]
    assert (place, place, FaultKind.EXTRA) == located(leaves, 100, 150)


@pytest.mark.parametrize("place", [100, 149])
def test_a_change_is_bracketed(place: int) -> None:
    """By what was signed before and after it."""
    assert (100, 149, FaultKind.CHANGED) == located(replaced(place), 100, 150)


def test_a_bracket_of_one_is_exact() -> None:
    """Signed before and after each record."""
    assert (100, 100, FaultKind.CHANGED) == located(replaced(100), 100, 101)


@pytest.mark.parametrize(
    ("place", "first", "last"), [(120, 100, 255), (300, 256, 511), (600, 512, 767)]
)
def test_nodes_that_lead_to_the_signed_root_bracket_closer(
    place: int, first: int, last: int
) -> None:
    """The block whose leaves do not give its node holds it; the first one began before what fits."""
    found = located(replaced(place), 100, 800, blocks=BLOCKS)
    assert (first, last, FaultKind.CHANGED) == found


@pytest.mark.parametrize("place", [120, 790])
def test_nodes_that_do_not_lead_there_say_nothing(place: int) -> None:
    """Mended ones point elsewhere; and behind the last whole block there is none."""
    leaves = replaced(place)
    mended: dict[int, object] = {
        node.number: node.node_hash for node in append_leaves(EMPTY_FRONTIER, leaves)[1]
    }
    mended |= {2: b"\7" * 32}
    assert (100, 799, FaultKind.CHANGED) == located(leaves, 100, 800, blocks=mended)
    assert (100, 799, FaultKind.CHANGED) == located(leaves, 100, 800, blocks=BLOCKS | {1: None})
    del mended[2]
    assert (100, 799, FaultKind.CHANGED) == located(leaves, 100, 800, blocks=mended)


def test_a_large_bracket_is_not_searched_for_ever() -> None:
    """Its bounds are named; 700 records are searched for an exchange and an insertion in a moment."""
    assert (100, 799, FaultKind.CHANGED) == located(replaced(400), 100, 800)


def test_without_leaves_the_bracket_is_all_there_is() -> None:
    """A bracket may be too large to be read."""
    assert (100, 149, FaultKind.CHANGED) == located(LEAVES[:100], 100, 150)
