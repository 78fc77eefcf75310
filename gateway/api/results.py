"""What was found in one image, as the entries of Ultralytics' Results.summary().

Rules: keys, their order and every rounding are those of summary(), which divides and rounds boxes as Python floats
but outlines and keypoints as float32 arrays; tests compare the two. Pure.
Source: Ultralytics 8.4 engine/results.py.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.store.records import ClassRanking, Detections

Entry = dict[str, Any]


def summarize(
    detections: Detections,
    class_names: Sequence[str],
    *,
    image_shape: tuple[int, int],
    is_normalized: bool,
    decimals: int,
) -> list[Entry]:
    """One entry a box, or for a classifier one a class, best confidence first.

    image_shape: (height, width) of the original, pixels. is_normalized: coordinates as shares of its sides.
    decimals: digits kept, 0..10.
    """
    if detections.ranking is not None:
        return _ranked(detections.ranking, class_names, decimals)
    height, width = image_shape if is_normalized else (1, 1)
    entries = [
        {
            "name": class_names[class_id],
            "class": class_id,
            "confidence": round(confidence, decimals),
            "box": _box(points, (width, height), decimals),
        }
        for class_id, confidence, points in zip(
            detections.class_ids.tolist(),
            detections.confidences.tolist(),
            _points(detections),
            strict=True,
        )
    ]
    if detections.polygons is not None:
        for entry, polygon in zip(entries, detections.polygons, strict=True):
            entry["segments"] = _columns(polygon, (width, height), decimals)
    if detections.keypoints is not None:
        for entry, pose in zip(entries, detections.keypoints, strict=True):
            entry["keypoints"] = _columns(pose, (width, height), decimals)
            if pose.shape[1] == 3:
                entry["keypoints"]["visible"] = _rounded(pose[:, 2], decimals)
    return entries


def _ranked(ranking: ClassRanking, class_names: Sequence[str], decimals: int) -> list[Entry]:
    return [
        {
            "name": class_names[class_id],
            "class": class_id,
            "confidence": round(confidence, decimals),
        }
        for class_id, confidence in zip(
            ranking.class_ids.tolist(), ranking.confidences.tolist(), strict=True
        )
    ]


def _points(detections: Detections) -> list[list[list[float]]]:
    """Two corners of an upright box, all four of an oriented one."""
    if detections.corners is not None:
        corners: list[list[list[float]]] = detections.corners.tolist()
        return corners
    boxes: list[list[list[float]]] = detections.boxes_xyxy.reshape(-1, 2, 2).tolist()
    return boxes


def _box(
    points: Sequence[Sequence[float]], sides: tuple[int, int], decimals: int
) -> dict[str, float]:
    box = {}
    for number, (x, y) in enumerate(points, start=1):
        box[f"x{number}"] = round(x / sides[0], decimals)
        box[f"y{number}"] = round(y / sides[1], decimals)
    return box


def _columns(
    points: NDArray[np.float32], sides: tuple[int, int], decimals: int
) -> dict[str, list[float]]:
    return {
        "x": _rounded(points[:, 0] / np.float32(sides[0]), decimals),
        "y": _rounded(points[:, 1] / np.float32(sides[1]), decimals),
    }


def _rounded(numbers: NDArray[np.float32], decimals: int) -> list[float]:
    rounded: list[float] = numbers.astype(np.float64).round(decimals).tolist()
    return rounded
