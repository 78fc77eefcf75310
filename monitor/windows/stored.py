"""Windows over the samples that the gateway stored."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from gateway.store.queries.samples import load_window
from gateway.store.records import Sample
from monitor.records import Measurement, Window
from monitor.windows.arrays import build_window


def read_window(
    connection: Connection,
    *,
    model_name: str,
    model_version: str,
    newest: int,
    after: datetime | None,
    names: Iterable[str],
) -> Window:
    """The current window: the newest samples of a model version, at most `newest` of them.

    after: leave out what was received then or earlier (a reference must not be compared with itself).
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
    window = build_window(
        measurements(samples),
        names=names,
        newest_request_id=samples[-1].request_id if samples else None,
        newest_received_at=samples[-1].received_at if samples else None,
    )
    return replace(window, bad_count=len(bad_rows))


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


def measurements(samples: Sequence[Sample]) -> list[Measurement]:
    """What is compared of each sample."""
    return [Measurement(features=s.features, detections=s.detections) for s in samples]
