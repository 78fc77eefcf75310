"""SQL over quota_counters: numbers that count up to a limit and end at a time, shared by every gateway.

Rules: whether something is still allowed and that it was counted is one statement, so that two gateways at the same
moment never grant more than one of them would; times are the caller's, in seconds since 1970 UTC.
"""

from typing import Any

from sqlalchemy import BindParameter, Connection, bindparam, case, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from gateway.store.tables import quota_counters

_OLD = quota_counters.c
_HAS_ENDED = _OLD.ends_at_seconds <= bindparam("now_seconds")
_COUNT_AFTER = case((_HAS_ENDED, 0), else_=_OLD.count) + bindparam("amount")
_END: BindParameter[float] = bindparam("new_end_seconds")
_ROW: dict[str, Any] = {
    "key": bindparam("new_key"),
    "count": bindparam("amount"),
    "ends_at_seconds": _END,
}
_CHANGE: dict[str, Any] = {
    "count": _COUNT_AFTER,
    "ends_at_seconds": case((_HAS_ENDED, _END), else_=_OLD.ends_at_seconds),
}
_IS_WITHIN = bindparam("limit") >= _COUNT_AFTER
_COUNT_UP = {
    "postgresql": postgresql.insert(quota_counters)
    .values(_ROW)
    .on_conflict_do_update(index_elements=[_OLD.key], set_=_CHANGE, where=_IS_WITHIN)
    .returning(_OLD.count),
    "sqlite": sqlite.insert(quota_counters)
    .values(_ROW)
    .on_conflict_do_update(index_elements=[_OLD.key], set_=_CHANGE, where=_IS_WITHIN)
    .returning(_OLD.count),
}


def count_up(
    connection: Connection,
    key: str,
    *,
    amount: int,
    limit: int,
    now_seconds: float,
    ends_at_seconds: float,
) -> int | None:
    """Add amount and give the new count; None, and nothing counted, where that would be more than limit.

    A counter that has ended begins anew with amount and ends at ends_at_seconds; one that has not keeps its end.
    """
    if amount > limit:  # The first of a counter meets no condition in the statement.
        return None
    values = {
        "new_key": key,
        "amount": amount,
        "limit": limit,
        "now_seconds": now_seconds,
        "new_end_seconds": ends_at_seconds,
    }
    counted: int | None = connection.execute(_COUNT_UP[connection.dialect.name], values).scalar()
    return counted


def find_count(connection: Connection, key: str, *, now_seconds: float) -> int:
    """The count of a counter; 0 if there is none, or if it has ended."""
    query = select(_OLD.count).where(_OLD.key == key, _OLD.ends_at_seconds > now_seconds)
    return connection.execute(query).scalar() or 0


def delete_ended_counters(connection: Connection, *, now_seconds: float, at_most: int) -> int:
    """Delete counters that have ended, the longest ago first; how many there were.

    Rows that another gateway is just counting with or deleting are left to it (PostgreSQL), so that nobody waits.
    """
    has_ended = _OLD.ends_at_seconds <= now_seconds
    ended = select(_OLD.key).where(has_ended).order_by(_OLD.ends_at_seconds).limit(at_most)
    doomed = ended.with_for_update(skip_locked=True)
    return connection.execute(delete(quota_counters).where(_OLD.key.in_(doomed))).rowcount
