"""The golden set as bytes: images, what was found in them, and from which thresholds on.

Rules: four bytes of index length (big-endian), the index as JSON, then the images one after another, nothing else.
Arrays stand in the index as base64 of little-endian float32, so that nothing is rounded. Reading is strict: one set
has exactly one encoding, and what does not encode back to the same bytes is refused.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.errors import Code, GatewayError, OperatorError
from gateway.inference.postprocess import Thresholds
from gateway.store.records import ClassRanking, Detections

MAX_IMAGES = 16
MAX_CONTENT_BYTES = 16 * 1024 * 1024

_LENGTH_BYTES = 4
_MILLION = 1_000_000
_MAX_SIDE_PIXELS = 100_000
_MAX_NUMBERS = 65_536
_MAX_SHAPES = 300

_Base64 = Annotated[str, Field(max_length=_MAX_NUMBERS * 16 // 3 + 4)]
_Count = Annotated[int, Field(ge=0, le=_MAX_NUMBERS)]
_ClassIds = Annotated[list[_Count], Field(max_length=_MAX_SHAPES)]
_Side = Annotated[int, Field(ge=1, le=_MAX_SIDE_PIXELS)]


@dataclass(frozen=True, slots=True)
class GoldenImage:
    """One image of the set and the answer that it must get.

    image: as encoded. image_shape: (height, width) in pixels. embedding: float32 (c,), or None.
    """

    name: str
    image: bytes = field(repr=False)
    image_shape: tuple[int, int]
    thresholds: Thresholds
    detections: Detections
    embedding: NDArray[np.float32] | None


def pack_golden(images: Sequence[GoldenImage]) -> bytes:
    """The one encoding of a set. Raises OperatorError with DATASET_INVALID if it is empty or does not fit."""
    if not 1 <= len(images) <= MAX_IMAGES:
        raise OperatorError(
            Code.DATASET_INVALID, f"a golden set has 1 to {MAX_IMAGES} images, not {len(images)}"
        )
    if sum(len(image.image) for image in images) > MAX_CONTENT_BYTES:
        raise _too_large()
    try:
        content = _encode(images)
    except ValidationError as exc:
        place = exc.errors(include_url=False, include_input=False)[0]["loc"][0]
        raise OperatorError(
            Code.DATASET_INVALID,
            f"an image does not fit a golden set because of its {place}: take another one, "
            "with a file name of at most 255 plain characters",
        ) from exc
    if len(content) > MAX_CONTENT_BYTES:
        raise _too_large()
    return content


def parse_golden(unverified: bytes | memoryview) -> list[GoldenImage]:
    """The set in these bytes. Raises OperatorError with MODEL_UNSUPPORTED for anything but its one encoding."""
    if len(unverified) > MAX_CONTENT_BYTES:
        raise _unreadable()
    content = bytes(unverified)
    try:
        images = _decode(content)
        is_same = _encode(images) == content
    except (ValidationError, ValueError, GatewayError, RecursionError) as exc:
        raise _unreadable() from exc
    if not is_same:
        raise _unreadable()
    return images


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class _RankingEntry(_Strict):
    class_ids: _ClassIds
    confidences: _Base64


class _KeypointsEntry(_Strict):
    points: Annotated[int, Field(ge=1, le=1_000)]
    numbers: Literal[2, 3]
    values: _Base64


class _Entry(_Strict):
    name: Annotated[str, Field(min_length=1, max_length=255)]
    length: Annotated[int, Field(ge=1, le=MAX_CONTENT_BYTES)]
    height: _Side
    width: _Side
    confidence_millionths: int
    iou_millionths: int
    max_detections: int
    class_ids: _ClassIds
    confidences: _Base64
    boxes: _Base64
    embedding: _Base64 | None = None
    polygons: Annotated[list[_Base64], Field(max_length=_MAX_SHAPES)] | None = None
    keypoints: _KeypointsEntry | None = None
    corners: _Base64 | None = None
    ranking: _RankingEntry | None = None


class _Index(_Strict):
    format: Literal[1]
    images: Annotated[list[_Entry], Field(min_length=1, max_length=MAX_IMAGES)]


def _encode(images: Sequence[GoldenImage]) -> bytes:
    index = _Index(format=1, images=[_entry_of(image) for image in images])
    text = json.dumps(
        index.model_dump(exclude_none=True),
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    ).encode()
    length = len(text).to_bytes(_LENGTH_BYTES, "big")
    return b"".join((length, text, *(image.image for image in images)))


def _decode(content: bytes) -> list[GoldenImage]:
    start = _LENGTH_BYTES
    end = start + int.from_bytes(content[:start], "big")
    index = _Index.model_validate_json(content[start:end])
    if len({entry.name for entry in index.images}) != len(index.images):
        raise ValueError("two images of one name")
    if end + sum(entry.length for entry in index.images) != len(content):
        raise ValueError("not as long as its images")
    images = []
    for entry in index.images:
        start, end = end, end + entry.length
        images.append(_image_of(entry, content[start:end]))
    return images


def _entry_of(image: GoldenImage) -> _Entry:
    found = image.detections
    keypoints, ranking = found.keypoints, found.ranking
    return _Entry(
        name=image.name,
        length=len(image.image),
        height=image.image_shape[0],
        width=image.image_shape[1],
        confidence_millionths=round(image.thresholds.confidence * _MILLION),
        iou_millionths=round(image.thresholds.iou * _MILLION),
        max_detections=image.thresholds.max_detections,
        class_ids=found.class_ids.tolist(),
        confidences=_text(found.confidences),
        boxes=_text(found.boxes_xyxy),
        embedding=_text_or_none(image.embedding),
        polygons=None if found.polygons is None else [_text(points) for points in found.polygons],
        keypoints=None
        if keypoints is None
        else _KeypointsEntry(
            points=keypoints.shape[1],
            numbers=3 if keypoints.shape[2] == 3 else 2,
            values=_text(keypoints),
        ),
        corners=_text_or_none(found.corners),
        ranking=None
        if ranking is None
        else _RankingEntry(
            class_ids=ranking.class_ids.tolist(), confidences=_text(ranking.confidences)
        ),
    )


def _image_of(entry: _Entry, image: bytes) -> GoldenImage:
    return GoldenImage(
        name=entry.name,
        image=image,
        image_shape=(entry.height, entry.width),
        thresholds=Thresholds(
            confidence=entry.confidence_millionths / _MILLION,
            iou=entry.iou_millionths / _MILLION,
            max_detections=entry.max_detections,
        ),
        detections=_detections_of(entry),
        embedding=None if entry.embedding is None else _array(entry.embedding, -1),
    )


def _detections_of(entry: _Entry) -> Detections:
    count = len(entry.class_ids)
    polygons, keypoints, ranking = entry.polygons, entry.keypoints, entry.ranking
    if polygons is not None and len(polygons) != count:
        raise ValueError("not one polygon a box")
    return Detections(
        boxes_xyxy=_array(entry.boxes, count, 4),
        confidences=_array(entry.confidences, count),
        class_ids=np.array(entry.class_ids, np.int64),
        polygons=None if polygons is None else tuple(_array(points, -1, 2) for points in polygons),
        keypoints=None
        if keypoints is None
        else _array(keypoints.values, count, keypoints.points, keypoints.numbers),
        corners=None if entry.corners is None else _array(entry.corners, count, 4, 2),
        ranking=None
        if ranking is None
        else ClassRanking(
            class_ids=np.array(ranking.class_ids, np.int64),
            confidences=_array(ranking.confidences, len(ranking.class_ids)),
        ),
    )


def _text(array: NDArray[np.float32]) -> str:
    return base64.b64encode(array.astype("<f4").tobytes()).decode("ascii")


def _text_or_none(array: NDArray[np.float32] | None) -> str | None:
    return None if array is None else _text(array)


def _array(text: str, *shape: int) -> NDArray[np.float32]:
    """The array in base64. Raises ValueError if it does not fill the shape or holds what is no number."""
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as exc:
        raise ValueError("no base64") from exc
    array = np.frombuffer(raw, "<f4").astype(np.float32).reshape(shape)
    if not np.isfinite(array).all():
        raise ValueError("not finite")
    return array


def _too_large() -> OperatorError:
    return OperatorError(
        Code.DATASET_INVALID,
        f"the golden set is larger than {MAX_CONTENT_BYTES >> 20} MiB: take fewer or smaller images",
    )


def _unreadable() -> OperatorError:
    return OperatorError(
        Code.MODEL_UNSUPPORTED,
        "the golden set of the sealed model cannot be read: seal the model again with this version",
    )
