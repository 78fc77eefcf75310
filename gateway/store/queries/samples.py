"""SQL over samples and sample_images.

Rules: what is read is checked row by row; a row that does not hold a sample is skipped and told to the caller, because
one of them must not hide all others. Samples are read by model version, so that what a shadow or a canary answered
never stands among the samples of the version in production.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    Select,
    String,
    Table,
    bindparam,
    func,
    select,
    type_coerce,
)
from sqlalchemy.dialects import postgresql, sqlite

from gateway.store.records import Sample, SampleMode, SealedImage, StoredSample
from gateway.store.tables import sample_images, samples

# allow_nan: a missing number is None; NaN and infinity are not JSON and must not reach a reader.
_dump = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode

# They become labels of metrics and names in reports.
FEATURE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_DETECTION_LENGTH = 6

# As text: a time that cannot be parsed would otherwise end the whole query.
_COLUMNS = [column for column in samples.c if column is not samples.c.received_at]
_OF_MODEL = select(*_COLUMNS, type_coerce(samples.c.received_at, String).label("raw_time")).where(
    samples.c.model_name == bindparam("of_name"), samples.c.model_version == bindparam("of_version")
)

OnBadRow = Callable[[int], None]


def _ignore(_row_id: int) -> None:
    """For callers who count nothing."""


def insert_samples(connection: Connection, new_samples: Sequence[Sample]) -> None:
    """Store samples and the images they carry; one whose request_id is stored already in its mode is left out.

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
    on_bad_row: OnBadRow = _ignore,
) -> Sequence[StoredSample]:
    """The newest samples of a model version, oldest first.

    newest: of the rows looked at, bad ones among them. since: leave out what was received before. on_bad_row: called
    with the id of each row that holds no sample.
    """
    query = _OF_MODEL.order_by(samples.c.id.desc()).limit(newest)
    if since is not None:
        query = query.where(samples.c.received_at >= since)
    return _load(connection, query, model_name, model_version, on_bad_row)[::-1]


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
        "mode": sample.mode.value,
    }


def _load(
    connection: Connection,
    query: Select[Any],
    model_name: str,
    model_version: str,
    on_bad_row: OnBadRow = _ignore,
) -> list[StoredSample]:
    loaded: list[StoredSample] = []
    for row in connection.execute(query, {"of_name": model_name, "of_version": model_version}):
        try:
            loaded.append(_stored_sample(row))
        except (ValueError, OverflowError, RecursionError):
            on_bad_row(row.id)
    return loaded


def _stored_sample(row: Row[Any]) -> StoredSample:
    """Raises ValueError, OverflowError or RecursionError if the row does not hold a sample."""
    sample = Sample(
        request_id=_text(row.request_id),
        received_at=_time(row.raw_time),
        model_name=row.model_name,
        model_version=row.model_version,
        principal=_text(row.principal),
        input_sha256=_text(row.input_sha256),
        features=_features(json.loads(_text(row.features))),
        detections=_detections(json.loads(_text(row.detections))),
        kept_probability=_number(row.kept_probability),
        image_probability=_number(row.image_probability),
        mode=SampleMode(row.mode),
    )
    return StoredSample(row.id, sample)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")  # noqa: TRY004  (one family for whatever is wrong with a row)
    return value


def _time(value: object) -> datetime:
    # SQLite gives the text it holds, in UTC and without a zone; PostgreSQL an aware time.
    time = value if isinstance(value, datetime) else datetime.fromisoformat(_text(value))
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _features(value: object) -> dict[str, float | None]:
    if not isinstance(value, dict) or not all(map(FEATURE_NAME.fullmatch, value)):
        raise ValueError("not an object of features")
    return {name: None if entry is None else _number(entry) for name, entry in value.items()}


def _detections(value: object) -> tuple[tuple[int, float, float, float, float, float], ...]:
    if not isinstance(value, list):
        raise ValueError("not a list of detections")  # noqa: TRY004  (the same)
    return tuple(map(_detection, value))


def _detection(value: object) -> tuple[int, float, float, float, float, float]:
    if not isinstance(value, list) or len(value) != _DETECTION_LENGTH:
        raise ValueError("not a detection")
    class_id = value[0]
    if type(class_id) is not int or class_id < 0:
        raise ValueError("not a class id")
    confidence, x1, y1, x2, y2 = map(_number, value[1:])
    return class_id, confidence, x1, y1, x2, y2


def _number(value: object) -> float:
    # bool is an int to Python; NaN and 1e400 are numbers to its JSON reader.
    if type(value) is not float and type(value) is not int:
        raise ValueError("not a number")
    if not math.isfinite(value):
        raise ValueError("not a finite number")
    return float(value)
