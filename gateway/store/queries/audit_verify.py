"""SQL for checking a whole ledger: driver statements, which give what is stored, of whatever type it is.

Rules: each reads a bounded part; nothing that it gives is believed. A value that the driver cannot read (text that is
no UTF-8) raises the driver's own error or a ValueError.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.engine.interfaces import DBAPICursor

Rows = list[tuple[Any, ...]]

# Few enough that what was read is still in the processor's cache when it is hashed.
_CHUNK_ROWS = 256
# 256^8 records are more than a position can count.
MAX_LEVEL = 7

_RECORDS = """
SELECT position, body, leaf_hash, recorded_at, action, outcome, request_id, subject, model_name
FROM audit_records WHERE origin = ? AND position >= ? AND position < ? ORDER BY position
"""
_POSITIONS = """
SELECT position FROM audit_records WHERE origin = ? AND position >= ? AND position < ? ORDER BY position
"""
_TIMES = """
SELECT recorded_at, leaf_hash FROM audit_records
WHERE origin = ? AND position >= ? AND position < ? ORDER BY position
"""
_WITH_LEAF = """
SELECT position, body FROM audit_records WHERE origin = ? AND leaf_hash = ? AND position <> ? LIMIT 1
"""
# Text and blobs are above every number in SQLite, so the last one shows whether there is any.
_FIRST = "SELECT position FROM audit_records WHERE origin = ? ORDER BY position LIMIT 1"
_LAST = "SELECT position FROM audit_records WHERE origin = ? ORDER BY position DESC LIMIT 1"
_LAST_NUMBER = """
SELECT position FROM audit_records WHERE origin = ? AND position <= 9223372036854775807
ORDER BY position DESC LIMIT 1
"""
_NODES = """
SELECT number, node_hash FROM audit_nodes
WHERE origin = ? AND level = ? AND number >= ? AND number < ? ORDER BY number
"""
_NODE_BEYOND = """
SELECT level, number FROM audit_nodes WHERE origin = ? AND level = ? AND number >= ? LIMIT 1
"""
# All nodes are few beside the records.
_STRANGE_NODE = """
SELECT level, number FROM audit_nodes
WHERE origin = ? AND (number < 0 OR level NOT IN (1, 2, 3, 4, 5, 6, 7)) LIMIT 1
"""
_CHECKPOINTS = """
SELECT size, {note} FROM audit_checkpoints WHERE origin = ? AND size > ? AND size <= ? ORDER BY size
"""
_FIRST_CHECKPOINT = (
    "SELECT size, {note} FROM audit_checkpoints WHERE origin = ? ORDER BY size LIMIT 1"
)
_LAST_CHECKPOINT = (
    "SELECT size, {note} FROM audit_checkpoints WHERE origin = ? ORDER BY size DESC LIMIT 1"
)
_COSIGNED = "SELECT size, {note} FROM audit_cosignatures WHERE origin = ?"
_VERIFIER = "SELECT {verifier} FROM audit_ledgers WHERE origin = ?"
# One step along the index a name, where DISTINCT would look at every record.
_NEXT_ORIGIN = "SELECT origin FROM {table} WHERE origin > ? ORDER BY origin LIMIT 1"

# As bytes, so that one text that is no UTF-8 does not hide the others; nothing for what is no text.
_TEXT_BYTES = {
    "sqlite": "CASE typeof({0}) WHEN 'text' THEN CAST({0} AS BLOB) END",
    "postgresql": "convert_to({0}, 'UTF8')",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEnds:
    """What stands at both ends of a ledger, all at one moment.

    verifier: the line of its own row in bytes, None without a row. first, last: the positions that sort first and last,
    of any type; size: records there are if none is missing. Checkpoints are (size, note in bytes or None if it is no
    text). node_beyond, strange_node: level and number of one that cannot be.
    """

    has_row: bool
    verifier: bytes | None
    first: object
    last: object
    size: int
    first_checkpoint: tuple[Any, ...] | None
    last_checkpoint: tuple[Any, ...] | None
    cosigned: tuple[Any, ...] | None
    node_beyond: tuple[Any, ...] | None
    strange_node: tuple[Any, ...] | None


def read_ends(connection: Connection, origin: str) -> LedgerEnds:
    """Both ends of a ledger. On PostgreSQL the connection must be at REPEATABLE READ to see one moment."""
    first, last = _one(connection, _FIRST, origin), _one(connection, _LAST, origin)
    last_number = _one(connection, _LAST_NUMBER, origin)
    size = 0 if last_number is None else max(int(last_number[0]) + 1, 0)
    row = _one(connection, _VERIFIER, origin)
    return LedgerEnds(
        has_row=row is not None,
        verifier=None if row is None else row[0],
        first=None if first is None else first[0],
        last=None if last is None else last[0],
        size=size,
        first_checkpoint=_one(connection, _FIRST_CHECKPOINT, origin),
        last_checkpoint=_one(connection, _LAST_CHECKPOINT, origin),
        cosigned=_one(connection, _COSIGNED, origin),
        node_beyond=_find_node_beyond(connection, origin, size),
        strange_node=_one(connection, _STRANGE_NODE, origin),
    )


def read_records(connection: Connection, origin: str, start: int, end: int) -> Iterator[Rows]:
    """The rows with positions from start to before end, in order, some at a time.

    Columns: position, body, leaf_hash, recorded_at, action, outcome, request_id, subject, model_name.
    """
    cursor = _execute(connection, _RECORDS, origin, start, end)
    while rows := cursor.fetchmany(_CHUNK_ROWS):
        yield list(rows)


def read_positions(connection: Connection, origin: str, start: int, end: int) -> Rows:
    """Only the positions of what read_records would read."""
    return list(_execute(connection, _POSITIONS, origin, start, end).fetchall())


def read_times(connection: Connection, origin: str, start: int, end: int) -> Rows:
    """recorded_at and leaf hash of what read_records would read."""
    return list(_execute(connection, _TIMES, origin, start, end).fetchall())


def find_other_with_leaf(
    connection: Connection, origin: str, leaf_hash: bytes, *, position: int
) -> tuple[Any, ...] | None:
    """Position and body of a record with this leaf hash that is not at this position. Reads the whole ledger."""
    return _one(connection, _WITH_LEAF, origin, leaf_hash, position)


def read_nodes(connection: Connection, origin: str, level: int, start: int, end: int) -> Rows:
    """Number and hash of the nodes of a level from start to before end, in order."""
    return list(_execute(connection, _NODES, origin, level, start, end).fetchall())


def read_checkpoints(connection: Connection, origin: str, after: int, up_to: int) -> Rows:
    """Size and note of the checkpoints larger than after and at most up_to, in order."""
    return list(_execute(connection, _CHECKPOINTS, origin, after, up_to).fetchall())


def list_origins(connection: Connection, *, limit: int) -> list[Any]:
    """Every origin that a record, a node, a checkpoint or a row of its own has, at most about limit; of any type."""
    tables = ("audit_ledgers", "audit_records", "audit_checkpoints", "audit_nodes")
    found = {origin for table in tables for origin in _origins_in(connection, table, limit)}
    return sorted(found, key=str)


def list_begun(connection: Connection, *, limit: int) -> list[Any]:
    """Every origin that has a row of its own, at most limit; of any type."""
    return _origins_in(connection, "audit_ledgers", limit)


def _origins_in(connection: Connection, table: str, limit: int) -> list[Any]:
    found: list[Any] = []
    row = _one(connection, _NEXT_ORIGIN.format(table=table), "")
    while row is not None and len(found) < limit:
        found.append(row[0])
        row = _one(connection, _NEXT_ORIGIN.format(table=table), row[0])
    return found


def _find_node_beyond(connection: Connection, origin: str, size: int) -> tuple[Any, ...] | None:
    for level in range(1, MAX_LEVEL + 1):
        found = _one(connection, _NODE_BEYOND, origin, level, size >> (8 * level))
        if found is not None:
            return found
    return None


def _one(connection: Connection, statement: str, *values: object) -> tuple[Any, ...] | None:
    row = _execute(connection, statement, *values).fetchone()
    return None if row is None else tuple(row)


def _execute(connection: Connection, statement: str, *values: object) -> DBAPICursor:
    dialect = connection.dialect
    text = _TEXT_BYTES[dialect.name]
    statement = statement.replace("{note}", text.format("note"))
    statement = statement.replace("{verifier}", text.format("verifier"))
    if dialect.paramstyle != "qmark":
        statement = statement.replace("?", "%s")
    cursor = connection.exec_driver_sql(statement, values).cursor
    if cursor is None:
        raise RuntimeError("internal: a SELECT gave no rows to read")
    return cursor
