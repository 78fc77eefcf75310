"""Which index finds what is searched for, and records by their place; test_query tests what is found."""

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from gateway.store.queries.audit_search import (
    RecordKey,
    RecordSearch,
    find_audit_record,
    find_nth_key,
    search_records,
)
from tests.gateway.audit.stored_events import event as audit_event
from tests.gateway.audit.stored_events import store_events

KEY = RecordKey("2031-05-06T00:00:01.000000Z", "gateway", 1)
BY_TIME = "ix_audit_records_recorded_at"
CASES: list[tuple[dict[str, Any], str]] = [
    ({}, BY_TIME),
    ({"since": "2031-05-06T00:00:00.000000Z", "until": "2031-05-07T00:00:00.000000Z"}, BY_TIME),
    ({"request_ids": ("r",)}, "ix_audit_records_request_id"),
    ({"subjects": ("s",)}, "ix_audit_records_subject"),
    ({"subjects": ("s",), "action": "predict"}, "ix_audit_records_subject"),
    ({"action": "models.promote"}, "ix_audit_records_action"),
    ({"action": "predict"}, BY_TIME),
    ({"outcome": "refused"}, "ix_audit_records_outcome"),
    ({"outcome": "failed", "body_texts": (("x",),)}, "ix_audit_records_outcome"),
    ({"outcome": "answered"}, BY_TIME),
    ({"origin": "gateway"}, BY_TIME),
    ({"body_texts": (("x", "y"), ("z",))}, BY_TIME),
]


def plan(connection: Connection, search: RecordSearch, after: RecordKey | None) -> str:
    """How the database finds what is searched for, in its own words."""
    asked: list[tuple[str, Any]] = []

    def listen(_c: Any, _cursor: Any, statement: str, values: Any, *_rest: Any) -> None:
        asked.append((statement, values))

    event.listen(connection, "before_cursor_execute", listen)
    search_records(connection, search, after, up_to=after, limit=3)
    find_nth_key(connection, search, after, count=3)
    event.remove(connection, "before_cursor_execute", listen)
    is_sqlite = connection.dialect.name == "sqlite"
    explain = "EXPLAIN QUERY PLAN" if is_sqlite else "EXPLAIN"
    lines: list[str] = []
    for statement, values in asked:
        rows: Sequence[Any] = connection.exec_driver_sql(f"{explain} {statement}", values).all()
        lines += [str(row[-1]) for row in rows]
    return "\n".join(lines)


@pytest.mark.parametrize("is_newest_first", [True, False])
def test_each_search_goes_by_its_index(engine: Engine, is_newest_first: bool) -> None:
    """Partial indexes too, whose condition must stand in the statement; no ledger is sorted for a page of it."""
    events = [audit_event(n, subject=f"s{n}", request_id=f"r{n}") for n in range(300)]
    store_events(engine, events)
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            # So small a table is read as a whole otherwise.
            connection.exec_driver_sql("SET enable_seqscan = off")
        for members, index in CASES:
            search = RecordSearch(is_newest_first=is_newest_first, **members)
            for after in (None, KEY):
                told = plan(connection, search, after)
                assert index in told, (members, told)
                assert "SCAN audit_records\n" not in told
                is_sorted = "TEMP B-TREE FOR ORDER BY" in told
                assert is_sorted is (engine.dialect.name == "sqlite" and "request_ids" in members)


def test_a_record_is_found_by_its_place(engine: Engine) -> None:
    """In its ledger; none elsewhere."""
    store_events(engine, [audit_event(0, subject="a"), audit_event(1, subject="b")])
    with engine.connect() as connection:
        found = find_audit_record(connection, "gateway", 1)
        assert found is not None
        assert ("gateway", 1, "b") == (found.origin, found.position, found.subject)
        assert find_audit_record(connection, "gateway", 2) is None
        assert find_audit_record(connection, "gateway", (1 << 63) - 1) is None
        assert find_audit_record(connection, "other", 1) is None


def test_the_nth_key_is_that_of_the_nth_record(engine: Engine) -> None:
    """Behind a key, in either direction; none where there are fewer."""
    store_events(engine, [audit_event(n) for n in range(5)])
    with engine.connect() as connection:
        for is_newest_first, second, behind in ((True, 3, 2), (False, 1, 4)):
            search = RecordSearch(is_newest_first=is_newest_first)
            key = find_nth_key(connection, search, None, count=2)
            assert key == RecordKey(f"2031-05-06T00:00:0{second}.000000Z", "gateway", second)
            middle = RecordKey("2031-05-06T00:00:03.000000Z", "gateway", 3)
            further = find_nth_key(connection, search, middle, count=1)
            assert further is not None
            assert behind == further.position
            assert find_nth_key(connection, search, None, count=6) is None
