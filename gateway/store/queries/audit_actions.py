"""SQL over the records of one action, which must be a rare one."""

from collections.abc import Sequence

from sqlalchemy import Connection, select, text

from gateway.store.tables import audit_records


def load_bodies_of_action(
    connection: Connection, origin: str, action: str, *, limit: int
) -> Sequence[str]:
    """The bodies of the newest records of an action other than predict, the newest first, at most limit."""
    table = audit_records
    query = (
        select(table.c.body)
        .where(table.c.origin == origin, table.c.action == action)
        # Word for word as in the partial index (gateway.store.tables), or SQLite does not use it.
        .where(text("action <> 'predict'"))
        .order_by(table.c.recorded_at.desc())
        .limit(limit)
    )
    return connection.execute(query).scalars().all()
