"""A network's raw head output to detections.

Rules: results equal Ultralytics' non_max_suppression (best class only, class-aware, torchvision's `>`) and scale_boxes
on the same numbers, in float32 as they do; work is bounded by max_detections, however many candidates an image has.
Source: Ultralytics 8.4 utils/nms.py and utils/ops.py; torchvision ops/cpu/nms_kernel.cpp.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.errors import Code, RequestError, RunnerError
from gateway.inference.preprocess import Fit
from gateway.store.records import Detections

Floats = NDArray[np.float32]

MIN_CONFIDENCE, MAX_CONFIDENCE = 0.01, 1.0
MIN_IOU, MAX_IOU = 0.0, 0.95
MAX_DETECTIONS = 300
# What is counted before suppression is always counted above this, so that calls with other thresholds compare.
CANDIDATE_CONFIDENCE = 0.25

# Boxes of different classes are moved this far apart, so that one suppression serves all classes. At large offsets
# float32 rounds coordinates to 1/16 pixel: to agree on close calls, the rounding has to be shared, too.
_CLASS_OFFSET_PIXELS = np.float32(7_680)
_MAX_CANDIDATES = 30_000
# Overlaps are computed for this many candidates at once: 65k numbers stay in the cache.
_BLOCK = 256


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Which boxes count: confidence above `confidence`, overlap with a better box of the class at most `iou`.

    Raises RequestError if a value is outside 0.01..1, 0..0.95 or 1..300.
    """

    confidence: float = 0.25
    iou: float = 0.7
    max_detections: int = MAX_DETECTIONS

    def __post_init__(self) -> None:
        """Refuse values that no caller may set; NaN is in no range."""
        if not MIN_CONFIDENCE <= self.confidence <= MAX_CONFIDENCE:
            raise _out_of_range("confidence", MIN_CONFIDENCE, MAX_CONFIDENCE)
        if not MIN_IOU <= self.iou <= MAX_IOU:
            raise _out_of_range("iou", MIN_IOU, MAX_IOU)
        if not 1 <= self.max_detections <= MAX_DETECTIONS:
            raise _out_of_range("max_detections", 1, MAX_DETECTIONS)


def find_detections(head: Floats, *, thresholds: Thresholds, fit: Fit) -> Detections:
    """Detections in the original image from one image's head output.

    head: float32 (1, 4 + classes, n) raw (centre x, centre y, width, height, class scores), or (1, n, 6) end-to-end
    (x1, y1, x2, y2, confidence, class); canvas pixels.
    Raises RunnerError if a box that counts is not finite.
    """
    if head.shape[-1] == 6:
        # It suppressed already, in the network.
        candidate_count = None
        boxes, confidences, class_ids = _from_end_to_end(head[0], thresholds)
    else:
        best = head[0, 4:].max(axis=0)
        candidate_count = int(np.count_nonzero(best > np.float32(CANDIDATE_CONFIDENCE)))
        boxes, confidences, class_ids = _from_raw(head[0], best, thresholds)
    if not np.isfinite(boxes).all():
        raise RunnerError(
            Code.RUNNER_FAILED,
            "the detector failed on this image",
            reason="runner_failed: not finite",
        )
    return Detections(
        _to_image(boxes, fit), confidences, class_ids, candidate_count=candidate_count
    )


def suppress(boxes: Floats, *, iou: float, limit: int) -> NDArray[np.intp]:
    """Indices of the boxes that overlap no better kept box by more than iou, at most limit of them.

    boxes: float32 (n, 4) xyxy, best first. Without area there is no overlap (0/0 is not more than anything).
    """
    threshold = _float32_below(iou)
    kept: list[int] = []
    for start in range(0, len(boxes), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(boxes)))
        if kept:
            block = block[~(overlaps(boxes[kept], boxes[block]) > threshold).any(axis=0)]
        is_clear = ~(overlaps(boxes[block], boxes[block]) > threshold)
        is_alive = np.ones(len(block), np.bool_)
        for position, index in enumerate(block.tolist()):
            if is_alive[position]:
                kept.append(index)
                if len(kept) == limit:
                    return np.array(kept, np.intp)
                is_alive &= is_clear[position]
    return np.array(kept, np.intp)


def overlaps(first: Floats, second: Floats) -> Floats:
    """Intersection over union of each pair: float32 (n, 4), (m, 4) xyxy to (n, m); NaN where both have no area."""
    x1, y1, x2, y2 = first.T[:, :, None]
    other_x1, other_y1, other_x2, other_y2 = second.T
    with np.errstate(divide="ignore", invalid="ignore"):
        width: Floats = np.minimum(x2, other_x2) - np.maximum(x1, other_x1)
        height = np.minimum(y2, other_y2) - np.maximum(y1, other_y1)
        np.maximum(width, 0, out=width)
        np.maximum(height, 0, out=height)
        width *= height
        union = (x2 - x1) * (y2 - y1) + (other_x2 - other_x1) * (other_y2 - other_y1)
        union -= width
        width /= union
    return width


def _from_end_to_end(
    rows: Floats, thresholds: Thresholds
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    chosen = np.flatnonzero(rows[:, 4] > np.float32(thresholds.confidence))
    order = np.argsort(-rows[chosen, 4], kind="stable")
    rows = rows[chosen[order[: thresholds.max_detections]]]
    return rows[:, :4].copy(), rows[:, 4].copy(), rows[:, 5].astype(np.int64)


def _from_raw(
    columns: Floats, best: Floats, thresholds: Thresholds
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    scores = columns[4:]
    chosen = np.flatnonzero(best > np.float32(thresholds.confidence))
    # Stable, so that equals keep the network's order, as torchvision sorts.
    chosen = chosen[np.argsort(-best[chosen], kind="stable")[:_MAX_CANDIDATES]]
    class_ids = scores[:, chosen].argmax(axis=0)
    half = columns[2:4, chosen] / 2
    boxes = np.empty((len(chosen), 4), np.float32)
    boxes.T[:2] = boxes.T[2:] = columns[:2, chosen]
    boxes.T[:2] -= half
    boxes.T[2:] += half
    apart = boxes + (class_ids.astype(np.float32) * _CLASS_OFFSET_PIXELS)[:, None]
    kept = suppress(apart, iou=thresholds.iou, limit=thresholds.max_detections)
    return boxes[kept], best[chosen[kept]], class_ids[kept].astype(np.int64, copy=False)


def _to_image(boxes: Floats, fit: Fit) -> Floats:
    """Undo the placement on the canvas and clip to the image; changes boxes in place."""
    (height, width), (resized_height, resized_width) = fit.image_shape, fit.resized_shape
    scale = resized_width / width, resized_height / height
    boxes -= np.array((fit.left, fit.top) * 2, np.float32)
    boxes /= np.array(scale * 2, np.float32)
    np.maximum(boxes, 0, out=boxes)
    np.minimum(boxes, np.array((width, height) * 2, np.float32), out=boxes)
    return boxes


def _float32_below(value: float) -> np.float32:
    """The largest float32 at most value: x > value in float64 is x > this in float32, for every float32 x."""
    nearest = np.float32(value)
    return nearest if float(nearest) <= value else np.nextafter(nearest, np.float32(-math.inf))


def _out_of_range(name: str, low: float, high: float) -> RequestError:
    return RequestError(Code.PARAMETER_INVALID, f"{name} must be a number from {low} to {high}")
