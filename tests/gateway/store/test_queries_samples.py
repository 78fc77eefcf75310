"""SQL over samples and sample_images, on both databases."""

import dataclasses
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy import Connection, Engine, event, func, select, text, update
from sqlalchemy.exc import DataError

from gateway.store.embeddings import pack_embedding
from gateway.store.queries.samples import (
    count_samples_after,
    find_sealed_image,
    insert_samples,
    latest_sample_id,
    list_principals,
    list_principals_by_ids,
    list_sample_ids_after,
    load_samples_after,
    load_samples_between,
    load_samples_by_ids,
    load_window,
)
from gateway.store.records import Sample, SampleMode, SealedImage
from gateway.store.tables import samples

MOMENT = datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)

EMBEDDING = pack_embedding(np.arange(-2, 3, dtype=np.float32))


def sample(number: int, **changes: object) -> Sample:
    """A sample of model m version 1, received number seconds after MOMENT."""
    plain = Sample(
        request_id=f"request-{number}",
        received_at=MOMENT + timedelta(seconds=number),
        model_name="m",
        model_version="1",
        principal="issuer|subject é",
        input_sha256="ab" * 32,
        features={"brightness": 0.1 + 0.2, "mean_confidence": None},
        detections=((3, 0.25, 1.0, 2.5, 3.0, 4.0), (0, 0.125, 0.0, 0.0, 1.0, 1.0)),
        kept_probability=0.1,
        image_probability=0.01,
        source="cam-3",
        embedding=EMBEDDING,
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]  # any field, by name


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """Ten samples of model m version 1, and one of version 2 between them."""
    with engine.begin() as connection:
        insert_samples(connection, [sample(number) for number in range(6)])
        insert_samples(connection, [sample(99, model_version="2")])
        insert_samples(connection, [sample(number) for number in range(6, 10)])
    return engine


def numbers(loaded: object) -> list[str]:
    """The request ids of stored samples."""
    return [stored.sample.request_id for stored in loaded]  # type: ignore[attr-defined]


def test_principals_of_the_newest_samples_are_listed_once(filled: Engine) -> None:
    """Of one version, of so many rows; or of samples by their ids."""
    with filled.begin() as connection:
        insert_samples(connection, [sample(20, principal="a"), sample(21, principal="b")])
        insert_samples(connection, [sample(22, principal="c", model_version="2")])
        newest = latest_sample_id(connection, "m", "1")
        assert frozenset({"b"}) == list_principals(connection, "m", "1", newest=1)
        every = frozenset({"a", "b", "issuer|subject é"})
        assert every == list_principals(connection, "m", "1", newest=100)
        assert frozenset() == list_principals(connection, "m", "3", newest=100)
        assert frozenset({"b", "c"}) == list_principals_by_ids(
            connection, [newest, newest + 1, newest + 2, *range(-2_000, 0)]
        )


def test_a_principal_that_cannot_be_read_hides_no_other(sqlite_engine: Engine) -> None:
    """Names are asked for beside everything else that a command shows."""
    with sqlite_engine.begin() as connection:
        insert_samples(connection, [sample(0, principal="a"), sample(1)])
        connection.execute(text("UPDATE samples SET principal = CAST(x'ff' AS TEXT) WHERE id = 2"))
        assert frozenset({"a"}) == list_principals(connection, "m", "1", newest=9)
        assert frozenset({"a"}) == list_principals_by_ids(connection, [1, 2])


def test_samples_come_back_as_they_were(engine: Engine) -> None:
    """Every number, name and time survives; the image stays behind."""
    image = SealedImage("key-1", b"\x00sealed")
    with engine.begin() as connection:
        insert_samples(connection, [sample(0, sealed_image=image)])
        loaded = load_window(connection, "m", "1", newest=10)
    assert [stored.sample for stored in loaded] == [sample(0)]


def test_a_sample_without_source_and_embedding_comes_back_without(engine: Engine) -> None:
    """Neither is known of samples that an older gateway stored."""
    plain = sample(0, source=None, embedding=None)
    with engine.begin() as connection:
        insert_samples(connection, [plain])
        loaded = load_window(connection, "m", "1", newest=10)
    assert [stored.sample for stored in loaded] == [plain]


def test_an_embedding_that_is_none_is_not_stored(engine: Engine) -> None:
    """Its row could never be read again."""
    with engine.connect() as connection, pytest.raises(ValueError, match="embedding"):
        insert_samples(connection, [sample(0, embedding=b"\x00")])


def test_images_are_found_by_their_request(engine: Engine) -> None:
    """An image is read alone, by whoever may open it."""
    image = SealedImage("key-1", b"\x00sealed")
    with engine.begin() as connection:
        insert_samples(connection, [sample(0, sealed_image=image), sample(1)])
        assert find_sealed_image(connection, "request-0") == image
        assert find_sealed_image(connection, "request-1") is None


def test_window_is_the_newest_in_order(filled: Engine) -> None:
    """Of one model version alone, oldest first."""
    with filled.connect() as connection:
        window = load_window(connection, "m", "1", newest=3)
        assert numbers(window) == ["request-7", "request-8", "request-9"]
        assert [stored.id for stored in window] == sorted(stored.id for stored in window)
        assert numbers(load_window(connection, "m", "2", newest=3)) == ["request-99"]
        assert numbers(load_window(connection, "other", "1", newest=3)) == []


def test_window_can_leave_out_what_is_older(filled: Engine) -> None:
    """since belongs to the window itself."""
    with filled.connect() as connection:
        window = load_window(connection, "m", "1", newest=9, since=MOMENT + timedelta(seconds=8))
    assert numbers(window) == ["request-8", "request-9"]


def test_reading_continues_after_an_id(filled: Engine) -> None:
    """Page by page, everything is read once."""
    with filled.connect() as connection:
        first = load_samples_after(connection, "m", "1", after_id=0, limit=7)
        second = load_samples_after(connection, "m", "1", after_id=first[-1].id, limit=7)
    assert numbers([*first, *second]) == [f"request-{number}" for number in range(10)]


def test_bad_rows_after_an_id_are_told_and_count(filled: Engine) -> None:
    """A page of bad rows is a page: the reader goes on after them."""
    bad: list[int] = []
    with filled.begin() as connection:
        connection.execute(
            update(samples).where(samples.c.request_id == "request-1").values(features="[]")
        )
        loaded = load_samples_after(
            connection, "m", "1", after_id=0, limit=3, on_bad_row=bad.append
        )
    assert numbers(loaded) == ["request-0", "request-2"]
    assert len(bad) == 1


def test_ids_are_listed_whatever_their_rows_hold(filled: Engine) -> None:
    """Of one model version, in order; the samples behind them are read by these ids."""
    bad: list[int] = []
    with filled.begin() as connection:
        connection.execute(
            update(samples).where(samples.c.request_id == "request-5").values(features="[]")
        )
        ids = list_sample_ids_after(connection, "m", "1", after_id=0, limit=99)
        page = list_sample_ids_after(connection, "m", "1", after_id=ids[4], limit=2)
        loaded = load_samples_by_ids(
            connection, [page[1], page[0], page[1], 10**9], on_bad_row=bad.append
        )
        everything = load_samples_by_ids(connection, ids)
        none = load_samples_by_ids(connection, [])
    assert list(ids) == sorted(ids)
    assert len(ids) == 10
    assert ids[5:7] == page
    assert (numbers(loaded), bad) == (["request-6"], [page[0]])
    assert len(everything) == 9
    assert list(none) == []


def test_rows_after_an_id_are_counted_up_to_a_limit(filled: Engine) -> None:
    """Of one model version."""
    with filled.begin() as connection:
        assert 10 == count_samples_after(connection, "m", "1", after_id=0, limit=100)
        assert 7 == count_samples_after(connection, "m", "1", after_id=3, limit=100)
        assert 4 == count_samples_after(connection, "m", "1", after_id=3, limit=4)
        assert 0 == count_samples_after(connection, "m", "1", after_id=10**9, limit=100)


def test_more_ids_than_one_statement_takes_are_read(engine: Engine) -> None:
    """Once each, in order."""
    with engine.begin() as connection:
        insert_samples(connection, [sample(number) for number in range(1_100)])
        ids = list_sample_ids_after(connection, "m", "1", after_id=0, limit=2_000)
        loaded = load_samples_by_ids(connection, list(reversed(ids)))
    assert [stored.id for stored in loaded] == list(ids)
    assert len(ids) == 1_100


@pytest.mark.parametrize(
    "query",
    [
        lambda c: load_window(c, "m", "1", newest=3),
        lambda c: load_window(c, "m", "1", newest=3, since=MOMENT),
        lambda c: load_samples_after(c, "m", "1", after_id=2, limit=3),
        lambda c: list_sample_ids_after(c, "m", "1", after_id=2, limit=3),
        lambda c: load_samples_between(c, "m", "1", start=MOMENT, end=MOMENT, limit=3),
        lambda c: latest_sample_id(c, "m", "1"),
    ],
    ids=["window", "window_since", "after", "ids_after", "between", "latest"],
)
def test_samples_of_a_model_are_found_by_the_index(
    sqlite_engine: Engine, query: Callable[[Connection], object]
) -> None:
    """Neither a scan nor a sort: a tick's time must not grow with what is stored."""
    (plan,) = plans(sqlite_engine, query)
    assert "USING" in plan
    assert "INDEX ix_samples_model (model_name=? AND model_version=?" in plan
    assert "SCAN" not in plan
    assert "TEMP B-TREE" not in plan


def test_samples_are_counted_along_the_index_alone(sqlite_engine: Engine) -> None:
    """No row is read, and no more of the index than the limit."""
    steps = plans(sqlite_engine, lambda c: count_samples_after(c, "m", "1", after_id=2, limit=3))
    assert any("COVERING INDEX ix_samples_model" in step for step in steps)
    assert not any("SCAN samples" in step for step in steps)


def test_samples_are_found_by_their_ids_alone(sqlite_engine: Engine) -> None:
    """By the primary key, in its order."""
    (plan,) = plans(sqlite_engine, lambda c: load_samples_by_ids(c, [1, 2]))
    assert plan == "SEARCH samples USING INTEGER PRIMARY KEY (rowid=?)"


def plans(engine: Engine, query: Callable[[Connection], object]) -> list[str]:
    """How SQLite would carry out each statement of a query."""
    seen: list[tuple[str, tuple[object, ...]]] = []

    def note(
        _c: object, _cursor: object, statement: str, values: tuple[object, ...], *_: object
    ) -> None:
        if statement.startswith("SELECT"):
            seen.append((statement, values))

    with engine.connect() as connection:
        event.listen(connection, "before_cursor_execute", note)
        query(connection)
        event.remove(connection, "before_cursor_execute", note)
        explained = [
            connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()
            for statement, values in seen
        ]
    return ["; ".join(row.detail for row in rows) for rows in explained]


def test_a_window_reads_no_more_rows_than_it_was_told(filled: Engine) -> None:
    """Where few rows are new enough, it does not look for more of them through the whole table."""
    late = MOMENT + timedelta(seconds=2)
    with filled.begin() as connection:
        connection.execute(
            update(samples).where(samples.c.request_id == "request-9").values(received_at=MOMENT)
        )
        window = load_window(connection, "m", "1", newest=2, since=late)
    assert numbers(window) == ["request-8"]


def test_a_span_of_time_has_its_start_but_not_its_end(filled: Engine) -> None:
    """Spans that follow one another share no sample."""
    start, end = MOMENT + timedelta(seconds=2), MOMENT + timedelta(seconds=5)
    with filled.connect() as connection:
        span = load_samples_between(connection, "m", "1", start=start, end=end, limit=9)
        cut = load_samples_between(connection, "m", "1", start=start, end=end, limit=2)
    assert numbers(span) == ["request-2", "request-3", "request-4"]
    assert numbers(cut) == ["request-2", "request-3"]


def test_latest_id_is_that_of_the_model_version(filled: Engine) -> None:
    """It is what load_samples_after would have nothing after; 0 where there is nothing."""
    with filled.connect() as connection:
        latest = latest_sample_id(connection, "m", "1")
        assert load_window(connection, "m", "1", newest=1)[0].id == latest
        assert latest_sample_id(connection, "m", "3") == 0


def test_storing_again_changes_nothing(engine: Engine) -> None:
    """A write whose end is unknown can be repeated, and what is new in it is stored."""
    image = SealedImage("key-1", b"sealed")
    with engine.begin() as connection:
        insert_samples(connection, [sample(0, sealed_image=image)])
    with engine.begin() as connection:
        insert_samples(connection, [sample(0, sealed_image=image, principal="other"), sample(1)])
        loaded = load_window(connection, "m", "1", newest=10)
    assert [stored.sample for stored in loaded] == [sample(0), sample(1)]


def test_a_shadows_sample_stands_beside_the_served_one(engine: Engine) -> None:
    """Each among those of its version; storing either again changes nothing, and the image stays the request's."""
    image = SealedImage("key-1", b"sealed")
    served = sample(0, sealed_image=image)
    shadow = sample(0, model_version="2", mode=SampleMode.SHADOW)
    for _ in range(2):
        with engine.begin() as connection:
            insert_samples(connection, [served, shadow])
    with engine.connect() as connection:
        first = load_window(connection, "m", "1", newest=9)
        second = load_window(connection, "m", "2", newest=9)
        assert find_sealed_image(connection, "request-0") == image
    assert [(s.sample.model_version, s.sample.mode) for s in first] == [("1", SampleMode.SERVED)]
    assert [(s.sample.model_version, s.sample.mode) for s in second] == [("2", SampleMode.SHADOW)]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_refused(engine: Engine, number: float) -> None:
    """NaN would poison every mean that is taken over it."""
    with engine.connect() as connection, pytest.raises(ValueError, match="JSON"):
        insert_samples(connection, [sample(0, features={"noise": number})])


@pytest.mark.parametrize(
    "broken",
    [
        {"features": "[]"},
        {"features": "not json"},
        {"features": '{"brightness":"a"}'},
        {"features": '{"brightness":[[1]]}'},
        {"features": '{"brightness":true}'},
        {"features": '{"brightness":NaN}'},
        {"features": '{"brightness":1e400}'},
        {"features": '{"brightness":' + "9" * 400 + "}"},
        {"features": '{"brightness":' + "9" * 5000 + "}"},
        {"features": "[" * 100_000},
        {"features": '{"<script>":1}'},
        {"features": '{"' + "a" * 65 + '":1}'},
        {"features": "{" + ",".join(f'"f{n}":1' for n in range(257)) + "}"},
        {"features": '{"brightness":1' + " " * 4_000_000 + "}"},
        {"detections": "[" + "[1,0.9,0,0,1,1]," * 10_000 + "[1,0.9,0,0,1,1]]"},
        {"detections": "[" + " " * 4_000_000 + "]"},
        {"detections": "5"},
        {"detections": "[[]]"},
        {"detections": "[3]"},
        {"detections": "[[0,NaN,0,0,1,1]]"},
        {"detections": "[[0.5,0.5,0,0,1,1]]"},
        {"detections": "[[-1,0.5,0,0,1,1]]"},
        {"kept_probability": math.nan},
        {"mode": "other"},
        {"source": ""},
        {"source": "cam 3"},
        {"source": "cam\n3"},
        {"source": "é"},
        {"embedding": b""},
        {"embedding": b"\x00\x00\xc0\x7f\x01"},
    ],
    ids=range(30),
)
def test_a_row_that_holds_no_sample_is_skipped_and_told(
    filled: Engine, broken: dict[str, object]
) -> None:
    """One of them must not hide the others, and its numbers reach nobody."""
    if filled.dialect.name == "sqlite" and "kept_probability" in broken:
        broken = {"kept_probability": math.inf}  # NaN is NULL there, which the column refuses
    bad: list[int] = []
    with filled.begin() as connection:
        connection.execute(
            update(samples).where(samples.c.request_id == "request-8").values(broken)
        )
        window = load_window(connection, "m", "1", newest=3, on_bad_row=bad.append)
    assert numbers(window) == ["request-7", "request-9"]
    assert len(bad) == 1


def test_as_much_as_a_row_may_hold_is_read(sqlite_engine: Engine) -> None:
    """To the last feature and detection."""
    features = {f"f{number}": 1.0 for number in range(256)}
    detections = ((1, 0.5, 0.0, 0.0, 1.0, 1.0),) * 10_000
    with sqlite_engine.begin() as connection:
        insert_samples(connection, [sample(0, features=features, detections=detections)])
        (stored,) = load_window(connection, "m", "1", newest=3)
    assert (features, detections) == (stored.sample.features, stored.sample.detections)


@pytest.mark.parametrize("column", ["features", "principal", "request_id", "source", "mode"])
def test_a_text_that_is_no_utf8_spoils_its_row_alone(sqlite_engine: Engine, column: str) -> None:
    """SQLite decodes while it fetches: the whole page would be lost, and its words would show the cell."""
    bad: list[int] = []
    with sqlite_engine.begin() as connection:
        insert_samples(connection, [sample(number) for number in range(4)])
        connection.execute(
            text(f"UPDATE samples SET {column} = CAST(x'73ff' AS TEXT) || id WHERE id IN (2, 3)")
        )
        window = load_window(connection, "m", "1", newest=3, on_bad_row=bad.append)
        assert (["request-3"], [2, 3]) == (numbers(window), sorted(bad))
        by_ids = load_samples_by_ids(connection, [1, 2], on_bad_row=bad.append)
        assert (["request-0"], 2) == (numbers(by_ids), bad[-1])


def test_a_text_with_a_nul_is_not_short(sqlite_engine: Engine) -> None:
    """SQLite counts to the NUL alone."""
    bad: list[int] = []
    with sqlite_engine.begin() as connection:
        insert_samples(connection, [sample(0)])
        connection.execute(
            text("UPDATE samples SET features = :long"), {"long": "{}\0" + " " * 4_000_000}
        )
        assert [] == load_window(connection, "m", "1", newest=1, on_bad_row=bad.append)
    assert [1] == bad


@pytest.mark.parametrize("junk", ["'yesterday'", "7", "''", "x'ff'"])
def test_a_time_that_is_none_spoils_its_row_alone(sqlite_engine: Engine, junk: str) -> None:
    """SQLite stores anything in any column."""
    bad: list[int] = []
    with sqlite_engine.begin() as connection:
        insert_samples(connection, [sample(number) for number in range(3)])
        connection.execute(text(f"UPDATE samples SET received_at = {junk} WHERE id = 2"))
        window = load_window(connection, "m", "1", newest=3, on_bad_row=bad.append)
    assert (numbers(window), bad) == (["request-0", "request-2"], [2])


@pytest.mark.parametrize("column", ["source", "embedding"])
@pytest.mark.parametrize("junk", ["7", "1.5", "'é'", "x'ff'"])
def test_another_type_in_a_column_spoils_its_row_alone(
    sqlite_engine: Engine, column: str, junk: str
) -> None:
    """SQLite stores anything in any column, and what it holds as bytes may be no text at all."""
    bad: list[int] = []
    with sqlite_engine.begin() as connection:
        insert_samples(connection, [sample(number) for number in range(3)])
        connection.execute(text(f"UPDATE samples SET {column} = {junk} WHERE id = 2"))
        window = load_window(connection, "m", "1", newest=3, on_bad_row=bad.append)
    # A number in a column of text becomes text there: cameras may be called 7.
    is_text = column == "source" and junk in ("7", "1.5")
    assert ([] if is_text else [2]) == bad
    assert ([1, 2, 3] if is_text else [1, 3]) == [stored.id for stored in window]


def test_nothing_to_store_is_no_error(engine: Engine) -> None:
    """An empty batch stores nothing."""
    with engine.begin() as connection:
        insert_samples(connection, [])
        assert connection.execute(select(func.count()).select_from(samples)).scalar_one() == 0


def test_text_that_postgresql_cannot_store_is_refused(postgres_engine: Engine) -> None:
    """The error names the data, not the connection: the sampler tells the two apart."""
    with postgres_engine.connect() as connection, pytest.raises(DataError):
        insert_samples(connection, [sample(0, principal="a\x00b")])


def test_a_thousand_samples_load_quickly(sqlite_engine: Engine) -> None:
    """A window costs a fraction of a second at the most; measured it is well under 50 ms."""
    features: dict[str, float | None] = {f"feature_{n}": n / 7 for n in range(25)}
    detections = tuple((n, 0.123456, 1.25, 2.25, 3.25, 4.25) for n in range(10))
    new = [sample(n, features=features, detections=detections) for n in range(1000)]
    with sqlite_engine.begin() as connection:
        insert_samples(connection, new)
    times = []
    for _ in range(3):
        with sqlite_engine.connect() as connection:
            start = time.thread_time()
            assert len(load_window(connection, "m", "1", newest=1000)) == 1000
            times.append(time.thread_time() - start)
    assert min(times) < 0.5
