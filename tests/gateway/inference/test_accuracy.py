"""Average precision: by hand, and against Ultralytics' own matching and curves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.errors import Code, OperatorError
from gateway.inference.accuracy import (
    EVALUATION,
    Labels,
    average_precision,
    class_accuracies,
    interpolated_precision,
    iou_thresholds,
    match,
)
from gateway.store.records import Detections
from tests.gateway.inference.raw_network import coco_labels, detect_with

Rows = list[tuple[int, float, tuple[float, float, float, float]]]


def found(rows: Rows) -> Detections:
    """Detections from (class, confidence, box)."""
    return Detections(
        np.array([box for _, _, box in rows], np.float32).reshape(-1, 4),
        np.array([confidence for _, confidence, _ in rows], np.float32),
        np.array([class_id for class_id, _, _ in rows], np.int64),
    )


def truth(*rows: tuple[int, tuple[float, float, float, float]]) -> Labels:
    """Labels from (class, box)."""
    return Labels(
        np.array([class_id for class_id, _ in rows], np.int64),
        np.array([box for _, box in rows], np.float32).reshape(-1, 4),
    )


def test_a_perfect_answer_is_one() -> None:
    """Every object found, nothing else; the area below a precision of 1."""
    labels = truth((0, (0, 0, 10, 10)), (3, (20, 20, 40, 40)))
    detections = found([(3, 0.9, (20, 20, 40, 40)), (0, 0.8, (0, 0, 10, 10))])
    actual = average_precision([(detections, labels)])
    assert (1, 2) == (actual.images, actual.labels)
    # The last of 101 points lies where the curve falls from 1 to 0.
    assert pytest.approx((0.995, 0.995)) == (actual.map50, actual.map50_95)
    assert [0, 3] == [one.class_id for one in actual.classes]


def test_an_overlap_counts_up_to_its_size() -> None:
    """A box that covers 0.72 of the object is right at five of the ten overlaps."""
    detections = found([(0, 0.9, (0, 0, 100, 72))])
    actual = match(detections, truth((0, (0, 0, 100, 100))), iou_thresholds())
    assert [[True] * 5 + [False] * 5] == actual.tolist()


def test_another_class_is_no_hit() -> None:
    """In the same place, with another name."""
    detections = found([(1, 0.9, (0, 0, 10, 10))])
    assert not match(detections, truth((0, (0, 0, 10, 10))), iou_thresholds()).any()


def test_an_object_is_found_once_by_the_best_detection() -> None:
    """The second one is wrong, although it fits better."""
    detections = found([(0, 0.9, (0, 0, 10, 8)), (0, 0.8, (0, 0, 10, 10))])
    actual = match(detections, truth((0, (0, 0, 10, 10))), iou_thresholds()[:1])
    assert [[True], [False]] == actual.tolist()


def test_a_taken_object_leaves_the_next_best() -> None:
    """The second detection gets the object that the first did not take."""
    detections = found([(0, 0.9, (0, 0, 10, 10)), (0, 0.8, (0, 0, 10, 10))])
    labels = truth((0, (0, 0, 10, 10)), (0, (0, 0, 10, 9)))
    assert match(detections, labels, iou_thresholds()[:1]).all()


def test_false_alarms_and_misses_lower_it() -> None:
    """Two objects, one found after a false alarm: precision a half at the 50 points below a recall of a half."""
    is_correct = np.array([[False], [True]])
    (actual,) = interpolated_precision(is_correct, labels=2)
    assert pytest.approx(0.2475) == actual


def test_images_count_together() -> None:
    """A false alarm in an image without objects lowers the class; a class without labels does not count."""
    box = (0.0, 0.0, 10.0, 10.0)
    alone = average_precision([(found([(0, 0.5, box)]), truth((0, box)))])
    with_alarm = average_precision(
        [
            (found([(0, 0.5, box)]), truth((0, box))),
            (found([(0, 0.9, box), (7, 0.9, box)]), truth()),
        ]
    )
    assert (2, 1, 1) == (with_alarm.images, with_alarm.labels, len(with_alarm.classes))
    assert with_alarm.map50 < 0.6 < alone.map50


def test_nothing_found_is_zero() -> None:
    """Not a division by nothing."""
    actual = average_precision([(found([]), truth((2, (0, 0, 5, 5))))])
    assert (0.0, 0.0) == (actual.map50, actual.map50_95)


def test_without_labels_there_is_no_accuracy() -> None:
    """It is said, not called zero."""
    with pytest.raises(OperatorError) as caught:
        average_precision([(found([(0, 0.5, (0, 0, 5, 5))]), truth())])
    assert Code.DATASET_INVALID == caught.value.code


def random_pair(rng: np.random.Generator) -> tuple[Detections, Labels]:
    """Labels, and detections some of which lie near them."""
    count, others = int(rng.integers(0, 12)), int(rng.integers(0, 30))
    corner = rng.uniform(0, 60, (count, 2))
    boxes = np.hstack((corner, corner + rng.uniform(5, 40, (count, 2)))).astype(np.float32)
    labels = Labels(rng.integers(0, 3, count), boxes)
    chosen = rng.integers(0, count, others) if count else np.zeros(0, np.int64)
    near = boxes[chosen] + rng.normal(0, 3, (len(chosen), 4)).astype(np.float32)
    confidences = np.sort(rng.random(len(chosen), np.float32))[::-1].copy()
    class_ids = np.where(rng.random(len(chosen)) < 0.8, labels.class_ids[chosen], 0)
    return Detections(near, confidences, class_ids), labels


def ultralytics_hits(validator: Any, detections: Detections, labels: Labels) -> NDArray[np.bool_]:
    """Ultralytics' own matching of one image."""
    import torch
    from ultralytics.utils.metrics import box_iou

    boxes = torch.from_numpy(labels.boxes_xyxy), torch.from_numpy(detections.boxes_xyxy)
    hits: NDArray[np.bool_] = validator.match_predictions(
        torch.from_numpy(detections.class_ids), torch.from_numpy(labels.class_ids), box_iou(*boxes)
    ).numpy()
    return hits


@pytest.mark.needs_seal
def test_matches_and_curves_equal_ultralytics(ultralytics: Any) -> None:
    """400 crowded images, each match and each class."""
    import torch
    from ultralytics.engine.validator import BaseValidator
    from ultralytics.utils.metrics import ap_per_class

    validator = BaseValidator.__new__(BaseValidator)
    validator.iouv = torch.linspace(0.5, 0.95, 10)
    rng = np.random.default_rng(3)
    pairs = [random_pair(rng) for _ in range(400)]
    hits = [match(*pair, iou_thresholds()) for pair in pairs]
    for pair, ours in zip(pairs, hits, strict=True):
        np.testing.assert_array_equal(ultralytics_hits(validator, *pair), ours)
    arrays = (
        np.concatenate([detections.confidences for detections, _ in pairs]),
        np.concatenate([detections.class_ids for detections, _ in pairs]),
        np.concatenate([labels.class_ids for _, labels in pairs]),
    )
    expected = ap_per_class(np.concatenate(hits), *arrays)[5]
    assert 0.1 < expected.mean() < 0.9
    actual = class_accuracies(
        np.concatenate(hits),
        confidences=arrays[0],
        class_ids=arrays[1],
        label_class_ids=arrays[2],
    )
    np.testing.assert_allclose([one.ap50 for one in actual], expected[:, 0], atol=1e-12)
    np.testing.assert_allclose([one.ap50_95 for one in actual], expected.mean(1), atol=1e-12)
    together = average_precision(pairs)
    assert pytest.approx(float(expected.mean()), abs=1e-12) == together.map50_95
    assert actual == together.classes


def test_the_coco_detector_has_the_accuracy_that_ultralytics_gives_it(test_data: Path) -> None:
    """50 photographs; Ultralytics' ap_per_class on the same detections says 0.51988 and 0.38187."""
    detect = detect_with((test_data / "yolov8n_coco.onnx").read_bytes())

    def pair(name: str, labels: Labels) -> tuple[Detections, Labels]:
        body = (test_data / "coco50" / name).read_bytes()
        return detect(body, EVALUATION).detections, labels

    actual = average_precision(
        pair(name, labels) for name, labels in coco_labels(test_data / "coco50").items()
    )
    assert (50, 465) == (actual.images, actual.labels)
    assert pytest.approx(0.5199, abs=5e-4) == actual.map50
    assert pytest.approx(0.3819, abs=5e-4) == actual.map50_95
