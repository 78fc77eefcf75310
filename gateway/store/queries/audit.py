"""SQL over audit_records. Records are only ever inserted."""

import hashlib
from collections.abc import Sequence

from sqlalchemy import Connection, Row, bindparam, func, insert, select

from gateway.store.records import AuditRecord
from gateway.store.tables import audit_records

# Built once: these run in every commit, and building them costs as much as running them.
_LOCK = select(func.pg_advisory_xact_lock(bindparam("key")))
_LAST = (
    select(audit_records.c.position, audit_records.c.record_hash)
    .where(audit_records.c.origin == bindparam("ledger_origin"))
    .order_by(audit_records.c.position.desc())
    .limit(1)
)
_INSERT = insert(audit_records)


def lock_ledger(connection: Connection, origin: str) -> None:
    """Keep every other process from adding to this ledger until the transaction ends.

    SQLite needs nothing: write_transaction holds its one write lock already. On PostgreSQL the lock is an advisory
    one on a hash of the origin: a row lock cannot guard the place after the last row.
    """
    if connection.dialect.name == "postgresql":
        digest = hashlib.sha256(b"gatewatch ledger lock\n" + origin.encode()).digest()
        key = int.from_bytes(digest[:8], "big", signed=True)
        connection.execute(_LOCK, {"key": key})


def find_last_position(connection: Connection, origin: str) -> tuple[int, bytes] | None:
    """Position and hash of the ledger's last record; None if it has none."""
    row = connection.execute(_LAST, {"ledger_origin": origin}).one_or_none()
    return None if row is None else (row.position, row.record_hash)


def insert_audit_records(connection: Connection, records: Sequence[AuditRecord]) -> None:
    """Add records. Raises IntegrityError if a position of this origin is taken."""
    rows = [
        {
            "origin": record.origin,
            "position": record.position,
            "recorded_at": record.recorded_at,
            "body": record.body,
            "record_hash": record.record_hash,
        }
        for record in records
    ]
    connection.execute(_INSERT, rows)


def load_audit_records(
    connection: Connection, origin: str, *, after_position: int | None = None, limit: int
) -> Sequence[AuditRecord]:
    """Records in the order of their positions: from the first one or after a position, at most limit.

    Starts at the lowest position there is, not at 0: a record hidden below 0 must be seen too.
    Raises ValueError if a stored value has another type than its column (SQLite does not enforce types).
    """
    table = audit_records
    query = select(table).where(table.c.origin == origin).order_by(table.c.position).limit(limit)
    if after_position is not None:
        query = query.where(table.c.position > after_position)
    return [_record(row) for row in connection.execute(query)]


def list_positions(
    connection: Connection, origin: str, *, after_position: int | None, limit: int
) -> Sequence[int]:
    """Only the positions of what load_audit_records would read."""
    table = audit_records
    query = select(table.c.position).where(table.c.origin == origin)
    if after_position is not None:
        query = query.where(table.c.position > after_position)
    return connection.execute(query.order_by(table.c.position).limit(limit)).scalars().all()


def _record(row: Row[tuple[object, ...]]) -> AuditRecord:
    record = AuditRecord(row.origin, row.position, row.recorded_at, row.body, row.record_hash)
    if (type(record.position), type(record.body), type(record.record_hash)) != (int, str, bytes):
        raise ValueError(f"the audit record at position {row.position!r} has values of wrong types")
    return record
