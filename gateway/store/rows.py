"""Fetching rows of which some cannot be read: SQLite stores any bytes as a text and any text as a time.

Rules: one such row hides no other; what it holds is in no message. PostgreSQL takes no such
values.
"""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, Integer, Row, Select, bindparam, literal_column
from sqlalchemy.exc import OperationalError

# Every table of ours has it, that of samples as its id.
_ROW_ID = literal_column("rowid", Integer)
# The sqlite3 module's own words, before the name of the column and what it holds.
_UNDECODABLE = "Could not decode to UTF-8"

OnBadRow = Callable[[int], None]


def fetch_rows(
    connection: Connection,
    query: Select[Any],
    parameters: Mapping[str, object] | None = None,
    *,
    on_bad_row: OnBadRow,
) -> list[Row[Any]]:
    """The rows of a query over one table that can be read, in its order.

    on_bad_row: called with the number of each row that cannot. Raises SQLAlchemyError for anything else.
    """
    values = dict(parameters or {})
    try:
        return list(connection.execute(query, values))
    except (OperationalError, ValueError, TypeError, OverflowError) as exc:
        if connection.dialect.name != "sqlite" or not is_unreadable(exc):
            raise
    fetched: list[Row[Any]] = []
    ids = query.with_only_columns(_ROW_ID, maintain_column_froms=True)
    one = query.where(bindparam("of_row_id", type_=Integer) == _ROW_ID)
    for row_id in connection.execute(ids, values).scalars().all():
        try:
            fetched += list(connection.execute(one, {**values, "of_row_id": row_id}))
        except (OperationalError, ValueError, TypeError, OverflowError) as exc:
            if not is_unreadable(exc):
                raise
            on_bad_row(row_id)
    return fetched


def is_unreadable(exc: Exception) -> bool:
    """Whether what a row holds failed to be read, and not the database."""
    if isinstance(exc, OperationalError):
        return str(exc.orig).startswith(_UNDECODABLE)
    return isinstance(exc, ValueError | TypeError | OverflowError)
