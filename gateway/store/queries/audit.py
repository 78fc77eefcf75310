"""SQL over audit_records. Records are only ever inserted."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select

from gateway.store.records import AuditRecord
from gateway.store.tables import audit_records

_LOCK = select(func.pg_advisory_xact_lock(bindparam("key")))
# Built once: a proof asks this many times, and building it takes longer than the answer.
_LEAF_HASHES = (
    select(audit_records.c.position, audit_records.c.leaf_hash)
    .where(audit_records.c.origin == bindparam("origin"))
    .where(audit_records.c.position >= bindparam("start"))
    .where(audit_records.c.position < bindparam("end"))
    .order_by(audit_records.c.position)
)
_COLUMNS = tuple(column.name for column in audit_records.columns)
# Driver SQL, and not SQLAlchemy's constructs, for the two statements of every commit: compiling and converting costs
# several times what SQLite needs to run them, on the path that every call waits for.
_LAST = (
    "SELECT position, leaf_hash FROM audit_records WHERE origin = ? ORDER BY position DESC LIMIT 1"
)
_COUNT = "SELECT count(*), max(position) FROM audit_records WHERE origin = ? AND position >= ?"
_INSERT = (
    f"INSERT INTO audit_records ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608  (constants)
)


@lru_cache(maxsize=4)
def _in_driver_style(statement: str, paramstyle: str) -> str:
    return statement if paramstyle == "qmark" else statement.replace("?", "%s")


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
    """Position and leaf hash of the ledger's last record; None if it has none."""
    statement = _in_driver_style(_LAST, connection.dialect.paramstyle)
    row = connection.exec_driver_sql(statement, (origin,)).one_or_none()
    return None if row is None else (row.position, row.leaf_hash)


def insert_audit_records(connection: Connection, records: Sequence[AuditRecord]) -> None:
    """Add records. Raises IntegrityError if a position of this origin is taken."""
    rows = [
        (
            r.origin,
            r.position,
            r.body,
            r.leaf_hash,
            r.recorded_at,
            r.action,
            r.outcome,
            r.request_id,
            r.subject,
            r.model_name,
        )
        for r in records
    ]
    connection.exec_driver_sql(_in_driver_style(_INSERT, connection.dialect.paramstyle), rows)


def count_records_from(connection: Connection, origin: str, start: int) -> tuple[int, int | None]:
    """How many records there are from a position on, and the last one's position."""
    statement = _in_driver_style(_COUNT, connection.dialect.paramstyle)
    row = connection.exec_driver_sql(statement, (origin, start)).one()
    return row[0], row[1]


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
    return [audit_record(row) for row in connection.execute(query)]


def list_positions(
    connection: Connection, origin: str, *, after_position: int | None, limit: int
) -> Sequence[int]:
    """Only the positions of what load_audit_records would read."""
    table = audit_records
    query = select(table.c.position).where(table.c.origin == origin)
    if after_position is not None:
        query = query.where(table.c.position > after_position)
    return connection.execute(query.order_by(table.c.position).limit(limit)).scalars().all()


def load_leaf_hashes(
    connection: Connection, origin: str, start: int, end: int
) -> list[tuple[int, bytes]]:
    """Position and leaf hash of the records from start to before end, in order; a gap shows as a missing position."""
    rows = connection.execute(_LEAF_HASHES, {"origin": origin, "start": start, "end": end})
    return [(position, leaf_hash) for position, leaf_hash in rows]


def audit_record(row: Row[tuple[object, ...]]) -> AuditRecord:
    """The record of a whole row. Raises ValueError if a value has another type than its column."""
    values: tuple[Any, ...] = tuple(row)
    record = AuditRecord(*values)
    if (type(record.position), type(record.body), type(record.leaf_hash)) != (int, str, bytes):
        raise ValueError(f"the audit record at position {row.position!r} has values of wrong types")
    return record
