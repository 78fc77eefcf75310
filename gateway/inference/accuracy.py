"""How well detections meet ground truth: matching, average precision, mAP. Pure numpy.

Rules: numbers equal Ultralytics' own on the same detections and labels (matching best detection first, precision made
monotonic, 101 recall points, the mean over the classes that have labels). What it sees is what it is given: mAP at
the customary thresholds needs detections from a low confidence on (`EVALUATION`).
Source: Ultralytics 8.4 engine/validator.py (match_predictions) and utils/metrics.py (ap_per_class, compute_ap).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.errors import Code, OperatorError
from gateway.inference.postprocess import MIN_CONFIDENCE, Thresholds, overlaps
from gateway.store.records import Detections

# The lowest threshold that callers have, and the best class of each candidate, as in production. Ultralytics' `val`
# begins at 0.001 and lets a candidate stand for several classes, so it gives another figure for the same model: on
# yolov8n and 50 photographs a mAP50-95 of 0.394; of that 0.010 are the further classes, 0.003 what lies below 0.01.
# Two precisions of one model are compared all the same: bfloat16 loses 0.0006 from 0.01 on, 0.0012 from 0.001 on.
EVALUATION = Thresholds(confidence=MIN_CONFIDENCE, iou=0.7, max_detections=300)
_FIRST_IOU, _LAST_IOU, _IOU_COUNT = 0.5, 0.95, 10
_RECALL_POINTS = 101


@dataclass(frozen=True, slots=True)
class Labels:
    """The ground truth of one image.

    class_ids: int64 (m,). boxes_xyxy: float32 (m, 4), pixels of the original image, x1 < x2, y1 < y2.
    """

    class_ids: NDArray[np.int64]
    boxes_xyxy: NDArray[np.float32]

    def __len__(self) -> int:
        """Count of objects."""
        return len(self.class_ids)


@dataclass(frozen=True, slots=True)
class RelativeLabels:
    """Ground truth as it is written: class_ids int64 (m,); boxes_xyxy float64 (m, 4), 0..1 of width and height."""

    class_ids: NDArray[np.int64]
    boxes_xyxy: NDArray[np.float64]

    def in_pixels(self, image_shape: tuple[int, int]) -> Labels:
        """The labels in pixels of the upright image, image_shape its (height, width)."""
        height, width = image_shape
        scale = np.array((width, height) * 2, np.float64)
        return Labels(self.class_ids, (self.boxes_xyxy * scale).astype(np.float32))


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """Average precision of one class that has labels; ratios, 0..1."""

    class_id: int
    labels: int
    ap50: float
    ap50_95: float


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Mean average precision over the classes that have labels; ratios, 0..1.

    map50: at an overlap of 0.5. map50_95: mean over overlaps of 0.50, 0.55 ... 0.95. classes: by class id.
    """

    map50: float
    map50_95: float
    images: int
    labels: int
    classes: tuple[ClassAccuracy, ...]


def average_precision(pairs: Iterable[tuple[Detections, Labels]]) -> Accuracy:
    """The accuracy of what was found in some images, each with its ground truth.

    Pairs are taken one at a time and not kept. Raises OperatorError with DATASET_INVALID if no image has a label.
    """
    thresholds = iou_thresholds()
    correct, confidences, found_ids, label_ids = [], [], [], []
    for detections, labels in pairs:
        correct.append(match(detections, labels, thresholds))
        confidences.append(detections.confidences)
        found_ids.append(detections.class_ids)
        label_ids.append(labels.class_ids)
    if not sum(map(len, label_ids)):
        raise OperatorError(
            Code.DATASET_INVALID,
            "accuracy cannot be measured: no image has a label; name a folder with labelled images",
        )
    classes = class_accuracies(
        np.concatenate(correct),
        confidences=np.concatenate(confidences),
        class_ids=np.concatenate(found_ids),
        label_class_ids=np.concatenate(label_ids),
    )
    return Accuracy(
        map50=float(np.mean([one.ap50 for one in classes])),
        map50_95=float(np.mean([one.ap50_95 for one in classes])),
        images=len(label_ids),
        labels=sum(one.labels for one in classes),
        classes=classes,
    )


def iou_thresholds() -> NDArray[np.float32]:
    """The overlaps that mAP50-95 is the mean of: float32 (10,), 0.50 to 0.95."""
    return np.linspace(_FIRST_IOU, _LAST_IOU, _IOU_COUNT, dtype=np.float32)


def match(
    detections: Detections, labels: Labels, thresholds: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Which detections are right at which overlap: bool (n, t).

    detections: best confidence first. thresholds: overlaps, float32 (t,), ascending. Each detection takes the label of
    its class that it overlaps most among those no better one has taken, if the overlap is at least the threshold.
    """
    is_correct = np.zeros((len(detections), len(thresholds)), np.bool_)
    if not len(labels) or not len(detections):
        return is_correct
    iou = overlaps(labels.boxes_xyxy, detections.boxes_xyxy)
    iou[labels.class_ids[:, None] != detections.class_ids] = 0
    is_taken = np.zeros((len(labels), len(thresholds)), np.bool_)
    columns = np.arange(len(thresholds))
    for index in np.flatnonzero((iou >= thresholds[0]).any(axis=0)):
        free = np.where(is_taken, np.float32(0), iou[:, index, None])
        best = free.argmax(axis=0)
        is_correct[index] = free[best, columns] >= thresholds
        is_taken[best, columns] |= is_correct[index]
    return is_correct


def class_accuracies(
    is_correct: NDArray[np.bool_],
    *,
    confidences: NDArray[np.float32],
    class_ids: NDArray[np.int64],
    label_class_ids: NDArray[np.int64],
) -> tuple[ClassAccuracy, ...]:
    """Average precision of each class that has labels, from the matches of all images together.

    is_correct: bool (n, t), the first column at an overlap of 0.5; confidences, class_ids: (n,) of the detections, in
    any order; label_class_ids: (m,) of the ground truth.
    """
    order = np.argsort(-confidences, kind="stable")
    is_correct, class_ids = is_correct[order], class_ids[order]
    classes = []
    for class_id, labels in zip(*np.unique(label_class_ids, return_counts=True), strict=True):
        precisions = interpolated_precision(is_correct[class_ids == class_id], labels=int(labels))
        classes.append(
            ClassAccuracy(
                int(class_id), int(labels), float(precisions[0]), float(precisions.mean())
            )
        )
    return tuple(classes)


def interpolated_precision(is_correct: NDArray[np.bool_], *, labels: int) -> NDArray[np.float64]:
    """Area under the precision curve at each overlap: float64 (t,), 0..1.

    is_correct: bool (n, t) of one class, best confidence first. labels: count of its objects, >= 1.
    Source: the 101-point interpolation of COCO as Ultralytics' compute_ap has it, by trapezoids.
    """
    count, thresholds = is_correct.shape
    if not count:
        return np.zeros(thresholds)
    hits = is_correct.cumsum(axis=0)
    recall = hits / labels
    precision = hits / np.arange(1, count + 1)[:, None]
    # Precision at a recall is the best of any recall at least as high; beyond the last one it is none.
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    points = np.linspace(0, 1, _RECALL_POINTS)
    areas = [
        np.trapezoid(
            np.interp(
                points,
                np.concatenate(([0.0], recall[:, column], [recall[-1, column], 1.0])),
                np.concatenate(([1.0], envelope[:, column], [0.0, 0.0])),
            ),
            points,
        )
        for column in range(thresholds)
    ]
    return np.array(areas)
