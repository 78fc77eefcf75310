"""Sample files: one JSON object a line, as `gateway features` prints them. Strict; errors name the line.

Rules: lines of an older gateway, which had no embedding, are read as those of a network that has none.
"""

import base64
import json
import math
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.store.embeddings import unpack_embedding
from gateway.store.queries.samples import FEATURE_NAME
from monitor.records import Measurement, SampleLine, SampleLineError

# Ten thousand boxes take less; a longer line is not ours.
MAX_LINE_CHARACTERS = 1 << 20
MEMBERS = frozenset({"features", "detections", "model_name", "model_version", "received_at"})
OPTIONAL_MEMBERS = frozenset({"embedding"})
DETECTION_LENGTH = 6
MAX_CLASS_ID = 1_000_000


class _LineInvalidError(Exception):
    """What is wrong with a line, before its number is known."""


def parse_sample_line(line: str, *, number: int) -> SampleLine:
    """One line of a sample file. number: counts from 1, for the message.

    Raises SampleLineError unless the line is one object with exactly the five members and perhaps an embedding, finite
    numbers, boxes with x1 <= x2 and y1 <= y2, and an aware time.
    """
    try:
        return _sample_line(_load(line))
    except _LineInvalidError as exc:
        raise SampleLineError(f"line {number}: {exc}") from exc


def _load(line: str) -> dict[str, Any]:
    if len(line) > MAX_LINE_CHARACTERS:
        raise _LineInvalidError(f"longer than {MAX_LINE_CHARACTERS} characters")
    try:
        value = json.loads(line, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as exc:
        raise _LineInvalidError(f"not JSON: {exc.msg} at column {exc.colno}") from exc
    except ValueError as exc:
        raise _LineInvalidError("a number with too many digits") from exc
    except RecursionError as exc:
        raise _LineInvalidError("nested too deeply") from exc
    if not isinstance(value, dict):
        raise _LineInvalidError("not a JSON object")
    return value


def _sample_line(value: dict[str, Any]) -> SampleLine:
    if value.keys() - OPTIONAL_MEMBERS != MEMBERS:
        raise _LineInvalidError(f"members are {sorted(value)}, expected {sorted(MEMBERS)}")
    return SampleLine(
        measurement=Measurement(
            features=_features(value["features"]),
            detections=_detections(value["detections"]),
            embedding=_embedding(value.get("embedding")),
        ),
        model_name=_text(value["model_name"], "model_name", max_length=128),
        model_version=_text(value["model_version"], "model_version", max_length=64),
        received_at=_time(value["received_at"]),
    )


def _features(value: object) -> dict[str, float | None]:
    if not isinstance(value, dict):
        raise _LineInvalidError("features is not an object")
    for name in value:
        if not FEATURE_NAME.fullmatch(name):
            raise _LineInvalidError(
                f"feature name {name[:40]!r} is not lower_case_words of at most 64"
            )
    return {
        name: None if entry is None else _number(entry, f"feature {name}")
        for name, entry in value.items()
    }


def _detections(value: object) -> tuple[tuple[int, float, float, float, float, float], ...]:
    if not isinstance(value, list):
        raise _LineInvalidError("detections is not a list")
    return tuple(_detection(entry) for entry in value)


def _detection(value: object) -> tuple[int, float, float, float, float, float]:
    if not isinstance(value, list) or len(value) != DETECTION_LENGTH:
        raise _LineInvalidError("a detection is not [class_id, confidence, x1, y1, x2, y2]")
    class_id = value[0]
    if type(class_id) is not int or not 0 <= class_id <= MAX_CLASS_ID:
        raise _LineInvalidError("a class_id is not a whole number >= 0")
    confidence, x1, y1, x2, y2 = (_number(entry, "a detection") for entry in value[1:])
    if not 0.0 <= confidence <= 1.0:
        raise _LineInvalidError("a confidence is not in 0..1")
    if x1 > x2 or y1 > y2:
        raise _LineInvalidError("a box has x1 > x2 or y1 > y2")
    return class_id, confidence, x1, y1, x2, y2


def _embedding(value: object) -> NDArray[np.float32] | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise _LineInvalidError("embedding is neither null nor a text")
    try:
        return unpack_embedding(_base64(value))
    except ValueError as exc:
        raise _LineInvalidError(f"embedding is not base64 of a packed embedding: {exc}") from exc


def _base64(text: str) -> bytes:
    content = base64.b64decode(text, validate=True)
    if base64.b64encode(content).decode("ascii") != text:
        raise ValueError("unused bits are not zero")
    return content


def _number(value: object, what: str) -> float:
    # bool is an int to Python; true is not a number to us.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _LineInvalidError(f"{what} holds something that is not a number")
    try:
        number = float(value)
    except OverflowError as exc:
        raise _LineInvalidError(f"{what} holds a number beyond a double's range") from exc
    if not math.isfinite(number):
        raise _LineInvalidError(f"{what} holds a number beyond a double's range")
    return number


def _text(value: object, what: str, *, max_length: int) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= max_length:
        raise _LineInvalidError(f"{what} is not a text of 1 to {max_length} characters")
    return value


def _time(value: object) -> datetime:
    if not isinstance(value, str):
        raise _LineInvalidError("received_at is not a text")
    try:
        time = datetime.fromisoformat(value)
    except ValueError as exc:
        raise _LineInvalidError("received_at is not an ISO 8601 time") from exc
    if time.tzinfo is None:
        raise _LineInvalidError("received_at has no time zone")
    return time


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _LineInvalidError("a member appears twice")
    return members


def _no_constant(name: str) -> float:
    raise _LineInvalidError(f"{name} is not a JSON number")
