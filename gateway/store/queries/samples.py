"""SQL over samples and sample_images."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite

from gateway.store.records import Sample, SealedImage, StoredSample
from gateway.store.tables import sample_images, samples

# allow_nan: a missing number is None; NaN and infinity are not JSON and must not reach a reader.
_dump = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode

_OF_MODEL = select(samples).where(
    samples.c.model_name == bindparam("of_name"), samples.c.model_version == bindparam("of_version")
)


def insert_samples(connection: Connection, new_samples: Sequence[Sample]) -> None:
    """Store samples and the images they carry; one whose request_id is stored already is left out.

    Storing the same again is no error, so that a write whose commit had an unknown end can simply be repeated.
    Raises ValueError if a feature is NaN or infinite.
    """
    rows = [_row(sample) for sample in new_samples]
    images: list[dict[str, object]] = [
        {
            "request_id": sample.request_id,
            "key_id": sample.sealed_image.key_id,
            "ciphertext": sample.sealed_image.ciphertext,
        }
        for sample in new_samples
        if sample.sealed_image is not None
    ]
    _insert_new(connection, samples, rows)
    _insert_new(connection, sample_images, images)


def load_window(
    connection: Connection,
    model_name: str,
    model_version: str,
    *,
    newest: int,
    since: datetime | None = None,
) -> Sequence[StoredSample]:
    """The newest samples of a model version, oldest first.

    since: leave out what was received before.
    """
    query = _OF_MODEL.order_by(samples.c.id.desc()).limit(newest)
    if since is not None:
        query = query.where(samples.c.received_at >= since)
    return _load(connection, query, model_name, model_version)[::-1]


def load_samples_after(
    connection: Connection, model_name: str, model_version: str, *, after_id: int, limit: int
) -> Sequence[StoredSample]:
    """The oldest samples with larger ids, oldest first, at most limit.

    With several gateways on PostgreSQL an id can appear after a larger one: transactions end in another order than
    they took their ids. A reader that must miss nothing has to look back a little.
    """
    query = _OF_MODEL.where(samples.c.id > after_id).order_by(samples.c.id).limit(limit)
    return _load(connection, query, model_name, model_version)


def load_samples_between(
    connection: Connection,
    model_name: str,
    model_version: str,
    *,
    start: datetime,
    end: datetime,
    limit: int,
) -> Sequence[StoredSample]:
    """The samples received from start up to but not including end, oldest first, at most limit."""
    query = (
        _OF_MODEL.where(samples.c.received_at >= start, samples.c.received_at < end)
        .order_by(samples.c.id)
        .limit(limit)
    )
    return _load(connection, query, model_name, model_version)


def latest_sample_id(connection: Connection, model_name: str, model_version: str) -> int:
    """The id of the newest sample of a model version; 0 if it has none."""
    query = select(func.max(samples.c.id)).where(
        samples.c.model_name == model_name, samples.c.model_version == model_version
    )
    return connection.execute(query).scalar_one() or 0


def find_sealed_image(connection: Connection, request_id: str) -> SealedImage | None:
    """The kept image of a request, if there is one."""
    query = select(sample_images).where(sample_images.c.request_id == request_id)
    row = connection.execute(query).one_or_none()
    return None if row is None else SealedImage(row.key_id, bytes(row.ciphertext))


def _insert_new(connection: Connection, table: Table, rows: list[dict[str, object]]) -> None:
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        connection.execute(postgresql.insert(table).on_conflict_do_nothing(), rows)
    else:
        connection.execute(sqlite.insert(table).on_conflict_do_nothing(), rows)


def _row(sample: Sample) -> dict[str, object]:
    return {
        "request_id": sample.request_id,
        "received_at": sample.received_at,
        "model_name": sample.model_name,
        "model_version": sample.model_version,
        "principal": sample.principal,
        "input_sha256": sample.input_sha256,
        "features": _dump(sample.features),
        "detections": _dump(sample.detections),
        "kept_probability": sample.kept_probability,
        "image_probability": sample.image_probability,
    }


def _load(
    connection: Connection, query: Select[Any], model_name: str, model_version: str
) -> list[StoredSample]:
    result = connection.execute(query, {"of_name": model_name, "of_version": model_version})
    return [_stored_sample(row) for row in result]


def _stored_sample(row: Row[Any]) -> StoredSample:
    sample = Sample(
        request_id=row.request_id,
        received_at=row.received_at,
        model_name=row.model_name,
        model_version=row.model_version,
        principal=row.principal,
        input_sha256=row.input_sha256,
        features=json.loads(row.features),
        detections=tuple(map(tuple, json.loads(row.detections))),
        kept_probability=row.kept_probability,
        image_probability=row.image_probability,
    )
    return StoredSample(row.id, sample)
