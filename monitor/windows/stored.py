"""What the gateway stored, as it is compared: measurements of samples, and the newest of them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from gateway.store.embeddings import unpack_embedding
from gateway.store.queries.samples import load_window
from gateway.store.records import Sample
from monitor.records import Measurement, Window
from monitor.summaries import Fit
from monitor.windows.sides import window_of
from monitor.windows.summarise import ReferenceSample
from monitor.windows.thinning import choose_samples


def read_window(
    connection: Connection,
    *,
    model_name: str,
    model_version: str,
    newest: int,
    after: datetime | None,
    fit: Fit,
    names: Sequence[str],
    thin_seconds: float = 0.0,
) -> Window:
    """The newest samples of a model version, of at most `newest` rows, as a window of a reference's features.

    after: leave out what was received then or earlier (a reference must not be compared with itself). thin_seconds: see
    monitor.windows.thinning.
    """
    bad_rows: list[int] = []
    samples = read_samples(
        connection,
        model_name=model_name,
        model_version=model_version,
        newest=newest,
        after=after,
        on_bad_row=bad_rows.append,
    )
    chosen = choose_samples(samples, thin_seconds=thin_seconds).samples
    return replace(sample_window(chosen, fit=fit, names=names), bad_count=len(bad_rows))


def sample_window(samples: Sequence[Sample], *, fit: Fit, names: Sequence[str]) -> Window:
    """Stored samples as a window of a reference's features, in their order, the newest last."""
    return replace(
        window_of(measurements(samples), fit=fit, names=names),
        newest_request_id=samples[-1].request_id if samples else None,
        newest_received_at=samples[-1].received_at if samples else None,
        received_at=tuple(sample.received_at for sample in samples),
    )


def read_samples(
    connection: Connection,
    *,
    model_name: str,
    model_version: str,
    newest: int,
    after: datetime | None = None,
    on_bad_row: Callable[[int], None],
) -> list[Sample]:
    """The newest samples of a model version, oldest first; after: see read_window.

    on_bad_row: called with the id of each row that holds no sample.
    """
    stored = load_window(
        connection, model_name, model_version, newest=newest, since=after, on_bad_row=on_bad_row
    )
    # The query includes the time itself.
    return [s.sample for s in stored if after is None or s.sample.received_at > after]


def measurement(sample: Sample) -> Measurement:
    """What is compared of a sample."""
    return Measurement(
        features=sample.features,
        detections=sample.detections,
        embedding=None if sample.embedding is None else unpack_embedding(sample.embedding),
    )


def measurements(samples: Sequence[Sample]) -> list[Measurement]:
    """What is compared of each sample."""
    return [measurement(sample) for sample in samples]


def reference_sample(sample: Sample) -> ReferenceSample:
    """A stored sample as references take it; its client is its principal."""
    return ReferenceSample(
        measurement=measurement(sample),
        received_at=sample.received_at,
        client=sample.principal,
        source=sample.source,
        request_id=sample.request_id,
    )
