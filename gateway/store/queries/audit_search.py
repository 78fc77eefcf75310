"""SQL that finds records of all ledgers of a database, in the order of their times, ledgers and positions.

Rules: what is found here is only a candidate, since the columns beside the body are copies; pages go on from a key and
never from a number of rows, so that they stay whole while records are added.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import (
    ColumnElement,
    Connection,
    Text,
    and_,
    func,
    literal,
    or_,
    select,
    text,
    tuple_,
)

from gateway.store.queries.audit import audit_record
from gateway.store.records import AuditRecord
from gateway.store.tables import audit_ledgers, audit_records

_COLUMNS = audit_records.c
_KEY = (_COLUMNS.recorded_at, _COLUMNS.origin, _COLUMNS.position)
# A partial index is used only where its own condition stands in the statement, word for word (gateway.store.tables).
_PREDICT = "predict"
_IS_NO_PREDICTION = text("action <> 'predict'")
_RARE_OUTCOMES = ("refused", "failed")
_DID_NOT_SUCCEED = text("outcome IN ('refused', 'failed')")
# The origin is no bare column here for the reason given at _others.
_IS_OF_A_LEDGER = (_COLUMNS.origin + "").in_(select(audit_ledgers.c.origin))


@dataclass(frozen=True, slots=True)
class RecordKey:
    """Where a record stands among those of all ledgers; recorded_at as it is stored."""

    recorded_at: str
    origin: str
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSearch:
    """What a record must say; what is None or empty is not asked for.

    request_ids, subjects: any of these. body_texts: for each of these, any text of it must stand in the body. since,
    until: recorded_at from the one on and before the other, as they are stored.
    """

    is_newest_first: bool
    origin: str | None = None
    request_ids: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    action: str | None = None
    outcome: str | None = None
    body_texts: tuple[tuple[str, ...], ...] = ()
    since: str | None = None
    until: str | None = None

    @property
    def is_indexed(self) -> bool:
        """Whether an index finds the records, so that none is read in vain."""
        is_common = self.action == _PREDICT or self.outcome not in (None, *_RARE_OUTCOMES)
        return not self.body_texts and not is_common and self.origin is None


def find_nth_key(
    connection: Connection, search: RecordSearch, after: RecordKey | None, *, count: int
) -> RecordKey | None:
    """The key of the count-th record behind a key that fits as far as indexes know; None if there are fewer."""
    statement = select(*_KEY).where(*_indexed(search), *_behind(search, after))
    last = statement.order_by(*_order(search)).offset(count - 1).limit(1)
    row = connection.execute(last).one_or_none()
    return None if row is None else RecordKey(row.recorded_at, row.origin, row.position)


def search_records(
    connection: Connection,
    search: RecordSearch,
    after: RecordKey | None,
    *,
    up_to: RecordKey | None = None,
    limit: int,
) -> Sequence[AuditRecord]:
    """The first records behind a key that fit, up to and with another one where it is given; at most limit.

    Raises ValueError if a stored value has another type than its column.
    """
    conditions = [*_indexed(search), *_others(search, connection), *_behind(search, after)]
    if up_to is not None:
        conditions.append(_compared(search, up_to, is_behind=False))
    statement = select(audit_records).where(*conditions).order_by(*_order(search)).limit(limit)
    return [audit_record(row) for row in connection.execute(statement)]


def find_audit_record(connection: Connection, origin: str, position: int) -> AuditRecord | None:
    """The record at a position; None if there is none. Raises ValueError as search_records does."""
    at = (_COLUMNS.origin == origin, _COLUMNS.position == position, _IS_OF_A_LEDGER)
    row = connection.execute(select(audit_records).where(*at)).one_or_none()
    return None if row is None else audit_record(row)


def _indexed(search: RecordSearch) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if search.request_ids:
        conditions.append(_COLUMNS.request_id.in_(search.request_ids))
    if search.subjects:
        conditions.append(_COLUMNS.subject.in_(search.subjects))
    if search.action not in (None, _PREDICT):
        conditions.append(and_(_COLUMNS.action == search.action, _IS_NO_PREDICTION))
    if search.outcome in _RARE_OUTCOMES:
        conditions.append(and_(_COLUMNS.outcome == search.outcome, _DID_NOT_SUCCEED))
    if search.since is not None:
        conditions.append(_COLUMNS.recorded_at >= search.since)
    if search.until is not None:
        conditions.append(_COLUMNS.recorded_at < search.until)
    return conditions


def _others(search: RecordSearch, connection: Connection) -> list[ColumnElement[bool]]:
    # A row beside any ledger proves nothing, and was written by nobody who keeps one.
    conditions: list[ColumnElement[bool]] = [_IS_OF_A_LEDGER]
    if search.origin is not None:
        # Not the column itself: the primary key begins with it, and would have a whole ledger sorted for one page.
        conditions.append(_COLUMNS.origin + "" == search.origin)
    if search.action == _PREDICT:
        conditions.append(_COLUMNS.action == _PREDICT)
    if search.outcome not in (None, *_RARE_OUTCOMES):
        conditions.append(_COLUMNS.outcome == search.outcome)
    # Both tell capitals from small letters and know no wildcards, which LIKE does not.
    place = func.strpos if connection.dialect.name == "postgresql" else func.instr
    conditions += [
        or_(*(place(_COLUMNS.body, literal(part, Text)) > 0 for part in parts))
        for parts in search.body_texts
    ]
    return conditions


def _behind(search: RecordSearch, after: RecordKey | None) -> list[ColumnElement[bool]]:
    if after is None:
        return []
    # The second one follows from the first, and lets indexes that end with the time begin there.
    is_older = _COLUMNS.recorded_at <= after.recorded_at
    is_newer = _COLUMNS.recorded_at >= after.recorded_at
    return [
        _compared(search, after, is_behind=True),
        is_older if search.is_newest_first else is_newer,
    ]


def _compared(search: RecordSearch, key: RecordKey, *, is_behind: bool) -> ColumnElement[bool]:
    columns = tuple_(*_KEY)
    values = tuple_(literal(key.recorded_at), literal(key.origin), literal(key.position))
    if is_behind:
        return columns < values if search.is_newest_first else columns > values
    return columns >= values if search.is_newest_first else columns <= values


def _order(search: RecordSearch) -> list[ColumnElement[object]]:
    return [column.desc() if search.is_newest_first else column.asc() for column in _KEY]
