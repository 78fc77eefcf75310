"""SQL that reads a ledger to be exported: what is hashed, and nothing that stands beside it."""

from sqlalchemy import Connection, func, select

from gateway.store.tables import audit_records

_COLUMNS = audit_records.c


def load_leaves(
    connection: Connection, origin: str, start: int, end: int
) -> list[tuple[int, object, object]]:
    """Position, body and leaf hash of the records from start to before end, in order; of any type that is stored."""
    query = (
        select(_COLUMNS.position, _COLUMNS.body, _COLUMNS.leaf_hash)
        .where(_COLUMNS.origin == origin)
        .where(_COLUMNS.position >= start, _COLUMNS.position < end)
        .order_by(_COLUMNS.position)
    )
    return [(position, body, leaf_hash) for position, body, leaf_hash in connection.execute(query)]


def find_first_since(connection: Connection, origin: str, since: str) -> int | None:
    """The lowest position of a record of this time or later, as text of the ledger's form; None if there is none."""
    query = select(func.min(_COLUMNS.position)).where(
        _COLUMNS.origin == origin, _COLUMNS.recorded_at >= since
    )
    return connection.execute(query).scalar_one_or_none()
