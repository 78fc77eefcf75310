"""References for tests, made of a few numbers."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from monitor.records import Measurement, Reference
from monitor.summaries import ReferenceSummary
from monitor.windows.slicing import WHOLE_DAY, Bands
from monitor.windows.summarise import ReferenceSample, summarise

START = datetime(2030, 1, 1, tzinfo=UTC)
BOX = (0.9, 0.0, 0.0, 1.0, 1.0)


def found(*class_ids: int) -> Measurement:
    """Nothing but boxes of these classes."""
    return Measurement(features={}, detections=tuple((each, *BOX) for each in class_ids))


def measured(**features: float | None) -> Measurement:
    """Nothing but these numbers."""
    return Measurement(features=features, detections=())


def embedded(embedding: NDArray[np.float32] | None) -> Measurement:
    """Nothing but an embedding."""
    return Measurement(features={}, detections=(), embedding=embedding)


def draw_samples(
    count: int,
    *,
    seed: int = 0,
    features: int = 2,
    embedding: int = 8,
    sources: Sequence[str | None] = (None,),
    clients: Sequence[str | None] = (None,),
    minutes: float = 7.0,
) -> list[ReferenceSample]:
    """Samples of chance, so many minutes apart, whose cameras and clients take turns."""
    rng = np.random.default_rng(seed)
    samples: list[ReferenceSample] = []
    for number in range(count):
        numbers: dict[str, float | None] = {
            f"f{n:02}": float(rng.normal()) for n in range(features)
        }
        boxes = tuple((int(class_id), *BOX) for class_id in rng.integers(0, 12, size=3))
        vector = rng.normal(size=embedding).astype(np.float32) if embedding else None
        samples.append(
            ReferenceSample(
                measurement=Measurement(numbers, boxes, vector),
                received_at=START + timedelta(minutes=minutes * number),
                client=clients[number % len(clients)],
                source=sources[number % len(sources)],
                request_id=f"00000000-0000-4000-8000-{number:012}",
            )
        )
    return samples


def draw_summary(
    count: int, *, bands: Bands = WHOLE_DAY, max_slices: int = 0, seed: int = 0, features: int = 2
) -> ReferenceSummary:
    """The reference of such samples."""
    samples = draw_samples(count, seed=seed, features=features, sources=("a", "b"))
    return summarise(samples, bands=bands, max_slices=max_slices, preprocessing="p")


def reference_of(
    summary: ReferenceSummary,
    *,
    reference_id: int = 1,
    version: str = "1",
    covers_until: datetime | None = None,
) -> Reference:
    """A stored reference with this content."""
    return Reference(
        id=reference_id,
        model_name="conveyor",
        model_version=version,
        created_at=START,
        source="images/train",
        covers_until=covers_until,
        summary=summary,
    )
