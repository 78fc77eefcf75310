"""What one process knows of the end of its ledger, and how it goes on from there.

Rules: the prefix that this process once saw is kept as hashes and never read again, so that nobody can exchange it
under a running process; what others appended is followed; a tail is remembered only once its records are durable.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from gateway.audit.entries import Entry, audit_record
from gateway.audit.merkle import (
    EMPTY_FRONTIER,
    EMPTY_ROOT,
    Frontier,
    LogInvalidError,
    append_leaves,
    frontier_root,
)
from gateway.audit.stored_tree import load_frontier
from gateway.store.queries.audit import (
    count_records_from,
    find_last_position,
    insert_audit_records,
    load_leaf_hashes,
)
from gateway.store.queries.audit_trees import insert_nodes
from gateway.store.records import StoredNode


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of a ledger: the frontier of its tree and the leaf hash of its last record (EMPTY_ROOT without one)."""

    frontier: Frontier
    last_leaf: bytes

    @property
    def size(self) -> int:
        """Records in the ledger."""
        return self.frontier.size

    @property
    def root(self) -> bytes:
        """The root of its tree."""
        return frontier_root(self.frontier)


EMPTY_TAIL = Tail(EMPTY_FRONTIER, EMPTY_ROOT)


def follow_tail(connection: Connection, origin: str, known: Tail | None) -> Tail:
    """The ledger's tail now, which goes on from the known one; without one it is computed from stored hashes.

    Raises LogInvalidError if records are gone that were there, or a stored value is none: what this process was told
    is durable must still be there. Writing on after a cut or a restored backup would hide the loss under good records.
    """
    last = find_last_position(connection, origin)
    if last is None:
        size, last_leaf = 0, EMPTY_ROOT
    elif (type(last[0]), type(last[1])) != (int, bytes):
        # SQLite stores any type in any column; which record it is, verify says.
        raise LogInvalidError("the ledger's last record cannot be read")
    else:
        size, last_leaf = last[0] + 1, last[1]
    if known is None:
        return Tail(load_frontier(connection, origin, size), last_leaf)
    if size == known.size and last_leaf == known.last_leaf:
        return known
    return _followed(connection, origin, known, size)


def _followed(connection: Connection, origin: str, known: Tail, size: int) -> Tail:
    first = max(known.size - 1, 0)
    rows = load_leaf_hashes(connection, origin, first, size)
    is_kept = known.size == 0 or (bool(rows) and rows[0] == (first, known.last_leaf))
    if size <= known.size or not is_kept:
        raise LogInvalidError(
            f"the ledger lost records that were durable, the first at or below position {first}"
        )
    if [position for position, _ in rows] != list(range(first, size)):
        raise LogInvalidError("the ledger lacks records between its first and its last")
    leaf_hashes = [leaf_hash for _, leaf_hash in rows[known.size - first :]]
    if set(map(type, leaf_hashes)) != {bytes}:
        raise LogInvalidError("a record of the ledger has no leaf hash")
    frontier, _ = append_leaves(known.frontier, leaf_hashes)
    return Tail(frontier, leaf_hashes[-1])


def extend_tail(connection: Connection, origin: str, tail: Tail, entries: Sequence[Entry]) -> Tail:
    """Insert entries behind a tail, with the nodes that become full; the tail after them, once this is committed.

    Raises LogInvalidError if they are not there afterwards: a trigger can take away what was just written, and the call
    would be answered without a record.
    """
    frontier, nodes = append_leaves(tail.frontier, [entry.leaf_hash for entry in entries])
    insert_audit_records(
        connection,
        [
            audit_record(entry, origin=origin, position=position)
            for position, entry in enumerate(entries, tail.size)
        ],
    )
    insert_nodes(connection, [StoredNode(origin, n.level, n.number, n.node_hash) for n in nodes])
    if count_records_from(connection, origin, tail.size) != (len(entries), frontier.size - 1):
        raise LogInvalidError(
            f"the database does not keep records from position {tail.size} on as written: look for triggers on "
            "audit_records"
        )
    return Tail(frontier, entries[-1].leaf_hash)
