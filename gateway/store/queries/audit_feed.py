"""SQL for whoever follows the ledgers: where they end, where a moment is, what operators did.

Rules: SQLite stores any type in any column, and whoever can write there may have used that: what is read here is a
number where it says so, or a ValueError; what stands at no number cannot hide what stands at one.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, literal, select, text

from gateway.store.tables import audit_records

# Of 64 bits the largest number but one: the position after a record can be stored as well. Text and blobs are above
# every number in SQLite.
MAX_POSITION = (1 << 63) - 2


def find_end(connection: Connection, origin: str) -> int:
    """The position after a ledger's last record that has a possible position; 0 if it has none."""
    position = audit_records.c.position
    query = (
        select(position)
        .where(audit_records.c.origin == origin, position <= MAX_POSITION)
        .order_by(position.desc())
        .limit(1)
    )
    last = connection.execute(query).scalar_one_or_none()
    return 0 if last is None else max(int(last) + 1, 0)


def has_misplaced(connection: Connection, origin: str) -> bool:
    """Whether a record stands before position 0 or above MAX_POSITION, which what is not a number does."""
    position = audit_records.c.position
    conditions = (position < 0, position > MAX_POSITION)
    # One step along the index each.
    queries = (
        select(literal(1)).where(audit_records.c.origin == origin, condition).limit(1)
        for condition in conditions
    )
    return any(connection.execute(query).one_or_none() is not None for query in queries)


def load_bodies(
    connection: Connection, origin: str, *, from_position: int, limit: int
) -> list[tuple[int, str]]:
    """Position and body of the records from a position on, in order, at most limit.

    Raises ValueError if one of them has another type (SQLite does not enforce types).
    """
    table = audit_records
    query = (
        select(table.c.position, table.c.body)
        .where(
            table.c.origin == origin,
            table.c.position >= from_position,
            table.c.position <= MAX_POSITION,
        )
        .order_by(table.c.position)
        .limit(limit)
    )
    rows = [(position, body) for position, body in connection.execute(query).all()]
    for position, body in rows:
        if type(position) is not int or type(body) is not str:
            raise ValueError(f"the audit record at position {position!r} has values of wrong types")
    return rows


def load_positions(
    connection: Connection, origin: str, *, from_position: int, limit: int
) -> list[float]:
    """Only the positions of what load_bodies would read; some may be no whole numbers."""
    position = audit_records.c.position
    query = (
        select(position)
        .where(
            audit_records.c.origin == origin, position >= from_position, position <= MAX_POSITION
        )
        .order_by(position)
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def find_record_from(connection: Connection, origin: str, position: int) -> tuple[int, str] | None:
    """Position and time (text, see AuditRecord) of the first record from a position on; None if there is none.

    Raises ValueError if a stored value has another type than its column.
    """
    table = audit_records
    query = (
        select(table.c.position, table.c.recorded_at)
        .where(
            table.c.origin == origin,
            table.c.position >= position,
            table.c.position <= MAX_POSITION,
        )
        .order_by(table.c.position)
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    if type(row.position) is not int or type(row.recorded_at) is not str:
        raise ValueError(f"the audit record at position {row.position!r} has values of wrong types")
    return row.position, row.recorded_at


def find_position_since(connection: Connection, origin: str, recorded_at: str, *, end: int) -> int:
    """A position before end from which on records are not older than a time, where clocks never went back.

    recorded_at: as in AuditRecord. end: a position, not necessarily taken. By halving: a ledger of a billion records
    takes 30 looks, none of which is a scan. Raises ValueError as find_record_from does.
    """
    low, high = 0, end
    while low < high:
        middle = (low + high) // 2
        found = find_record_from(connection, origin, middle)
        if found is None or found[0] >= high or found[1] >= recorded_at:
            high = middle
        else:
            low = found[0] + 1
    return low


def load_bodies_of_actions(
    connection: Connection,
    actions: Sequence[str],
    *,
    limit: int,
    span: tuple[str, int, int] | None = None,
) -> list[tuple[str, int, str]]:
    """Origin, position and body of the newest records of rare actions in all ledgers, oldest first, at most limit.

    actions: without `predict`. span: of this ledger alone, from the first position to before the second. Raises
    ValueError if a stored value has another type than its column.
    """
    table = audit_records
    query = (
        # Word for word as the partial index has it (gateway.store.tables), or SQLite does not use it.
        select(table.c.origin, table.c.position, table.c.body)
        .where(text("action <> 'predict'"), table.c.action.in_(actions))
        .order_by(table.c.recorded_at.desc())
        .limit(limit)
    )
    if span is not None:
        origin, start, end = span
        query = query.where(
            table.c.origin == origin, table.c.position >= start, table.c.position < end
        )
    rows = [tuple(row) for row in connection.execute(query)]
    if any([*map(type, row)] != [str, int, str] for row in rows):
        raise ValueError("an audit record has values of wrong types")
    return rows[::-1]
