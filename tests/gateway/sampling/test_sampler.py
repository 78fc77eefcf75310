"""The sampler never disturbs a request, loses nothing silently, and stores the rest."""

import random
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import OperationalError

from gateway.errors import Code, SealError
from gateway.sampling.draw import SamplingRates
from gateway.sampling.features import FEATURE_NAMES
from gateway.sampling.offers import Offer
from gateway.sampling.sampler import SampleOutcome, Sampler
from gateway.store.embeddings import pack_embedding
from gateway.store.queries.samples import find_sealed_image, load_window
from gateway.store.records import Detections, SampleMode, SealedImage, StoredSample

ALL = SamplingRates(sample_rate=1.0, image_rate=0.0)
WAIT_SECONDS = 20


def offer(number: int = 0, *, confidence: float = 0.75, principal: str = "i|s") -> Offer:
    """An answered request with an image of 8x6 and one box."""
    return Offer(
        request_id=f"request-{number}",
        received_at=datetime(2031, 5, 6, tzinfo=UTC),
        model_name="m",
        model_version="1",
        principal=principal,
        input_sha256="ab" * 32,
        image=np.full((6, 8, 3), 51, np.uint8),
        encoded=b"encoded image",
        detections=Detections(
            boxes_xyxy=np.array([[1, 2, 3.123456, 4]], np.float32),
            confidences=np.array([confidence], np.float32),
            class_ids=np.array([2], np.int64),
        ),
    )


def seal(request_id: str, body: bytes) -> SealedImage:
    """A fake of sealing that shows what it was given."""
    return SealedImage("key-1", request_id.encode() + b":" + body)


def stored_samples(engine: Engine) -> list[StoredSample]:
    """Everything in the table."""
    with engine.connect() as connection:
        return list(load_window(connection, "m", "1", newest=10_000))


def counts(**expected: int) -> dict[SampleOutcome, int]:
    """All outcomes, those not named at 0."""
    return {outcome: expected.get(outcome.value, 0) for outcome in SampleOutcome}


MakeSampler = Callable[..., Sampler]


@pytest.fixture
def make_sampler(engine: Engine) -> MakeSampler:
    """Builds a sampler that writes only when its batch is full or it is closed."""

    def make(**changes: object) -> Sampler:
        arguments: dict[str, object] = {
            "engine": engine,
            "rates": ALL,
            "rng": random.Random(1),
            "seal_image": seal,
            "write_seconds": 1000.0,
        }
        return Sampler(**(arguments | changes))  # type: ignore[arg-type]  # any argument, by name

    return make


class Outage:
    """Makes every write of an engine fail, before or after it took effect, until it is over."""

    def __init__(self, engine: Engine, *, persists: bool = False) -> None:
        self.is_on = True
        self.struck = threading.Event()
        self._persists = persists
        event.listen(engine, "commit", self._strike)

    def _strike(self, connection: Connection) -> None:
        if not self.is_on:
            return
        if self._persists:
            raw = connection.connection.dbapi_connection
            assert raw is not None
            raw.commit()
        self.struck.set()
        raise OperationalError("", {}, OSError("the disk went away"))


class Signal:
    """Waits for an outcome to have been counted often enough."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._counts = dict.fromkeys(SampleOutcome, 0)

    def __call__(self, outcome: SampleOutcome, count: int) -> None:
        with self._changed:
            self._counts[outcome] += count
            self._changed.notify_all()

    def wait(self, outcome: SampleOutcome, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._counts[outcome] >= count, WAIT_SECONDS)


def test_an_offer_becomes_a_sample(engine: Engine, make_sampler: MakeSampler) -> None:
    """Names, numbers, boxes and probabilities are stored; the image is not, at rate 0."""
    sampler = make_sampler()
    sampler.offer(offer())
    assert sampler.close()
    (stored,) = stored_samples(engine)
    sample = stored.sample
    assert (sample.request_id, sample.principal, sample.model_name) == ("request-0", "i|s", "m")
    assert set(sample.features) == set(FEATURE_NAMES)
    assert (sample.features["width"], sample.features["brightness"]) == (8.0, 0.2)
    assert sample.features["bits_per_pixel"] == 8 * 13 / 48
    assert sample.detections == ((2, 0.75, 1.0, 2.0, 3.12, 4.0),)
    assert (sample.kept_probability, sample.image_probability) == (1.0, 0.0)
    assert (sampler.offered, sampler.images_kept, sampler.lag_seconds) == (1, 0, 0.0)
    assert sampler.counts == counts(kept=1)


def test_camera_and_embedding_are_stored(engine: Engine, make_sampler: MakeSampler) -> None:
    """The name as it is, the numbers packed; a sample without either has None."""
    sampler = make_sampler()
    embedding = np.array([127, -64, 0], np.float32)
    sampler.offer(replace(offer(0), source="cam-3", embedding=embedding))
    sampler.offer(offer(1))
    assert sampler.close()
    first, second = (stored.sample for stored in stored_samples(engine))
    assert ("cam-3", pack_embedding(embedding)) == (first.source, first.embedding)
    assert (None, None) == (second.source, second.embedding)


@pytest.mark.parametrize("bad", [np.full(3, np.nan, np.float32), np.zeros(5_000, np.float32)])
def test_an_embedding_that_is_none_costs_no_sample(
    engine: Engine,
    make_sampler: MakeSampler,
    bad: NDArray[np.float32],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The other numbers are stored without it; the log says so once, not for every image."""
    sampler = make_sampler()
    for number in range(2):
        sampler.offer(replace(offer(number), embedding=bad))
    assert sampler.close()
    assert [None, None] == [stored.sample.embedding for stored in stored_samples(engine)]
    assert 1 == sum("sample_embedding_left_out" in record.message for record in caplog.records)


def test_a_kept_image_is_stored_sealed(engine: Engine, make_sampler: MakeSampler) -> None:
    """What is stored is what sealing made of the bytes as received, under the request's id."""
    sampler = make_sampler(rates=SamplingRates(sample_rate=1.0, image_rate=1.0))
    sampler.offer(offer(7))
    assert sampler.close()
    with engine.connect() as connection:
        image = find_sealed_image(connection, "request-7")
    assert image == SealedImage("key-1", b"request-7:encoded image")
    assert stored_samples(engine)[0].sample.image_probability == 1.0
    assert sampler.images_kept == 1


def test_unsure_requests_are_forced(engine: Engine, make_sampler: MakeSampler) -> None:
    """With rates near nought only the request below the limit is kept, with probability 1."""
    rates = SamplingRates(sample_rate=1e-9, image_rate=0.0, keep_below_confidence=0.5)
    sampler = make_sampler(rates=rates)
    sampler.offer(offer(0, confidence=0.75))
    sampler.offer(offer(1, confidence=0.25))
    assert sampler.close()
    (stored,) = stored_samples(engine)
    assert (stored.sample.request_id, stored.sample.kept_probability) == ("request-1", 1.0)
    assert (sampler.counts, sampler.images_kept) == (counts(kept=1, rate=1), 1)


def test_rate_keeps_its_share(engine: Engine, make_sampler: MakeSampler) -> None:
    """A seeded draw keeps about its rate, records it, and counts the rest."""
    sampler = make_sampler(
        rates=SamplingRates(sample_rate=0.25, image_rate=0.0), max_queued=1000, batch_samples=1000
    )
    for number in range(400):
        sampler.offer(offer(number))
    assert sampler.close()
    samples = stored_samples(engine)
    assert 75 <= len(samples) <= 125
    assert {stored.sample.kept_probability for stored in samples} == {0.25}
    assert sampler.counts == counts(kept=len(samples), rate=400 - len(samples))


def test_without_sealing_no_image_is_kept(engine: Engine, make_sampler: MakeSampler) -> None:
    """No key, no image; the probability recorded says so for requests that no rule forces."""
    rates = SamplingRates(sample_rate=1.0, image_rate=1.0)
    sampler = make_sampler(seal_image=None, rates=rates)
    sampler.offer(offer())
    assert sampler.close()
    assert stored_samples(engine)[0].sample.image_probability == 0.0
    assert sampler.images_kept == 0


def test_an_image_that_cannot_be_sealed_leaves_its_numbers(
    engine: Engine, make_sampler: MakeSampler
) -> None:
    """The sample is stored without it, and never with the image in the clear."""

    def refuse(request_id: str, body: bytes) -> SealedImage:
        raise SealError(Code.SAMPLE_REFUSED, "no key")

    rates = SamplingRates(sample_rate=1.0, image_rate=1.0)
    sampler = make_sampler(seal_image=refuse, rates=rates)
    sampler.offer(offer())
    assert sampler.close()
    assert (len(stored_samples(engine)), sampler.images_failed, sampler.images_kept) == (1, 1, 0)


def test_a_full_batch_is_written_at_once(engine: Engine, make_sampler: MakeSampler) -> None:
    """Without waiting for the time."""
    signal = Signal()
    sampler = make_sampler(batch_samples=3, on_outcome=signal)
    for number in range(3):
        sampler.offer(offer(number))
    signal.wait(SampleOutcome.KEPT, 3)
    assert len(stored_samples(engine)) == 3
    assert sampler.close()


def test_a_lone_sample_is_written_when_its_time_comes(
    engine: Engine, make_sampler: MakeSampler
) -> None:
    """Without waiting for a full batch."""
    signal = Signal()
    sampler = make_sampler(write_seconds=0.01, on_outcome=signal)
    sampler.offer(offer())
    signal.wait(SampleOutcome.KEPT, 1)
    assert len(stored_samples(engine)) == 1
    assert sampler.close()


def hold_worker(make_sampler: MakeSampler, **changes: object) -> tuple[Sampler, threading.Event]:
    """A sampler whose worker is stuck in sealing the first image until the event is set."""
    opened, reached = threading.Event(), threading.Event()

    def seal_slowly(request_id: str, body: bytes) -> SealedImage:
        reached.set()
        assert opened.wait(WAIT_SECONDS)
        return seal(request_id, body)

    rates = SamplingRates(sample_rate=1.0, image_rate=1.0)
    sampler = make_sampler(seal_image=seal_slowly, rates=rates, **changes)
    sampler.offer(offer(0))
    assert reached.wait(WAIT_SECONDS)
    return sampler, opened


def test_a_full_queue_drops_and_counts(make_sampler: MakeSampler) -> None:
    """The count of waiting offers is bounded, and offering never waits for a place."""
    sampler, opened = hold_worker(make_sampler, max_queued=2)
    for number in range(1, 6):
        sampler.offer(offer(number))
    assert sampler.counts == counts(queue_full=3)
    assert sampler.lag_seconds > 0
    opened.set()
    assert sampler.close()
    assert sampler.counts == counts(queue_full=3, kept=3)


def test_a_queue_is_full_by_bytes_too(make_sampler: MakeSampler) -> None:
    """An image of 8x6 and its file hold 157 bytes, so two fit into 320."""
    sampler, opened = hold_worker(make_sampler, max_queued_bytes=320)
    for number in range(1, 6):
        sampler.offer(offer(number))
    assert sampler.counts == counts(queue_full=3)
    opened.set()
    assert sampler.close()


def test_close_gives_up_in_time_and_counts_what_is_lost(make_sampler: MakeSampler) -> None:
    """A shutdown is not held up for ever."""
    sampler, opened = hold_worker(make_sampler)
    sampler.offer(offer(1))
    assert not sampler.close(timeout_seconds=0.01)
    assert sampler.counts == counts(closed=1)
    opened.set()
    assert sampler.close()
    assert sampler.counts == counts(closed=1, kept=1)


def test_a_closed_sampler_drops_and_counts(make_sampler: MakeSampler) -> None:
    """Requests that end after the close are not disturbed."""
    sampler = make_sampler()
    assert sampler.close()
    sampler.offer(offer())
    assert sampler.counts == counts(closed=1)


@pytest.mark.parametrize("persists", [False, True], ids=["not_persisted", "persisted"])
def test_an_outage_loses_nothing_that_fits(
    engine: Engine, make_sampler: MakeSampler, persists: bool
) -> None:
    """Samples wait for the database and are stored once, whether or not the failed commit took effect."""
    signal = Signal()
    outage = Outage(engine, persists=persists)
    sampler = make_sampler(batch_samples=2, write_seconds=0.01, on_outcome=signal)
    for number in range(5):
        sampler.offer(offer(number))
    assert outage.struck.wait(WAIT_SECONDS)
    outage.is_on = False
    signal.wait(SampleOutcome.KEPT, 5)
    assert sampler.close()
    ids = [stored.sample.request_id for stored in stored_samples(engine)]
    assert ids == [f"request-{number}" for number in range(5)]
    assert sampler.counts == counts(kept=5)


def test_a_long_outage_drops_the_oldest(engine: Engine, make_sampler: MakeSampler) -> None:
    """What is held is bounded, and the newest samples are the ones worth keeping."""
    signal = Signal()
    outage = Outage(engine)
    sampler = make_sampler(batch_samples=2, write_seconds=0.01, max_unwritten=3, on_outcome=signal)
    for number in range(8):
        sampler.offer(offer(number))
    signal.wait(SampleOutcome.WRITE_FAILED, 5)
    outage.is_on = False
    signal.wait(SampleOutcome.KEPT, 3)
    assert sampler.close()
    ids = [stored.sample.request_id for stored in stored_samples(engine)]
    assert ids == ["request-5", "request-6", "request-7"]
    assert sampler.counts == counts(write_failed=5, kept=3)


def test_an_outage_is_bounded_by_bytes_too(engine: Engine, make_sampler: MakeSampler) -> None:
    """A sealed image of 2,000 bytes fits twice into 5,000."""
    signal = Signal()
    outage = Outage(engine)
    sampler = make_sampler(
        rates=SamplingRates(sample_rate=1.0, image_rate=1.0),
        seal_image=lambda _request_id, _body: SealedImage("key-1", bytes(2000)),
        write_seconds=0.01,
        max_queued_bytes=5000,
        on_outcome=signal,
    )
    for number in range(4):
        sampler.offer(offer(number))
    signal.wait(SampleOutcome.WRITE_FAILED, 2)
    outage.is_on = False
    signal.wait(SampleOutcome.KEPT, 2)
    assert sampler.close()
    ids = [stored.sample.request_id for stored in stored_samples(engine)]
    assert ids == ["request-2", "request-3"]


def test_closing_in_an_outage_counts_what_is_lost(
    engine: Engine, make_sampler: MakeSampler
) -> None:
    """One last attempt, then the end."""
    Outage(engine)
    sampler = make_sampler()
    sampler.offer(offer())
    assert sampler.close()
    assert sampler.counts == counts(write_failed=1)


def test_one_sample_the_database_refuses_does_not_hold_up_the_others(
    postgres_engine: Engine,
) -> None:
    """It is counted and left out."""
    sampler = Sampler(
        engine=postgres_engine, rates=ALL, rng=random.Random(1), seal_image=None, write_seconds=1000
    )
    for number, principal in enumerate(["a", "b\x00", "c"]):
        sampler.offer(offer(number, principal=principal))
    assert sampler.close()
    ids = [stored.sample.request_id for stored in stored_samples(postgres_engine)]
    assert ids == ["request-0", "request-2"]
    assert sampler.counts == counts(kept=2, failed=1)


def test_an_image_that_cannot_be_measured_does_not_end_the_worker(
    engine: Engine, make_sampler: MakeSampler, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug on one image is logged and counted; the next image is measured."""
    sampler = make_sampler(
        rates=SamplingRates(sample_rate=1.0, image_rate=1.0),
        seal_image=lambda request_id, body: (
            seal(request_id, body) if request_id != "request-0" else 1 // 0
        ),
    )
    sampler.offer(offer(0))
    sampler.offer(offer(1))
    assert sampler.close()
    assert [stored.sample.request_id for stored in stored_samples(engine)] == ["request-1"]
    assert sampler.counts == counts(kept=1, failed=1)
    assert [record.message for record in caplog.records] == ["sample_not_measured"]


def test_a_bug_in_writing_does_not_end_the_worker(
    engine: Engine, make_sampler: MakeSampler, caplog: pytest.LogCaptureFixture
) -> None:
    """It is treated as an outage."""
    signal = Signal()
    bugs = [ZeroDivisionError()]

    def strike(_connection: Connection) -> None:
        if bugs:
            raise bugs.pop()

    event.listen(engine, "commit", strike)
    sampler = make_sampler(write_seconds=0.01, on_outcome=signal)
    sampler.offer(offer())
    signal.wait(SampleOutcome.KEPT, 1)
    assert sampler.close()
    assert [record.message for record in caplog.records] == ["samples_not_written"]


def test_a_shadows_sample_stands_beside_the_served_one(
    make_sampler: MakeSampler, engine: Engine
) -> None:
    """Under its own version and without an image, also where a rule forces the image of every answer."""
    rates = SamplingRates(sample_rate=1.0, image_rate=1.0, keep_below_confidence=1.0)
    sampler = make_sampler(rates=rates)
    sampler.offer(offer())
    sampler.offer(replace(offer(), model_version="2", mode=SampleMode.SHADOW, encoded=b"other"))
    sampler.close()
    with engine.connect() as connection:
        (served,) = load_window(connection, "m", "1", newest=9)
        (shadow,) = load_window(connection, "m", "2", newest=9)
        image = find_sealed_image(connection, "request-0")
    assert (served.sample.mode, served.sample.image_probability) == (SampleMode.SERVED, 1.0)
    assert (shadow.sample.mode, shadow.sample.image_probability) == (SampleMode.SHADOW, 0.0)
    assert image == SealedImage("key-1", b"request-0:encoded image")
    assert sampler.counts == counts(kept=2)


def test_a_waiting_worker_holds_no_image(make_sampler: MakeSampler) -> None:
    """Otherwise the last one, up to 100 MB, stays until the next comes."""
    sampler, gone = make_sampler(), threading.Event()
    offered = offer()
    weakref.finalize(offered.image, gone.set)
    sampler.offer(offered)
    del offered
    assert gone.wait(WAIT_SECONDS)
    assert sampler.close()
