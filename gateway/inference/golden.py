"""The golden set: images that travel with a sealed model and the answers that it gave when it was sealed.

Rules: what records and what checks is the same path from bytes to boxes, so a set notices changed weights, another
precision, other preprocessing and exchanged classes, wherever they come from. It compares numbers, not bits: another
processor rounds differently. It cannot notice what moves no number by more than a tolerance; that the weights are
the ones that were sealed, to the bit, is for the sealed file's own check.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from gateway.errors import Code, OperatorError
from gateway.inference.agreement import Difference, Tolerance, find_differences
from gateway.inference.golden_file import (
    MAX_CONTENT_BYTES,
    MAX_IMAGES,
    GoldenImage,
    pack_golden,
    parse_golden,
)
from gateway.inference.postprocess import MIN_CONFIDENCE, Thresholds
from gateway.store.records import Detections

# The drawn image that is smaller than the model's input, so that enlarging counts.
SMALL_IMAGE = "synthetic-4-small.png"
DEFAULT_IMAGES = 4

# Low, so that there is something to compare; where even that finds little, the strongest candidates are taken.
_USUAL = Thresholds(confidence=0.05, max_detections=50)
_FAINT = Thresholds(confidence=MIN_CONFIDENCE, max_detections=10)
_FEW_BOXES = 5
_THINGS = 12
# One box in so many may differ where two candidates that are equal up to rounding compete.
_BOXES_FOR_ONE_CONTESTED = 20


class Answer(Protocol):
    """What is compared of an answer; gateway.inference.detect.InferenceResult is one."""

    @property
    def detections(self) -> Detections:
        """What was found."""
        ...

    @property
    def embedding(self) -> NDArray[np.float32] | None:
        """The pooled backbone feature, float32 (c,), if the model has one."""
        ...

    @property
    def image_shape(self) -> tuple[int, int]:
        """(height, width) of the decoded image, pixels."""
        ...


Detect = Callable[[bytes, Thresholds], Answer]
# How work is applied to all images of a set: one after the other, or several at a time; answers keep the order.
Each = Callable[[Callable[[GoldenImage], Answer], Iterable[GoldenImage]], Iterable[Answer]]


@dataclass(frozen=True, slots=True)
class _Precision:
    """Tolerances of one precision; embedding: length of the difference over the length of the embedding.

    threshold: boxes below are not compared; None: from the set's own threshold on.
    """

    box_pixels: float
    box_ratio: float
    confidence: float
    embedding: float
    threshold: float | None


# Measured with yolov8n on 50 photographs, boxes from 0.05 (f32) or 0.25 on. f32, OpenVINO against ONNX Runtime: 0.001
# pixels, 4e-6 confidence, 9e-7 embedding; number of threads: no bit. bf16 against f32, which is what a processor
# without bfloat16 computes: 6 % of the longer side, 0.095 confidence, 0.033 embedding. int8,
# OpenVINO against ONNX Runtime: 99 of 100 boxes within 5 % of the longer side and 0.035 confidence, the worst 15 % and
# 0.34.
_LOSSY = _Precision(box_pixels=2.0, box_ratio=0.08, confidence=0.1, embedding=0.1, threshold=0.25)
_PRECISIONS: Mapping[str, _Precision] = {
    "f32": _Precision(
        box_pixels=0.02, box_ratio=0.0, confidence=1e-4, embedding=3e-5, threshold=None
    ),
    "bf16": _LOSSY,
    "int8": _LOSSY,
}


def record_golden(images: Mapping[str, bytes], detect: Detect, *, precision: str = "f32") -> bytes:
    """A golden set of these encoded images, at most 16 and 16 MiB, with what `detect` answers now.

    Raises OperatorError with DATASET_INVALID if the set is too large, or holds nothing that a check at this precision
    compares: no box strong enough and no embedding. Errors of `detect` pass.
    """
    golden = [_record(name, image, detect) for name, image in images.items()]
    if not any(_has_substance(image, _PRECISIONS[precision]) for image in golden):
        raise OperatorError(
            Code.DATASET_INVALID,
            "the model finds nothing in the golden images, so they could prove nothing: "
            "name a folder with images of what it detects",
        )
    return pack_golden(golden)


def check_golden(
    content: bytes | memoryview, detect: Detect, *, precision: str, each: Each = map
) -> list[str]:
    """How the answers differ from those recorded, naming the image; empty if they are reproduced.

    Costs one inference an image. precision: what the model is sealed for, f32, bf16 or int8; a set recorded in bf16
    is also reproduced by f32, not the other way round. each: how detect is applied to all images; it keeps their
    order. Raises OperatorError with MODEL_UNSUPPORTED if the set cannot
    be read. Errors of `detect` pass.
    """
    limits = _PRECISIONS[precision]
    differences: list[tuple[str, Difference]] = []
    boxes = 0
    images = parse_golden(content)
    answers = each(lambda golden: detect(golden.image, golden.thresholds), images)
    for golden, answer in zip(images, answers, strict=True):
        found = _compare(golden, answer, limits)
        differences += [(golden.name, difference) for difference in found]
        boxes += len(golden.detections)
    contested = sum(difference.is_contested for _, difference in differences)
    if contested == len(differences) and contested <= boxes // _BOXES_FOR_ONE_CONTESTED:
        return []
    return [f"{name}: {difference}" for name, difference in differences]


def choose_golden(images: Mapping[str, bytes], count: int = DEFAULT_IMAGES) -> dict[str, bytes]:
    """`count` of the images, evenly spread over their names in order, without those too large for a set.

    The same choice on every machine and in any order of the mapping.
    """
    limit = MAX_CONTENT_BYTES // max(min(count, MAX_IMAGES), 1) * 3 // 4
    names = sorted(name for name, image in images.items() if len(image) <= limit)
    chosen = min(count, len(names), MAX_IMAGES)
    return {
        (name := names[(2 * place + 1) * len(names) // (2 * chosen)]): images[name]
        for place in range(chosen)
    }


def synthetic_images(input_size: tuple[int, int]) -> dict[str, bytes]:
    """Four drawn PNG images for models that are sealed without images of their own.

    input_size: (height, width) of the model, pixels; one image has it, the others are wider, higher and smaller, so
    that enlarging, reducing and padding all count. The pixels are the same on every machine (integers only).
    """
    height, width = input_size
    shapes = {
        "synthetic-1-same": (height, width),
        "synthetic-2-wide": (height * 3 // 4, width * 5 // 4),
        "synthetic-3-high": (height * 5 // 4 + 1, width * 2 // 3),
        SMALL_IMAGE.removesuffix(".png"): (height // 2 + 3, width // 2),
    }
    return {f"{name}.png": _draw(shape, name=name) for name, shape in shapes.items()}


def _record(name: str, image: bytes, detect: Detect) -> GoldenImage:
    thresholds = _USUAL
    answer = detect(image, thresholds)
    if len(answer.detections) < _FEW_BOXES:
        thresholds = _FAINT
        answer = detect(image, thresholds)
    return GoldenImage(
        name=name,
        image=image,
        image_shape=answer.image_shape,
        thresholds=thresholds,
        detections=answer.detections,
        embedding=answer.embedding,
    )


def _has_substance(golden: GoldenImage, limits: _Precision) -> bool:
    found = golden.detections
    # A box that may be absent proves nothing.
    least = _threshold(golden, found, limits) + limits.confidence
    return (
        golden.embedding is not None
        or found.ranking is not None
        or bool((found.confidences > least).any())
    )


def _compare(golden: GoldenImage, answer: Answer, limits: _Precision) -> Iterable[Difference]:
    if answer.image_shape != golden.image_shape:
        yield Difference(f"decoded to {answer.image_shape} pixels, not {golden.image_shape}")
        return
    tolerance = Tolerance(
        box_pixels=limits.box_pixels,
        box_ratio=limits.box_ratio,
        confidence=limits.confidence,
        threshold=_threshold(golden, answer.detections, limits),
    )
    yield from find_differences(golden.detections, answer.detections, tolerance)
    yield from _compare_embeddings(golden.embedding, answer.embedding, limits.embedding)


def _threshold(golden: GoldenImage, found: Detections, limits: _Precision) -> float:
    """From which confidence on boxes must be there: where the best so many are taken, above the last of them."""
    last = [
        float(side.confidences[-1])
        for side in (golden.detections, found)
        if len(side) == golden.thresholds.max_detections
    ]
    return max(golden.thresholds.confidence, limits.threshold or 0.0, *last)


def _compare_embeddings(
    expected: NDArray[np.float32] | None, found: NDArray[np.float32] | None, limit: float
) -> Iterable[Difference]:
    if expected is None or found is None:
        if expected is not None:
            yield Difference("the model gave an embedding and gives none now")
        return
    if expected.shape != found.shape:
        yield Difference(f"the embedding has shape {found.shape}, not {expected.shape}")
        return
    length = float(np.linalg.norm(expected))
    apart = float(np.linalg.norm(found - expected))
    # Written so that NaN counts as different.
    if not apart <= limit * length:
        text = f"the embedding, {length:.3g} long, is off by {apart:.2g}"
        yield Difference(f"{text} (at most {limit * length:.2g})")


def _draw(shape: tuple[int, int], *, name: str) -> bytes:
    """A ground that fades, and things on it: discs, boxes and bars, some of them checked."""
    height, width = shape
    rows, columns = np.mgrid[0:height, 0:width]
    fade = rows * 96 // height + columns * 48 // width
    image = np.stack((fade + 90, fade + 60, 200 - fade), axis=2)
    image[rows > height * 2 // 3] -= 40
    for thing in range(_THINGS):
        # A digest, because the streams of random generators may change from release to release.
        seed = list(hashlib.sha256(f"{name} {thing}".encode()).digest())
        side = min(height, width) * (seed[0] + 64) // 1024 + 2
        down, across = rows - height * seed[1] // 256, columns - width * seed[2] // 256
        kind, wide, colour = seed[3] % 3, seed[4] % 3 + 1, np.array(seed[5:8])
        if kind == 0:
            inside = down**2 + across**2 < side**2
        else:
            inside = (abs(down) < side) & (abs(across) < side * wide // 2)
        image[inside] = colour - 40 * down[inside, None] // side
        if kind == 1:
            image[inside & ((down // 6 + across // 6) % 2 == 0)] = 255 - colour
    return cv2.imencode(".png", image.clip(0, 255).astype(np.uint8))[1].tobytes()
