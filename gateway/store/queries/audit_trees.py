"""SQL over what makes records a ledger: its own row, the stored nodes of its tree, its signed checkpoints."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, insert, select

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


def list_ledgers(connection: Connection) -> Sequence[AuditLedger]:
    """Every ledger of this database, by origin."""
    rows = connection.execute(select(audit_ledgers).order_by(audit_ledgers.c.origin))
    return [AuditLedger(row.origin, row.verifier, row.created_at) for row in rows]


def find_ledger(connection: Connection, origin: str) -> AuditLedger | None:
    """The ledger of this origin; None if it was never created."""
    row = connection.execute(
        select(audit_ledgers).where(audit_ledgers.c.origin == origin)
    ).one_or_none()
    return None if row is None else AuditLedger(row.origin, row.verifier, row.created_at)


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
    """The checkpoint of the largest size; None if there is none."""
    table = audit_checkpoints
    query = select(table).where(table.c.origin == origin).order_by(table.c.size.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else StoredCheckpoint(row.origin, row.size, row.note)


def load_checkpoints(
    connection: Connection, origin: str, *, after_size: int = -1, limit: int
) -> Sequence[StoredCheckpoint]:
    """Checkpoints larger than a size, the smallest first, at most limit."""
    table = audit_checkpoints
    query = (
        select(table)
        .where(table.c.origin == origin, table.c.size > after_size)
        .order_by(table.c.size)
        .limit(limit)
    )
    return [StoredCheckpoint(row.origin, row.size, row.note) for row in connection.execute(query)]


def find_cosigned(connection: Connection, origin: str) -> StoredCheckpoint | None:
    """The newest checkpoint with its witnesses' signatures; None if none has signed yet."""
    row = connection.execute(
        select(audit_cosignatures).where(audit_cosignatures.c.origin == origin)
    ).one_or_none()
    return None if row is None else StoredCheckpoint(row.origin, row.size, row.note)


def store_cosigned(connection: Connection, cosigned: StoredCheckpoint) -> None:
    """Put a cosigned checkpoint in the place of the one before."""
    delete_cosigned(connection, cosigned.origin)
    values = {"origin": cosigned.origin, "size": cosigned.size, "note": cosigned.note}
    connection.execute(insert(audit_cosignatures).values(values))


def delete_cosigned(connection: Connection, origin: str) -> None:
    """Drop the cosigned checkpoint of a ledger, if there is one."""
    connection.execute(delete(audit_cosignatures).where(audit_cosignatures.c.origin == origin))
