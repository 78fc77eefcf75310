"""SQL over what makes records a ledger: its own row, the stored nodes of its tree, its signed checkpoints.

Rules: SQLite stores any type in any column: a row with values of other types is a ValueError, and no record.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, Row, bindparam, delete, insert, select

from gateway.store.records import AuditLedger, StoredCheckpoint, StoredNode
from gateway.store.tables import (
    audit_checkpoints,
    audit_cosignatures,
    audit_ledgers,
    audit_nodes,
)

# Built once: a proof asks this many times, and building it takes longer than the answer.
_NODES = (
    select(audit_nodes.c.number, audit_nodes.c.node_hash)
    .where(audit_nodes.c.origin == bindparam("origin"), audit_nodes.c.level == bindparam("level"))
    .where(audit_nodes.c.number >= bindparam("start"), audit_nodes.c.number < bindparam("end"))
    .order_by(audit_nodes.c.number)
)


def insert_ledger(
    connection: Connection, origin: str, *, verifier: str, created_at: datetime
) -> None:
    """Add a ledger. Raises IntegrityError if there is one of this origin."""
    values = {"origin": origin, "verifier": verifier, "created_at": created_at}
    connection.execute(insert(audit_ledgers).values(values))


def list_ledger_names(connection: Connection, *, limit: int | None = None) -> list[object]:
    """The origins of the ledgers of this database, in order, at most limit; of any type, so that one hides no other."""
    origin = audit_ledgers.c.origin
    return list(connection.execute(select(origin).order_by(origin).limit(limit)).scalars())


def find_ledger(connection: Connection, origin: str) -> AuditLedger | None:
    """The ledger of this origin; None if it was never created. Raises ValueError for values of wrong types."""
    query = select(audit_ledgers).where(audit_ledgers.c.origin == origin)
    try:
        row = connection.execute(query).one_or_none()
    except (ValueError, TypeError) as exc:
        # What turns stored text into a time.
        raise ValueError("the ledger's own row has no time") from exc
    return None if row is None else _ledger(row)


def insert_nodes(connection: Connection, nodes: Sequence[StoredNode]) -> None:
    """Add nodes of a tree. Raises IntegrityError if one is there already."""
    if nodes:
        rows = [
            {"origin": n.origin, "level": n.level, "number": n.number, "node_hash": n.node_hash}
            for n in nodes
        ]
        connection.execute(insert(audit_nodes), rows)


def load_nodes(
    connection: Connection, origin: str, level: int, start: int, end: int
) -> list[tuple[int, bytes]]:
    """Number and hash of the nodes of a level from start to before end, in order."""
    values = {"origin": origin, "level": level, "start": start, "end": end}
    return [(number, node_hash) for number, node_hash in connection.execute(_NODES, values)]


def insert_checkpoint(connection: Connection, origin: str, *, size: int, note: str) -> None:
    """Add a signed checkpoint. Raises IntegrityError if there is one of this size."""
    connection.execute(insert(audit_checkpoints).values(origin=origin, size=size, note=note))


def find_newest_checkpoint(connection: Connection, origin: str) -> StoredCheckpoint | None:
    """The checkpoint of the largest size; None if there is none. Raises ValueError for values of wrong types."""
    table = audit_checkpoints
    query = select(table).where(table.c.origin == origin).order_by(table.c.size.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else _checkpoint(row)


def load_checkpoints(
    connection: Connection, origin: str, *, after_size: int = -1, limit: int
) -> Sequence[StoredCheckpoint]:
    """Checkpoints larger than a size, the smallest first, at most limit.

    Raises ValueError for values of wrong types.
    """
    table = audit_checkpoints
    query = (
        select(table)
        .where(table.c.origin == origin, table.c.size > after_size)
        .order_by(table.c.size)
        .limit(limit)
    )
    return [_checkpoint(row) for row in connection.execute(query)]


def find_cosigned(connection: Connection, origin: str) -> StoredCheckpoint | None:
    """The newest checkpoint with its witnesses' signatures; None if none has signed yet.

    Raises ValueError for values of wrong types.
    """
    row = connection.execute(
        select(audit_cosignatures).where(audit_cosignatures.c.origin == origin)
    ).one_or_none()
    return None if row is None else _checkpoint(row)


def store_cosigned(connection: Connection, cosigned: StoredCheckpoint) -> None:
    """Put a cosigned checkpoint in the place of the one before."""
    delete_cosigned(connection, cosigned.origin)
    values = {"origin": cosigned.origin, "size": cosigned.size, "note": cosigned.note}
    connection.execute(insert(audit_cosignatures).values(values))


def delete_cosigned(connection: Connection, origin: str) -> None:
    """Drop the cosigned checkpoint of a ledger, if there is one."""
    connection.execute(delete(audit_cosignatures).where(audit_cosignatures.c.origin == origin))


def _ledger(row: Row[tuple[object, ...]]) -> AuditLedger:
    if type(row.verifier) is not str or not isinstance(row.created_at, datetime):
        raise ValueError("the ledger's own row has values of wrong types")
    return AuditLedger(row.origin, row.verifier, row.created_at)


def _checkpoint(row: Row[tuple[object, ...]]) -> StoredCheckpoint:
    if (type(row.size), type(row.note)) != (int, str):
        raise ValueError(f"the checkpoint of size {row.size!r} has values of wrong types")
    return StoredCheckpoint(row.origin, row.size, row.note)
