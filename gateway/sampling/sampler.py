"""From answered requests to stored samples, without ever holding a request up.

Rules: offer never blocks and never raises; everything held is bounded in number and in bytes; whatever is not stored
is counted by reason; the image leaves this module sealed or not at all. Which requests are taken, and with what
probability, is in gateway.sampling.draw.
"""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice

from sqlalchemy import Engine
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from gateway.errors import GatewayError
from gateway.sampling.draw import Draw, SamplingRates, draw_sample
from gateway.sampling.measure import measure
from gateway.sampling.offers import Offer
from gateway.store.database import write_transaction
from gateway.store.embeddings import pack_embedding
from gateway.store.queries.samples import insert_samples
from gateway.store.records import Sample, SampleMode, SealedImage

log = logging.getLogger(__name__)

SealImage = Callable[[str, bytes], SealedImage]

# Measured in bursts: waking for every image would take the caches from the detector as often. A burst begins when so
# many wait, when they hold a share of the allowed memory, or when the first has waited long enough.
BURST_SAMPLES = 8
BURST_SECONDS = 0.2
BURST_SHARE = 0.25

# One transaction, so that the write lock that audit records wait for on SQLite is held for milliseconds only.
MAX_BATCH_BYTES = 4 * 1024 * 1024


class SampleOutcome(StrEnum):
    """What became of an offered request. Every one ends in exactly one of these."""

    KEPT = "kept"
    RATE = "rate"
    QUEUE_FULL = "queue_full"
    WRITE_FAILED = "write_failed"
    FAILED = "failed"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class _Queued:
    offer: Offer  # encoded is empty unless the image is kept
    encoded_bytes: int
    draw: Draw
    offered_at: float

    @property
    def held_bytes(self) -> int:
        embedding = self.offer.embedding
        kept_bytes = 0 if embedding is None else embedding.nbytes
        return self.offer.image.nbytes + len(self.offer.encoded) + kept_bytes


@dataclass(frozen=True, slots=True)
class _Unwritten:
    sample: Sample
    offered_at: float

    @property
    def held_bytes(self) -> int:
        sealed = self.sample.sealed_image
        return 0 if sealed is None else len(sealed.ciphertext)


class Sampler:
    """Takes offers and stores samples in a thread of its own until it is closed.

    rng: decides what is kept. seal_image: encrypts the bytes of an image under its request id; None keeps no images.
    max_queued, max_queued_bytes: offers that may wait to be measured; decoded images are large.
    batch_samples, write_seconds: a write happens when so many samples wait, or the first has waited so long.
    max_unwritten, max_queued_bytes: samples held while the database fails; the oldest go first.
    on_outcome: called with each outcome and its count, from any thread.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        rates: SamplingRates,
        rng: random.Random,
        seal_image: SealImage | None,
        max_queued: int = 256,
        max_queued_bytes: int = 256 * 1024 * 1024,
        batch_samples: int = 32,
        write_seconds: float = 1.0,
        max_unwritten: int = 4096,
        on_outcome: Callable[[SampleOutcome, int], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._rates = rates if seal_image is not None else replace(rates, image_rate=0.0)
        self._rng = rng
        self._seal_image = seal_image
        self._max_queued = max_queued
        self._max_queued_bytes = max_queued_bytes
        self._batch_samples = batch_samples
        self._write_seconds = write_seconds
        self._max_unwritten = max_unwritten
        self._on_outcome = on_outcome
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._queue: deque[_Queued] = deque()
        self._queued_bytes = 0
        self._is_closing = False
        # Only the worker changes these.
        self._unwritten: deque[_Unwritten] = deque()
        self._unwritten_bytes = 0
        self._write_at = 0.0
        self._is_backing_off = False
        self._is_in_burst = False
        self._has_told_of_embedding = False
        self._counts = dict.fromkeys(SampleOutcome, 0)
        self._offered = 0
        self._images_kept = 0
        self._images_failed = 0
        self._worker = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._worker.start()

    @property
    def offered(self) -> int:
        """Offers so far; those without an outcome yet are waiting."""
        return self._offered

    @property
    def counts(self) -> Mapping[SampleOutcome, int]:
        """Offers by what became of them."""
        return dict(self._counts)

    @property
    def images_kept(self) -> int:
        """Images stored, encrypted."""
        return self._images_kept

    @property
    def images_failed(self) -> int:
        """Images that were to be kept and could not be sealed; their samples were stored without them."""
        return self._images_failed

    @property
    def lag_seconds(self) -> float:
        """How long the oldest offer has been waiting to be stored; 0 if none does."""
        with self._changed:
            oldest = [
                waiting[0].offered_at for waiting in (self._unwritten, self._queue) if waiting
            ]
            return self._monotonic() - min(oldest) if oldest else 0.0

    def offer(self, offer: Offer) -> None:
        """Perhaps take a sample of an answered request."""
        with self._changed:
            self._offered += 1
            refused = self._enqueue(offer)
        if refused is not None:
            self._count(refused, 1)

    def close(self, *, timeout_seconds: float = 10.0) -> bool:
        """Store what waits; False if that was not done within timeout_seconds, and the rest is lost and counted."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._worker.join(timeout_seconds)
        with self._changed:
            lost = len(self._queue)
            self._queue.clear()
        if lost:
            self._count(SampleOutcome.CLOSED, lost)
        return not self._worker.is_alive()

    def _enqueue(self, offer: Offer) -> SampleOutcome | None:
        if self._is_closing:
            return SampleOutcome.CLOSED
        draw = draw_sample(self._rates, offer.detections, chance=self._rng.random())
        if offer.mode is SampleMode.SHADOW:
            draw = replace(draw, keeps_image=False, image_probability=0.0)
        if not draw.keeps_sample:
            return SampleOutcome.RATE
        keeps_image = draw.keeps_image and self._seal_image is not None
        encoded = offer.encoded if keeps_image else b""
        queued = _Queued(
            replace(offer, encoded=encoded), len(offer.encoded), draw, self._monotonic()
        )
        if (
            len(self._queue) >= self._max_queued
            or self._queued_bytes + queued.held_bytes > self._max_queued_bytes
        ):
            return SampleOutcome.QUEUE_FULL
        self._queue.append(queued)
        self._queued_bytes += queued.held_bytes
        if len(self._queue) == 1 or self._is_burst():
            self._changed.notify()
        return None

    def _is_burst(self) -> bool:
        return (
            len(self._queue) >= BURST_SAMPLES
            or self._queued_bytes >= BURST_SHARE * self._max_queued_bytes
        )

    def _run(self) -> None:
        while True:
            queued, is_last = self._next()
            # A bug, or an image that a library cannot bear, must not end the thread.
            if queued is not None:
                try:
                    self._hold(self._measure(queued), queued.offered_at)
                except Exception:
                    log.exception("sample_not_measured")
                    self._count(SampleOutcome.FAILED, 1)
            queued = None  # or the wait for the next holds this image, up to 100 MB
            if self._is_due(is_last=is_last):
                try:
                    self._write()
                except Exception:
                    log.exception("samples_not_written")
                    self._back_off()
            if is_last:
                self._drop_unwritten(keep=0)
                return

    def _next(self) -> tuple[_Queued | None, bool]:
        # What to measure, or None when it is time to write; and whether this is the end: closing, nothing left.
        with self._changed:
            timeout = max(0.0, self._write_at - self._monotonic()) if self._unwritten else None
            self._changed.wait_for(lambda: self._queue or self._is_closing, timeout)
            if not self._queue:
                self._is_in_burst = False
                return None, self._is_closing
            if not self._is_in_burst:
                self._changed.wait_for(lambda: self._is_burst() or self._is_closing, BURST_SECONDS)
                self._is_in_burst = True
            queued = self._queue.popleft()
            self._queued_bytes -= queued.held_bytes
            # The next image after the last of a burst waits for others again.
            self._is_in_burst = bool(self._queue)
            return queued, False

    def _measure(self, queued: _Queued) -> Sample:
        offer = queued.offer
        measured = measure(
            offer.image,
            offer.detections,
            encoded_bytes=queued.encoded_bytes,
            image_shape=offer.image_shape,
        )
        return Sample(
            request_id=offer.request_id,
            received_at=offer.received_at,
            model_name=offer.model_name,
            model_version=offer.model_version,
            principal=offer.principal,
            input_sha256=offer.input_sha256,
            features=measured.features,
            detections=measured.detections,
            kept_probability=queued.draw.kept_probability,
            image_probability=queued.draw.image_probability,
            sealed_image=self._seal(offer),
            mode=offer.mode,
            source=offer.source,
            embedding=self._pack(offer),
        )

    def _pack(self, offer: Offer) -> bytes | None:
        if offer.embedding is None:
            return None
        try:
            return pack_embedding(offer.embedding)
        except ValueError as exc:
            # The other numbers are worth keeping; said once, because a network that gives one such gives many.
            if not self._has_told_of_embedding:
                log.warning("sample_embedding_left_out cause=%s", exc)
            self._has_told_of_embedding = True
            return None

    def _seal(self, offer: Offer) -> SealedImage | None:
        if self._seal_image is None or not offer.encoded:
            return None
        try:
            return self._seal_image(offer.request_id, offer.encoded)
        except GatewayError as exc:
            # The numbers are worth keeping without the image.
            self._images_failed += 1
            log.warning("sample_image_not_sealed", extra={"reason": exc.reason})
            return None

    def _hold(self, sample: Sample, offered_at: float) -> None:
        item = _Unwritten(sample, offered_at)
        with self._changed:
            if not self._unwritten:
                self._write_at = self._monotonic() + self._write_seconds
            self._unwritten.append(item)
            self._unwritten_bytes += item.held_bytes
        self._drop_unwritten(keep=self._max_unwritten)

    def _is_due(self, *, is_last: bool) -> bool:
        if not self._unwritten:
            return False
        if is_last or self._monotonic() >= self._write_at:
            return True
        is_full = (
            len(self._unwritten) >= self._batch_samples or self._unwritten_bytes >= MAX_BATCH_BYTES
        )
        # While the database fails, a full batch waits for its time like any other.
        return is_full and not self._is_backing_off

    def _write(self) -> None:
        while batch := self._next_batch():
            try:
                rejected = self._write_batch(batch)
            except SQLAlchemyError as exc:
                if not self._is_backing_off:
                    # Once for a failure that lasts, and without a trace: whoever reads it looks at the database.
                    log.warning("samples_not_written cause=%s", getattr(exc, "orig", exc))
                self._back_off()
                return
            self._release(len(batch))
            stored = [sample for sample in batch if sample not in rejected]
            self._images_kept += sum(1 for sample in stored if sample.sealed_image is not None)
            self._count(SampleOutcome.KEPT, len(stored))
            self._count(SampleOutcome.FAILED, len(rejected))
            self._is_backing_off = False

    def _next_batch(self) -> list[Sample]:
        # Samples that piled up during an outage go out in several transactions, for the lock's sake.
        batch, size = [], 0
        for item in islice(self._unwritten, self._batch_samples):
            batch.append(item.sample)
            size += item.held_bytes
            if size >= MAX_BATCH_BYTES:
                break
        return batch

    def _write_batch(self, batch: Sequence[Sample]) -> list[Sample]:
        # Killed before the commit: the samples are lost, and nothing depends on them.
        # Killed after the commit, or the commit's answer was lost: they exist; writing them again changes nothing.
        try:
            with write_transaction(self._engine) as connection:
                insert_samples(connection, batch)
        except (DataError, IntegrityError, ValueError) as exc:
            if len(batch) == 1:
                log.warning("sample_rejected", exc_info=exc)
                return list(batch)
            # One sample that the database cannot take must not hold up the others.
            return [sample for one in batch for sample in self._write_batch([one])]
        return []

    def _back_off(self) -> None:
        self._is_backing_off = True
        self._write_at = self._monotonic() + self._write_seconds

    def _release(self, count: int) -> None:
        with self._changed:
            for _ in range(count):
                self._unwritten_bytes -= self._unwritten.popleft().held_bytes
            self._write_at = self._monotonic() + self._write_seconds

    def _drop_unwritten(self, *, keep: int) -> None:
        # Oldest first. Bytes are bounded too: sealed images are the larger part.
        while len(self._unwritten) > keep or self._unwritten_bytes > self._max_queued_bytes:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        with self._changed:
            self._unwritten_bytes -= self._unwritten.popleft().held_bytes
        self._count(SampleOutcome.WRITE_FAILED, 1)

    def _count(self, outcome: SampleOutcome, count: int) -> None:
        if count == 0:
            return
        with self._changed:
            self._counts[outcome] += count
        if self._on_outcome is not None:
            self._on_outcome(outcome, count)
