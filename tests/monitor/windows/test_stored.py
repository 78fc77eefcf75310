"""Stored samples as they are compared."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy import Engine, text

from gateway.store.database import write_transaction
from gateway.store.embeddings import pack_embedding
from gateway.store.queries.samples import insert_samples
from gateway.store.records import Sample
from monitor.summaries import Fit
from monitor.windows.stored import measurement, read_window, reference_sample, sample_window

START = datetime(2030, 1, 1, tzinfo=UTC)
AddSamples = Callable[..., datetime]

only_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


@only_sqlite
def test_the_newest_samples_are_a_window(engine: Engine, add_samples: AddSamples) -> None:
    """Oldest first, each with its time."""
    newest = add_samples(50)
    with engine.connect() as connection:
        window = read_window(
            connection,
            model_name="conveyor",
            model_version="1",
            newest=20,
            after=None,
            fit=Fit(class_shares={}),
            names=("width", "absent"),
        )
    assert (20, 20) == (window.sample_count, len(window.received_at))
    assert (newest, newest) == (window.newest_received_at, window.received_at[-1])
    assert "00000000-0000-4000-8000-000000000050" == window.newest_request_id
    assert {640.0} == set(window.features["width"].tolist())
    assert np.isnan(window.features["absent"]).all()


@only_sqlite
def test_what_the_reference_covers_is_left_out(engine: Engine, add_samples: AddSamples) -> None:
    """Up to and including the time; rows that hold no sample are counted."""
    middle = add_samples(30)
    add_samples(10)
    with engine.begin() as connection:
        connection.execute(text("UPDATE samples SET features = '[' WHERE id = 35"))
        window = read_window(
            connection,
            model_name="conveyor",
            model_version="1",
            newest=100,
            after=middle,
            fit=Fit(class_shares={}),
            names=("width",),
        )
    assert (9, 1) == (window.sample_count, window.bad_count)
    assert min(window.received_at) > middle


@only_sqlite
def test_cameras_are_thinned(engine: Engine) -> None:
    """As a tick thins them."""
    with write_transaction(engine) as connection:
        insert_samples(connection, [_sample(second, source="a") for second in range(20)])
        window = read_window(
            connection,
            model_name="conveyor",
            model_version="1",
            newest=100,
            after=None,
            fit=Fit(class_shares={}),
            names=("width",),
            thin_seconds=10.0,
        )
    assert (START, START + timedelta(seconds=10)) == window.received_at


def test_no_samples_are_an_empty_window() -> None:
    """Of an empty table; nothing is newest."""
    window = sample_window([], fit=Fit(class_shares={}), names=("a",))
    assert (0, None, None, ()) == (
        window.sample_count,
        window.newest_request_id,
        window.newest_received_at,
        window.received_at,
    )


def test_embeddings_are_unpacked() -> None:
    """As files have them."""
    numbers = np.array([127, -64, 0], np.float32)
    found = measurement(_sample(0, embedding=pack_embedding(numbers)))
    assert found.embedding is not None
    assert [127.0, -64.0, 0.0] == found.embedding.tolist()
    assert measurement(_sample(0)).embedding is None


def test_a_references_client_is_the_principal() -> None:
    """Issuer and subject, as the ledger has them."""
    sample = reference_sample(_sample(3, source="a"))
    assert ("https://issuer.test|line-1", "a") == (sample.client, sample.source)
    assert START + timedelta(seconds=3) == sample.received_at


def _sample(second: int, *, source: str | None = None, embedding: bytes | None = None) -> Sample:
    return Sample(
        request_id=f"10000000-0000-4000-8000-{second:012}",
        received_at=START + timedelta(seconds=second),
        model_name="conveyor",
        model_version="1",
        principal="https://issuer.test|line-1",
        input_sha256="0" * 64,
        features={"width": 640.0},
        detections=(),
        kept_probability=1.0,
        image_probability=0.0,
        source=source,
        embedding=embedding,
    )
