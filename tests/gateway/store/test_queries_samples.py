"""SQL over samples and sample_images, on both databases."""

import dataclasses
import math
import time
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, func, select, text, update
from sqlalchemy.exc import DataError

from gateway.store.queries.samples import (
    find_sealed_image,
    insert_samples,
    latest_sample_id,
    load_samples_after,
    load_samples_between,
    load_window,
)
from gateway.store.records import Sample, SampleMode, SealedImage
from gateway.store.tables import samples

MOMENT = datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)


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


def test_samples_come_back_as_they_were(engine: Engine) -> None:
    """Every number, name and time survives; the image stays behind."""
    image = SealedImage("key-1", b"\x00sealed")
    with engine.begin() as connection:
        insert_samples(connection, [sample(0, sealed_image=image)])
        loaded = load_window(connection, "m", "1", newest=10)
    assert [stored.sample for stored in loaded] == [sample(0)]


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
        {"detections": "5"},
        {"detections": "[[]]"},
        {"detections": "[3]"},
        {"detections": "[[0,NaN,0,0,1,1]]"},
        {"detections": "[[0.5,0.5,0,0,1,1]]"},
        {"detections": "[[-1,0.5,0,0,1,1]]"},
        {"kept_probability": math.nan},
        {"mode": "other"},
    ],
    ids=range(20),
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


@pytest.mark.parametrize("junk", ["'yesterday'", "7", "''", "x'ff'"])
def test_a_time_that_is_none_spoils_its_row_alone(sqlite_engine: Engine, junk: str) -> None:
    """SQLite stores anything in any column."""
    bad: list[int] = []
    with sqlite_engine.begin() as connection:
        insert_samples(connection, [sample(number) for number in range(3)])
        connection.execute(text(f"UPDATE samples SET received_at = {junk} WHERE id = 2"))
        window = load_window(connection, "m", "1", newest=3, on_bad_row=bad.append)
    assert (numbers(window), bad) == (["request-0", "request-2"], [2])


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
