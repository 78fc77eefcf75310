"""Roots and proofs of a ledger's tree from the hashes that the database holds, a few short queries each.

Rules: nothing here is believed: a frontier is good when its root is the one that was signed, a proof when it verifies.
Raises LogInvalidError where a hash is missing, SQLAlchemyError where the database fails.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

from sqlalchemy import Connection

from gateway.audit.merkle import (
    STORED_HEIGHT,
    Frontier,
    LogInvalidError,
    consistency_ranges,
    inclusion_ranges,
    perfect_parts,
    root_of_hashes,
    root_of_parts,
)
from gateway.store.queries.audit import load_leaf_hashes
from gateway.store.queries.audit_trees import load_nodes


def load_frontier(connection: Connection, origin: str, size: int) -> Frontier:
    """The frontier of the tree of the first size records."""
    return Frontier(size, tuple(_part_roots(connection, origin, 0, size)))


def prove_inclusion(connection: Connection, origin: str, *, index: int, size: int) -> list[bytes]:
    """The hashes that lead from a record to the root of the tree of the first size records."""
    return _range_roots(connection, origin, inclusion_ranges(index, size))


def prove_consistency(
    connection: Connection, origin: str, *, old_size: int, size: int
) -> list[bytes]:
    """The hashes that show that the tree of size records goes on from that of old_size."""
    return _range_roots(connection, origin, consistency_ranges(old_size, size))


def _range_roots(
    connection: Connection, origin: str, ranges: Sequence[tuple[int, int]]
) -> list[bytes]:
    return [
        root_of_parts(list(_part_roots(connection, origin, start, end))) for start, end in ranges
    ]


def _part_roots(connection: Connection, origin: str, start: int, end: int) -> Iterator[bytes]:
    # One query for all neighbouring parts that are made of hashes of the same level.
    for level, group in groupby(perfect_parts(start, end), key=_level):
        parts = list(group)
        unit = 1 << (STORED_HEIGHT * level)
        first = parts[0][0] // unit
        hashes = _load(connection, origin, level, first, (parts[-1][0] + parts[-1][1]) // unit)
        for part_start, count in parts:
            place = part_start // unit - first
            yield root_of_hashes(hashes[place : place + count // unit])


def _level(part: tuple[int, int]) -> int:
    return (part[1].bit_length() - 1) // STORED_HEIGHT


def _load(connection: Connection, origin: str, level: int, start: int, end: int) -> list[bytes]:
    if level:
        rows = load_nodes(connection, origin, level, start, end)
    else:
        rows = load_leaf_hashes(connection, origin, start, end)
    for expected, (number, _) in zip(range(start, end), rows, strict=False):
        if number != expected:
            raise _missing(level, expected)
    if len(rows) < end - start:
        raise _missing(level, start + len(rows))
    return [_checked(content, level, number) for number, content in rows]


def _checked(content: object, level: int, number: int) -> bytes:
    # SQLite stores any type in any column.
    if not isinstance(content, bytes) or len(content) != 32:
        raise LogInvalidError(f"{_name(level, number)} has no hash of 32 bytes")
    return content


def _missing(level: int, number: int) -> LogInvalidError:
    return LogInvalidError(f"{_name(level, number)} is missing")


def _name(level: int, number: int) -> str:
    return f"node {number} of level {level}" if level else f"record {number}"
