"""Windows over the samples that the gateway stored."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Connection, select

from gateway.store.records import Sample
from gateway.store.tables import samples as samples_table
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
    samples = read_samples(
        connection, model_name=model_name, model_version=model_version, newest=newest
    )
    if after is not None:
        samples = [sample for sample in samples if sample.received_at > after]
    return build_window(
        measurements(samples),
        names=names,
        newest_request_id=samples[-1].request_id if samples else None,
        newest_received_at=samples[-1].received_at if samples else None,
    )


def read_samples(
    connection: Connection, *, model_name: str, model_version: str, newest: int
) -> Sequence[Sample]:
    """The newest samples of a model version, oldest first."""
    import json

    t = samples_table
    query = (
        select(t)
        .where(t.c.model_name == model_name, t.c.model_version == model_version)
        .order_by(t.c.id.desc())
        .limit(newest)
    )
    return [
        Sample(
            request_id=r.request_id,
            received_at=r.received_at,
            model_name=r.model_name,
            model_version=r.model_version,
            principal=r.principal,
            input_sha256=r.input_sha256,
            features=json.loads(r.features),
            detections=tuple(tuple(d) for d in json.loads(r.detections)),
            kept_probability=r.kept_probability,
            image_probability=r.image_probability,
        )
        for r in connection.execute(query)
    ][::-1]


def measurements(samples: Sequence[Sample]) -> list[Measurement]:
    """What is compared of each sample."""
    return [Measurement(features=s.features, detections=s.detections) for s in samples]
