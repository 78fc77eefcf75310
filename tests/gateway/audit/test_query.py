"""Searching ledgers: filters, order and pages, on both databases."""

import itertools
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, delete, update

from gateway.audit import query as query_module
from gateway.audit.events import Action, Outcome
from gateway.audit.query import (
    LedgerQuery,
    Page,
    parse_query,
    read_page,
)
from gateway.audit.query_cursors import QueryInvalidError
from gateway.errors import Code, LedgerError
from gateway.store.queries.audit_search import RecordSearch, search_records
from gateway.store.tables import audit_records
from tests.gateway.audit.stored_events import event, store_events

NOW = datetime(2031, 5, 6, 1, tzinfo=UTC)
REFUSED = {"outcome": Outcome.REFUSED, "code": Code.AUTHZ_DENIED}
EVENTS = [
    event(0, request_id="r-0", issuer="https://a.example", subject="camera-7", client_id="c"),
    event(1, request_id="r-0", subject="camera-7", outcome=Outcome.ANSWERED, model_name="belt"),
    event(2, request_id="r-1", subject="camera-8", model_name="belt", model_version="2"),
    event(3, request_id="r_2", subject="camera-7", address="192.0.2.7", **REFUSED),
    event(4, request_id="R-0", action=Action.MODELS_PROMOTE, model_name="belt", model_version="2"),
    event(5, outcome=Outcome.FAILED, code=Code.INTERNAL, reason='"subject":"camera-9"'),
    event(6, subject="a\x1bb\\", client_id="Ünal", issuer="https://b.example"),
]


def same(_name: str, text: str) -> tuple[str, ...]:
    """No pseudonyms."""
    return (text,)


def asked(values: Mapping[str, str], forms: Callable[..., tuple[str, ...]] = same) -> LedgerQuery:
    """The query of these parameters."""
    return parse_query(values, now=NOW, forms=forms)


def page_of(engine: Engine, **values: str) -> Page:
    """The page of these parameters, however long it takes."""
    with engine.connect() as connection:
        return read_page(connection, asked(values), is_out_of_time=lambda: False)


def found(engine: Engine, **values: str) -> list[int]:
    """The positions of what these parameters find, the oldest first."""
    return [record.position for record in page_of(engine, order="oldest", **values).records]


def everything(engine: Engine, **values: str) -> list[tuple[str, int]]:
    """What all pages of a query hold, in their order."""
    places: list[tuple[str, int]] = []
    page = page_of(engine, **values)
    while True:
        places += [(record.origin, record.position) for record in page.records]
        if page.next_cursor is None:
            return places
        page = page_of(engine, **values, cursor=page.next_cursor)


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """One ledger with EVENTS."""
    store_events(engine, EVENTS)
    return engine


FILTERS: list[tuple[dict[str, str], list[int]]] = [
    ({}, [0, 1, 2, 3, 4, 5, 6]),
    ({"request_id": "r-0"}, [0, 1]),
    ({"request_id": "r_2"}, [3]),
    ({"request_id": "r-2"}, []),
    ({"subject": "camera-7"}, [0, 1, 3]),
    ({"subject": "Camera-7"}, []),
    ({"subject": "camera-9"}, []),
    ({"subject": "camera"}, []),
    ({"subject": "a\x1bb\\"}, [6]),
    ({"subject": "a\\x1bb\\\\"}, [6]),
    ({"issuer": "https://a.example"}, [0]),
    ({"issuer": "https://A.example"}, []),
    ({"issuer": "https://%.example"}, []),
    ({"client_id": "c"}, [0]),
    ({"client_id": "Ünal"}, [6]),
    ({"address": "192.0.2.7"}, [3]),
    ({"address": "192.0.2"}, []),
    ({"model": "belt"}, [1, 2, 4]),
    ({"model": "belt@2"}, [2, 4]),
    ({"model": "belt@3"}, []),
    ({"action": "models.promote"}, [4]),
    ({"action": "predict"}, [0, 1, 2, 3, 5, 6]),
    ({"action": "audit.read"}, []),
    ({"outcome": "admitted"}, [0, 2, 4, 6]),
    ({"outcome": "answered"}, [1]),
    ({"outcome": "refused"}, [3]),
    ({"outcome": "failed"}, [5]),
    ({"code": "authz_denied"}, [3]),
    ({"code": "internal", "outcome": "failed"}, [5]),
    ({"code": "internal", "outcome": "refused"}, []),
    ({"origin": "gateway"}, [0, 1, 2, 3, 4, 5, 6]),
    ({"origin": "gate"}, []),
    ({"since": "2031-05-06T00:00:03Z"}, [3, 4, 5, 6]),
    ({"since": "2031-05-06T02:00:03+02:00"}, [3, 4, 5, 6]),
    ({"since": "2031-05-06T00:00:03.000001Z"}, [4, 5, 6]),
    ({"until": "2031-05-06T00:00:03Z"}, [0, 1, 2]),
    ({"since": "3598s"}, [2, 3, 4, 5, 6]),
    ({"since": "1h", "until": "3598s"}, [0, 1]),
    ({"subject": "camera-7", "outcome": "refused"}, [3]),
    ({"subject": "camera-7", "client_id": "c", "action": "predict", "since": "1h"}, [0]),
    ({"subject": "camera-7", "request_id": "r-1"}, []),
]


def test_filters_find_exactly_what_they_say(filled: Engine) -> None:
    """No capital for a small letter, no part of a text, no wildcard, no text of another member."""
    for values, positions in FILTERS:
        assert (values, positions) == (values, found(filled, **values))


def test_a_record_comes_whole(filled: Engine) -> None:
    """As its body says."""
    (record,) = page_of(filled, address="192.0.2.7").records
    assert ("gateway", 3) == (record.origin, record.position)
    assert record.members == json.loads(record.body)
    assert ("camera-7", "authz_denied") == (record.members["subject"], record.members["code"])


def test_the_newest_come_first_unless_asked_otherwise(filled: Engine) -> None:
    """And limit counts from there."""
    assert [6, 5] == [r.position for r in page_of(filled, limit="2").records]
    assert [0, 1] == [r.position for r in page_of(filled, limit="2", order="oldest").records]


def test_ledgers_are_spanned_in_the_order_of_time(engine: Engine) -> None:
    """Where times are equal, by ledger and position; in one direction as in the other."""
    store_events(engine, [event(1), event(1), event(4)], "b")
    store_events(engine, [event(0), event(1), event(3), event(4)], "a")
    oldest_first = [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("a", 2), ("a", 3), ("b", 2)]
    assert oldest_first == everything(engine, order="oldest")
    assert oldest_first[::-1] == everything(engine)
    assert [("b", 0), ("b", 1), ("b", 2)] == everything(engine, order="oldest", origin="b")


@pytest.mark.parametrize(
    "filters", [{}, {"action": "predict"}, {"subject": "s"}, {"outcome": "refused"}]
)
def test_pages_together_are_the_whole(engine: Engine, filters: dict[str, str]) -> None:
    """Nothing twice and nothing left out, where times are equal too, whatever the filter and its index."""
    for origin in ("a", "b"):
        store_events(
            engine, [event(n // 3, subject="s", outcome=Outcome.REFUSED) for n in range(7)], origin
        )
    for order, limit in itertools.product(("newest", "oldest"), ("1", "2", "3", "7")):
        whole = everything(engine, order=order, **filters)
        assert 14 == len(set(whole))
        assert whole == everything(engine, order=order, limit=limit, **filters)


def test_pages_stay_as_they_are_while_records_are_added(filled: Engine) -> None:
    """The newest first: what comes later is before the first page."""
    first = page_of(filled, limit="3")
    store_events(filled, [event(3), event(9)])
    second = page_of(filled, limit="3", cursor=str(first.next_cursor))
    third = page_of(filled, limit="3", cursor=str(second.next_cursor))
    pages = [[r.position for r in page.records] for page in (first, second, third)]
    # The one that was recorded with an earlier time stands where its time says.
    assert [[6, 5, 4], [7, 3, 2], [1, 0]] == pages
    assert third.next_cursor is None


def test_relative_times_go_by_the_first_page(filled: Engine) -> None:
    """What is "the last hour" does not move between two pages."""
    first = page_of(filled, limit="1", since="3598s", order="oldest")
    later = parse_query(
        {"limit": "9", "since": "3598s", "order": "oldest", "cursor": str(first.next_cursor)},
        now=NOW + timedelta(hours=5),
        forms=same,
    )
    with filled.connect() as connection:
        page = read_page(connection, later, is_out_of_time=lambda: False)
    assert [3, 4, 5, 6] == [record.position for record in page.records]


def test_a_cursor_of_other_filters_is_refused(filled: Engine) -> None:
    """A page of one query is no page of another; how many are wanted may change."""
    cursor = str(page_of(filled, limit="1", subject="camera-7").next_cursor)
    page_of(filled, limit="2", subject="camera-7", cursor=cursor)
    for values in (
        {},
        {"subject": "camera-8"},
        {"subject": "camera-7", "order": "oldest"},
        {"subject": "camera-7", "order": "newest"},
        {"subject": "camera-7", "outcome": "refused"},
    ):
        with pytest.raises(QueryInvalidError, match="it is of other filters"):
            asked({**values, "cursor": cursor})


@pytest.mark.parametrize("filters", [{"code": "authz_denied"}, {"origin": "gateway"}])
def test_a_page_that_runs_out_of_time_goes_on_later(
    filled: Engine, monkeypatch: pytest.MonkeyPatch, filters: dict[str, str]
) -> None:
    """Where no index helps a page reads a part, says where it stopped, and loses nothing."""
    monkeypatch.setattr(query_module, "_CHUNK_RECORDS", 2)
    for order in ("newest", "oldest"):
        values = {"order": order, **filters}
        positions, pages = [], 0
        while pages == 0 or "cursor" in values:
            with filled.connect() as connection:
                page = read_page(connection, asked(values), is_out_of_time=lambda: True)
            positions += [record.position for record in page.records]
            pages += 1
            values.pop("cursor", None)
            values |= {} if page.next_cursor is None else {"cursor": page.next_cursor}
        assert 4 == pages
        assert found(filled, **filters) == sorted(positions)


def test_chunks_do_not_show(filled: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are read at a time."""
    for chunk, limit in itertools.product((1, 2, 3, 7, 8), ("1", "2", "9")):
        monkeypatch.setattr(query_module, "_CHUNK_RECORDS", chunk)
        places = everything(filled, limit=limit, action="predict", order="oldest")
        assert [0, 1, 2, 3, 5, 6] == [position for _, position in places]


def test_what_stands_beside_a_body_shows_no_other_record(filled: Engine) -> None:
    """Somebody moved a record under another principal in the table: it is shown to nobody."""
    with filled.begin() as connection:
        at = audit_records.c.position == 2
        connection.execute(update(audit_records).where(at).values(subject="camera-7"))
    with pytest.raises(LedgerError, match="record 2 of gateway was changed") as caught:
        page_of(filled, subject="camera-7")
    assert Code.LEDGER_BROKEN is caught.value.code
    assert "`gateway audit verify`" in caught.value.message


def test_the_body_decides_whatever_the_statement_found(
    filled: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database gives more than it was asked for: none of that is shown."""

    def search_all(connection: Connection, search: RecordSearch, *places: Any, **rest: Any) -> Any:
        everything = RecordSearch(is_newest_first=search.is_newest_first)
        return search_records(connection, everything, *places, **rest)

    monkeypatch.setattr(query_module, "search_records", search_all)
    for values, positions in FILTERS:
        if not {"origin", "since", "until"} & values.keys():
            assert (values, positions) == (values, found(filled, **values))


@pytest.mark.parametrize(
    "values",
    [
        {"body": "{"},
        {"body": "[]"},
        {"leaf_hash": b"\x07" * 32},
        {"recorded_at": "2031-05-06T00:00:00.500000Z"},
        {"action": "predict"},
        {"outcome": "answered"},
        {"request_id": "r-9"},
        {"model_name": None},
        {"position": -1},
    ],
)
def test_a_record_that_was_changed_points_at_the_check(
    sqlite_engine: Engine, values: dict[str, Any]
) -> None:
    """Body, hash, or any copy."""
    store_events(sqlite_engine, EVENTS)
    with sqlite_engine.begin() as connection:
        at = audit_records.c.position == 4
        connection.execute(update(audit_records).where(at).values(**values))
    with pytest.raises(
        LedgerError, match="was changed or cannot be read: `gateway audit verify`"
    ) as caught:
        page_of(sqlite_engine)
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("origin", ["'a.'", "'a b'", "x'ff'"])
def test_a_record_of_no_ledger_is_not_shown(sqlite_engine: Engine, origin: str) -> None:
    """Whoever writes to the table can invent one that looks like another."""
    store_events(sqlite_engine, EVENTS)
    with sqlite_engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE audit_records SET origin={origin} WHERE position=4")
    shown = {record.position for record in page_of(sqlite_engine).records}
    assert 4 not in shown
    assert 3 in shown


@pytest.mark.parametrize("column", ["body", "position", "recorded_at", "action"])
def test_values_of_other_types_point_at_the_check(sqlite_engine: Engine, column: str) -> None:
    """SQLite stores any type in any column; in chunks as in a whole page."""
    store_events(sqlite_engine, EVENTS)
    with sqlite_engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE audit_records SET {column}=x'ff' WHERE position=4")
    cases: tuple[dict[str, str], ...] = ({}, {"action": "predict"})
    for values in cases:
        try:
            page = page_of(sqlite_engine, **values)
        except LedgerError:
            continue
        # By its copy it is no prediction.
        assert {"action": "predict"} == values
        assert 4 not in {record.position for record in page.records}


@pytest.mark.parametrize("column", ["recorded_at", "origin"])
def test_no_chunk_ends_at_a_changed_record(
    sqlite_engine: Engine, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    """No cursor could hold its key."""
    monkeypatch.setattr(query_module, "_CHUNK_RECORDS", 1)
    store_events(sqlite_engine, EVENTS)
    with sqlite_engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE audit_records SET {column}='z z' WHERE position=4")
    with pytest.raises(LedgerError):
        everything(sqlite_engine, code="model_conflict", order="oldest")


def test_pseudonyms_and_names_of_before_are_found(engine: Engine) -> None:
    """A name is looked for in every form in which it may stand."""
    store_events(
        engine,
        [
            event(0, subject="camera-7", client_id="c"),
            event(1, subject="~7", client_id="~c", pseudonymised="subject,client_id"),
            event(2, subject="~8", client_id="~d", pseudonymised="subject,client_id"),
        ],
    )
    forms = {("subject", "camera-7"): ("~7", "camera-7"), ("client_id", "c"): ("~c", "c")}
    for name, text in forms:
        searched = asked({name: text, "order": "oldest"}, lambda n, t: forms[n, t])
        with engine.connect() as connection:
            page = read_page(connection, searched, is_out_of_time=lambda: False)
        assert [0, 1] == [record.position for record in page.records]


def test_an_empty_database_has_no_records(engine: Engine) -> None:
    """And no next page."""
    assert Page((), None) == page_of(engine)
    assert Page((), None) == page_of(engine, code="internal")


def test_a_ledger_that_was_emptied_meanwhile_ends(filled: Engine) -> None:
    """A cursor behind the last record finds none."""
    cursor = str(page_of(filled, limit="1").next_cursor)
    with filled.begin() as connection:
        connection.execute(delete(audit_records))
    assert Page((), None) == page_of(filled, cursor=cursor)
