"""SQL over samples and sample_images.

Rules: what is read is checked row by row; a row that does not hold a sample is skipped and told to the caller, because
one of them must not hide all others; so is one of more than MAX_FEATURES features, MAX_DETECTIONS detections or
MAX_TEXT_CHARACTERS in either: none of ours is. Samples are read by model version, so that what a shadow or a canary
answered never stands among the samples of the version in production. Every query goes along ix_samples_model or the
primary key and looks at no more rows than it was told, so that its time does not grow with the table.
"""

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    Select,
    String,
    Table,
    bindparam,
    case,
    func,
    select,
    type_coerce,
)
from sqlalchemy.dialects import postgresql, sqlite

from gateway.store.embeddings import unpack_embedding
from gateway.store.records import Sample, SampleMode, SealedImage, StoredSample
from gateway.store.rows import OnBadRow, fetch_rows
from gateway.store.tables import sample_images, samples

# allow_nan: a missing number is None; NaN and infinity are not JSON and must not reach a reader.
_dump = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode

# They become labels of metrics and names in reports.
FEATURE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
# What a camera may be called: it becomes a label, a name in reports and a word of commands.
SOURCE_NAME = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_DETECTION_LENGTH = 6
# Of one row: far more than a gateway writes, and little enough for a reader that meets a page of them.
MAX_FEATURES = 256
MAX_DETECTIONS = 10_000
MAX_TEXT_CHARACTERS = 4_000_000

# As text: a time that cannot be parsed would otherwise end the whole query.
_BOUNDED = (samples.c.features, samples.c.detections)
_COLUMNS = [c for c in samples.c if c is not samples.c.received_at and c not in _BOUNDED]
_ALL = select(
    *_COLUMNS,
    # What is too long is not even fetched.
    *(case((func.length(c) <= MAX_TEXT_CHARACTERS, c)).label(c.name) for c in _BOUNDED),
    type_coerce(samples.c.received_at, String).label("raw_time"),
)
_IS_OF_MODEL = (
    samples.c.model_name == bindparam("of_name"),
    samples.c.model_version == bindparam("of_version"),
)
_OF_MODEL = _ALL.where(*_IS_OF_MODEL)
_PRINCIPALS = select(samples.c.principal)
# Of one statement; SQLite takes 32,766 and an older one 999.
_IDS_AT_ONCE = 500


def _ignore(_row_id: int) -> None:
    """For callers who count nothing."""


def insert_samples(connection: Connection, new_samples: Sequence[Sample]) -> None:
    """Store samples and the images they carry; one whose request_id is stored already in its mode is left out.

    Storing the same again is no error, so that a write whose commit had an unknown end can simply be repeated.
    Raises ValueError if a feature is NaN or infinite, or an embedding is none.
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

    newest: of the rows looked at, bad ones among them. since: leave out those of them that were received before.
    on_bad_row: called with the id of each row that holds no sample.
    """
    query = _OF_MODEL.order_by(samples.c.id.desc()).limit(newest)
    loaded = _load(connection, query, _parameters(model_name, model_version), on_bad_row)[::-1]
    # Not in SQL: where few are new enough, it would look for more through the whole table.
    return [s for s in loaded if since is None or s.sample.received_at >= since]


def load_samples_after(
    connection: Connection,
    model_name: str,
    model_version: str,
    *,
    after_id: int,
    limit: int,
    on_bad_row: OnBadRow = _ignore,
) -> Sequence[StoredSample]:
    """The oldest samples with larger ids, oldest first. limit: of the rows looked at, bad ones among them.

    With several gateways on PostgreSQL an id can appear after a larger one: transactions end in another order than
    they took their ids. A reader that must miss nothing has to look back a little. on_bad_row: as for load_window.
    """
    query = _OF_MODEL.where(samples.c.id > after_id).order_by(samples.c.id).limit(limit)
    return _load(connection, query, _parameters(model_name, model_version), on_bad_row)


def list_sample_ids_after(
    connection: Connection, model_name: str, model_version: str, *, after_id: int, limit: int
) -> Sequence[int]:
    """The smallest larger ids of a model version's rows, in order, at most limit, whatever the rows hold.

    Which of them are worth reading is the reader's to choose; load_samples_by_ids reads those. An id can appear late,
    see load_samples_after.
    """
    query = (
        select(samples.c.id)
        .where(*_IS_OF_MODEL, samples.c.id > after_id)
        .order_by(samples.c.id)
        .limit(limit)
    )
    return connection.execute(query, _parameters(model_name, model_version)).scalars().all()


def count_samples_after(
    connection: Connection, model_name: str, model_version: str, *, after_id: int, limit: int
) -> int:
    """How many rows of a model version have larger ids, counted along the index up to limit."""
    some = (
        select(samples.c.id).where(*_IS_OF_MODEL, samples.c.id > after_id).limit(limit).subquery()
    )
    query = select(func.count()).select_from(some)
    return int(connection.execute(query, _parameters(model_name, model_version)).scalar_one())


def load_samples_by_ids(
    connection: Connection, ids: Collection[int], *, on_bad_row: OnBadRow = _ignore
) -> Sequence[StoredSample]:
    """The samples of these ids, oldest first; an id without a row is left out. on_bad_row: as for load_window."""
    wanted = sorted(set(ids))
    query = _ALL.where(samples.c.id.in_(bindparam("ids", expanding=True))).order_by(samples.c.id)
    loaded: list[StoredSample] = []
    for start in range(0, len(wanted), _IDS_AT_ONCE):
        some = wanted[start : start + _IDS_AT_ONCE]
        loaded += _load(connection, query, {"ids": some}, on_bad_row)
    return loaded


def list_principals(
    connection: Connection, model_name: str, model_version: str, *, newest: int
) -> frozenset[str]:
    """The principals of the newest samples of a model version. newest: of the rows looked at."""
    query = _PRINCIPALS.where(*_IS_OF_MODEL).order_by(samples.c.id.desc()).limit(newest)
    return _principals(connection, query, _parameters(model_name, model_version))


def list_principals_by_ids(connection: Connection, ids: Collection[int]) -> frozenset[str]:
    """The principals of the samples of these ids; an id without a row is left out."""
    wanted = sorted(set(ids))
    query = _PRINCIPALS.where(samples.c.id.in_(bindparam("ids", expanding=True)))
    found: set[str] = set()
    for start in range(0, len(wanted), _IDS_AT_ONCE):
        some = {"ids": wanted[start : start + _IDS_AT_ONCE]}
        found |= _principals(connection, query, some)
    return frozenset(found)


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
    return _load(connection, query, _parameters(model_name, model_version))


def latest_sample_id(connection: Connection, model_name: str, model_version: str) -> int:
    """The id of the newest sample of a model version; 0 if it has none."""
    query = select(func.max(samples.c.id)).where(*_IS_OF_MODEL)
    return connection.execute(query, _parameters(model_name, model_version)).scalar_one() or 0


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


def _parameters(model_name: str, model_version: str) -> dict[str, str]:
    return {"of_name": model_name, "of_version": model_version}


def _row(sample: Sample) -> dict[str, object]:
    if sample.embedding is not None:
        unpack_embedding(sample.embedding)  # what cannot be read back is not written
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
        "source": sample.source,
        "embedding": sample.embedding,
    }


def _load(
    connection: Connection,
    query: Select[Any],
    parameters: Mapping[str, object],
    on_bad_row: OnBadRow = _ignore,
) -> list[StoredSample]:
    loaded: list[StoredSample] = []
    for row in fetch_rows(connection, query, parameters, on_bad_row=on_bad_row):
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
        features=_features(_json(row.features)),
        detections=_detections(_json(row.detections)),
        kept_probability=_number(row.kept_probability),
        image_probability=_number(row.image_probability),
        mode=SampleMode(row.mode),
        source=None if row.source is None else _source(row.source),
        embedding=None if row.embedding is None else _embedding(row.embedding),
    )
    return StoredSample(row.id, sample)


def _principals(
    connection: Connection, query: Select[Any], parameters: Mapping[str, object]
) -> frozenset[str]:
    rows = fetch_rows(connection, query, parameters, on_bad_row=_ignore)
    return frozenset(row.principal for row in rows if isinstance(row.principal, str))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")  # noqa: TRY004  (one family for whatever is wrong with a row)
    return value


def _json(value: object) -> object:
    text = _text(value)
    # SQLite's length ends at the first NUL.
    if len(text) > MAX_TEXT_CHARACTERS:
        raise ValueError("too long a text")
    return json.loads(text)


def _source(value: object) -> str:
    text = _text(value)
    if not SOURCE_NAME.fullmatch(text):
        raise ValueError("not the name of a source")
    return text


def _embedding(value: object) -> bytes:
    # SQLite gives the text that somebody wrote into a column of bytes; PostgreSQL's driver a memoryview.
    if not isinstance(value, bytes | memoryview):
        raise ValueError("not bytes")  # noqa: TRY004  (the same)
    packed = bytes(value)
    unpack_embedding(packed)
    return packed


def _time(value: object) -> datetime:
    # SQLite gives the text it holds, in UTC and without a zone; PostgreSQL an aware time.
    time = value if isinstance(value, datetime) else datetime.fromisoformat(_text(value))
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _features(value: object) -> dict[str, float | None]:
    if not isinstance(value, dict) or not all(map(FEATURE_NAME.fullmatch, value)):
        raise ValueError("not an object of features")
    if len(value) > MAX_FEATURES:
        raise ValueError("too many features")
    return {name: None if entry is None else _number(entry) for name, entry in value.items()}


def _detections(value: object) -> tuple[tuple[int, float, float, float, float, float], ...]:
    if not isinstance(value, list):
        raise ValueError("not a list of detections")  # noqa: TRY004  (the same)
    if len(value) > MAX_DETECTIONS:
        raise ValueError("too many detections")
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
