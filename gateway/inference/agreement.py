"""Whether two runs answered the same about one image, and if not, how they differ, in words.

Rules: order does not count; boxes are paired inside a class, best overlap first, each once; what has no partner is
missing or extra. Used for parity with Ultralytics, for the golden set and by the doctor. Pure numpy.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.inference.postprocess import overlaps
from gateway.store.records import ClassRanking, Detections

# Boxes that overlap less are different objects, not one object in another place.
_SAME_OBJECT = 0.5
# An outline follows pixels: where a mask value is near its threshold, whole pixels change sides.
_OUTLINE_PIXELS = 2.0


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far apart two answers may lie and still be the same.

    box_pixels: each side of a box, in pixels of the original image, and box_ratio of its longer side on top.
    confidence: of a box. threshold: boxes below it are not compared, and one that is above it by no more than
    `confidence` may be absent on either side; None: all are compared, none may be absent.
    """

    box_pixels: float
    confidence: float
    box_ratio: float = 0.0
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """One box, or one kind of shape, that is not the same.

    is_contested: the other side has another box of this class over the same object; that suppression chose between
    two candidates that are equal up to rounding explains it.
    """

    text: str
    is_contested: bool = False

    def __str__(self) -> str:
        """The text."""
        return self.text


def compare(
    expected: Detections, found: Detections, *, box_pixels: float, confidence: float
) -> tuple[str, ...]:
    """How two answers differ, in words; nothing if classes and counts are equal and all numbers within tolerance.

    box_pixels: of the original image. confidence: 0..1.
    """
    tolerance = Tolerance(box_pixels=box_pixels, confidence=confidence)
    return tuple(map(str, find_differences(expected, found, tolerance)))


def find_differences(
    expected: Detections, found: Detections, tolerance: Tolerance
) -> list[Difference]:
    """One entry for each box that is missing, extra or off, for shapes that are off, and for another ranking."""
    pairs = pair_up(expected, found, tolerance)
    differences = []
    for index, other in pairs:
        if _counts(expected, index, tolerance) or _counts(found, other, tolerance):
            differences += _compare_pair(expected, index, found, other, tolerance)
    paired, paired_others = {index for index, _ in pairs}, {other for _, other in pairs}
    differences += _unpaired(expected, found, paired, tolerance, word="missing")
    differences += _unpaired(found, expected, paired_others, tolerance, word="extra")
    return differences + _compare_rankings(expected.ranking, found.ranking, tolerance)


def pair_up(expected: Detections, found: Detections, tolerance: Tolerance) -> list[tuple[int, int]]:
    """Which box is which: pairs of indices of one class, best overlap first, each index once."""
    iou = overlaps(expected.boxes_xyxy, found.boxes_xyxy)
    is_close = (
        _sides_apart(expected.boxes_xyxy[:, None], found.boxes_xyxy)
        <= _box_limits(expected.boxes_xyxy, tolerance)[:, None]
    )
    change = np.abs(expected.confidences[:, None] - found.confidences)
    # Boxes in the same place go by confidence: a head without suppression gives twins. They also go first: a box of a
    # pixel that moves by half of one overlaps little, and one without area nothing, not even itself.
    scores = np.where(is_close, 2 - change, np.nan_to_num(iou))
    scores[expected.class_ids[:, None] != found.class_ids] = 0
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for place in np.argsort(-scores, axis=None, kind="stable").tolist():
        index, other = divmod(place, len(found))
        if scores[index, other] < _SAME_OBJECT:
            break
        if index not in pairs and other not in taken:
            pairs[index] = other
            taken.add(other)
    return sorted(pairs.items())


def _counts(detections: Detections, index: int, tolerance: Tolerance) -> bool:
    return tolerance.threshold is None or detections.confidences[index] >= tolerance.threshold


def _compare_pair(
    expected: Detections, index: int, found: Detections, other: int, tolerance: Tolerance
) -> list[Difference]:
    """What is off about one box, in one entry, and then about its shape."""
    limit = float(_box_limits(expected.boxes_xyxy[index : index + 1], tolerance)[0])
    apart = float(_sides_apart(expected.boxes_xyxy[index], found.boxes_xyxy[other]))
    change = float(found.confidences[other]) - float(expected.confidences[index])
    reasons = []
    # Written so that NaN, which compares as false with everything, counts as off.
    if not apart <= limit:
        reasons.append(f"its box is off by {apart:.3g} pixels (at most {limit:.3g})")
    if not abs(change) <= tolerance.confidence:
        reasons.append(f"its confidence by {change:+.2g} (at most {tolerance.confidence:g})")
    differences = []
    if reasons:
        text = f"{_describe(expected, index)}: {' and '.join(reasons)}"
        is_contested = not apart <= limit or _has_rival(expected, index, found, partner=other)
        differences.append(Difference(text, is_contested))
    shape = _shape_off(expected, index, found, other, limit=limit, tolerance=tolerance)
    if shape:
        differences.append(Difference(f"{_describe(expected, index)}: {shape}"))
    return differences


def _unpaired(
    detections: Detections, others: Detections, paired: set[int], tolerance: Tolerance, *, word: str
) -> list[Difference]:
    differences = []
    for index in range(len(detections)):
        confidence = float(detections.confidences[index])
        if index in paired or (
            tolerance.threshold is not None
            and confidence <= tolerance.threshold + tolerance.confidence
        ):
            continue
        is_contested = _has_rival(detections, index, others)
        differences.append(Difference(f"{_describe(detections, index)} is {word}", is_contested))
    return differences


def _has_rival(
    detections: Detections, index: int, others: Detections, *, partner: int | None = None
) -> bool:
    """Whether the other side has a box of this class over the same object, besides the partner."""
    iou = overlaps(detections.boxes_xyxy[index : index + 1], others.boxes_xyxy)[0]
    is_rival = (iou >= _SAME_OBJECT) & (others.class_ids == detections.class_ids[index])
    if partner is not None:
        is_rival[partner] = False
    return bool(is_rival.any())


def _shape_off(
    expected: Detections,
    index: int,
    found: Detections,
    other: int,
    *,
    limit: float,
    tolerance: Tolerance,
) -> str | None:
    for name in ("polygons", "keypoints", "corners"):
        first, second = getattr(expected, name), getattr(found, name)
        if (first is None) != (second is None):
            return f"only one side has {name}"
    if expected.polygons is not None and found.polygons is not None:
        return _outline_off(expected.polygons[index], found.polygons[other], limit)
    if expected.keypoints is not None and found.keypoints is not None:
        return _points_off(
            expected.keypoints[index], found.keypoints[other], limit, tolerance.confidence
        )
    if expected.corners is not None and found.corners is not None:
        return _corners_off(expected.corners[index], found.corners[other], limit)
    return None


def _outline_off(
    expected: NDArray[np.float32], found: NDArray[np.float32], limit: float
) -> str | None:
    """Outlines of one mask need not have the same points: their extents and areas are compared."""
    if not len(expected) or not len(found):
        return None if len(expected) == len(found) else "only one side has an outline"
    limit += _OUTLINE_PIXELS
    apart = max(
        float(np.abs(expected.min(axis=0) - found.min(axis=0)).max()),
        float(np.abs(expected.max(axis=0) - found.max(axis=0)).max()),
    )
    if not apart <= limit:
        return f"its outline reaches {apart:.3g} pixels elsewhere (at most {limit:.3g})"
    areas = _area(expected), _area(found)
    if not abs(areas[0] - areas[1]) <= limit * _length(expected):
        return f"its outline holds {areas[1]:.0f} square pixels, not {areas[0]:.0f}"
    return None


def _points_off(
    expected: NDArray[np.float32], found: NDArray[np.float32], limit: float, confidence: float
) -> str | None:
    if expected.shape != found.shape:
        return f"it has keypoints of shape {found.shape}, not {expected.shape}"
    apart = float(np.abs(expected[:, :2] - found[:, :2]).max(initial=0))
    if not apart <= limit:
        return f"a keypoint is off by {apart:.3g} pixels (at most {limit:.3g})"
    change = float(np.abs(expected[:, 2:] - found[:, 2:]).max(initial=0))
    if not change <= confidence:
        return f"a keypoint's visibility is off by {change:.2g} (at most {confidence:g})"
    return None


def _corners_off(
    expected: NDArray[np.float32], found: NDArray[np.float32], limit: float
) -> str | None:
    """The same rectangle may start at another corner."""
    apart = min(float(np.abs(expected - np.roll(found, turn, axis=0)).max()) for turn in range(4))
    if not apart <= limit:
        return f"a corner is off by {apart:.3g} pixels (at most {limit:.3g})"
    return None


def _compare_rankings(
    expected: ClassRanking | None, found: ClassRanking | None, tolerance: Tolerance
) -> list[Difference]:
    if expected is None or found is None:
        is_equal = expected is None and found is None
        return [] if is_equal else [Difference("only one side ranks the classes")]
    first, second = _ranked(expected), _ranked(found)
    # A class below the last place of the other side is at most as likely as that place.
    floors = min(first.values(), default=0.0), min(second.values(), default=0.0)
    differences = []
    for class_id in first | second:
        before, after = first.get(class_id, floors[0]), second.get(class_id, floors[1])
        if not abs(after - before) <= tolerance.confidence:
            text = f"class {class_id} is ranked with {after:.4f}, not {before:.4f}"
            differences.append(Difference(f"{text} (at most {tolerance.confidence:g} apart)"))
    return differences


def _ranked(ranking: ClassRanking) -> dict[int, float]:
    return dict(zip(ranking.class_ids.tolist(), ranking.confidences.tolist(), strict=True))


def _sides_apart(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    apart: NDArray[np.float32] = np.abs(first - second).max(axis=-1)
    return apart


def _box_limits(boxes: NDArray[np.float32], tolerance: Tolerance) -> NDArray[np.float64]:
    sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0).astype(np.float64)
    limits: NDArray[np.float64] = tolerance.box_pixels + tolerance.box_ratio * sides
    return limits


def _area(points: NDArray[np.float32]) -> float:
    """Source: the shoelace formula."""
    x, y = points.astype(np.float64).T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def _length(points: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(points - np.roll(points, -1, axis=0), axis=1).sum())


def _describe(detections: Detections, index: int) -> str:
    corners = ", ".join(f"{side:.1f}" for side in detections.boxes_xyxy[index].tolist())
    return f"class {detections.class_ids[index]} with {detections.confidences[index]:.4f} at ({corners})"
