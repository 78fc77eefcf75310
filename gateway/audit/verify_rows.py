"""Checking the rows of a ledger by themselves: place, types, leaf hash, and the columns that repeat the body. Pure.

Rules: a page of good records takes the short way, which parses nothing; whatever is not good there is looked at again,
record by record, and only that way says what is wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from gateway.audit.merkle import hash_leaf
from gateway.audit.verify_copies import COPIES, CopyComparison, explain_copies
from gateway.audit.verify_faults import Fault, FaultKind, fault_at

# What a reader gives for a record, in this order; the types are what they should be, and in SQLite can be any.
Row = tuple[Any, ...]
COLUMNS = ("position", "body", "leaf_hash", *COPIES)

_REQUIRED = {"position": int, "body": str, "leaf_hash": bytes}
_REQUIRED |= {"recorded_at": str, "action": str, "outcome": str}
_TEXT_OR_NULL = frozenset({str, type(None)})


@dataclass(frozen=True, slots=True)
class CheckedRows:
    """The leaf hashes of the good rows before the first bad one, or of all."""

    leaf_hashes: list[bytes]
    first_bad: Fault | None


def check_rows(rows: Sequence[Row], *, start: int, comparison: CopyComparison) -> CheckedRows:
    """Check rows that should be the records from start on, without a gap."""
    if rows:
        leaf_hashes = _leaves_if_good(rows, start, comparison)
        if leaf_hashes is not None:
            return CheckedRows(leaf_hashes, None)
    leaf_hashes = []
    for position, row in enumerate(rows, start):
        fault = explain_row(row, position)
        if fault is not None:
            return CheckedRows(leaf_hashes, fault)
        leaf_hashes.append(row[2])
    return CheckedRows(leaf_hashes, None)


def explain_row(row: Row, position: int) -> Fault | None:
    """What is wrong with the row that should be the record at this position; None if nothing is."""
    found = row[0]
    if type(found) is int and found < position:
        # Only a table without its primary key can hold two of them.
        return fault_at(found, FaultKind.EXTRA, "it is there twice")
    if type(found) is int and found > position:
        why = f"it is missing; the next one there is has position {found}"
        return fault_at(position, FaultKind.MISSING, why)
    if type(found) is not int:
        why = f"in its place is one with position {found!r}"
        return fault_at(position, FaultKind.UNREADABLE, why)
    column = _column_of_wrong_type(row)
    if column is not None:
        why = f"its {column} is of a type that none can be"
        return fault_at(position, FaultKind.UNREADABLE, why)
    try:
        computed = hash_leaf(row[1].encode())
    except UnicodeEncodeError:
        return fault_at(position, FaultKind.UNREADABLE, "its body is not Unicode")
    if computed != row[2]:
        return fault_at(position, FaultKind.CHANGED, "its leaf hash is not that of its body")
    return explain_copies(row[1], row[3:], position)


def _column_of_wrong_type(row: Row) -> str | None:
    for column, value in zip(COLUMNS, row, strict=True):
        required = _REQUIRED.get(column)
        if type(value) is not required if required else type(value) not in _TEXT_OR_NULL:
            return column
    return None


def _leaves_if_good(
    rows: Sequence[Row], start: int, comparison: CopyComparison
) -> list[bytes] | None:
    columns = list(zip(*rows, strict=True))
    positions, bodies, leaf_hashes, times, _, _, requests, _, _ = columns
    if positions != tuple(range(start, start + len(rows))) or set(map(type, positions)) != {int}:
        return None
    if set(map(type, bodies)) | set(map(type, times)) != {str}:
        return None
    if not set(map(type, requests)) <= _TEXT_OR_NULL:
        return None
    try:
        # hash_leaf, without a call for each.
        computed = [sha256(b"\0" + body.encode()).digest() for body in bodies]
    except UnicodeEncodeError:
        return None
    if computed != list(leaf_hashes):
        return None
    return computed if comparison.first_bad(bodies, tuple(columns[3:])) is None else None
