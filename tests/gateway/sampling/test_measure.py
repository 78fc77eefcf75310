"""One answered image in numbers."""

import numpy as np

from gateway.sampling.features import FEATURE_NAMES
from gateway.sampling.measure import measure
from gateway.store.records import Detections

IMAGE = np.full((48, 64, 3), 100, np.uint8)


def test_every_feature_is_measured_and_boxes_become_rows() -> None:
    """All names of the catalogue are there; pixels keep two digits, confidences six."""
    found = Detections(
        boxes_xyxy=np.array([[1.23456, 2, 30, 40]], np.float32),
        confidences=np.array([0.5], np.float32),
        class_ids=np.array([3], np.int64),
    )
    measured = measure(IMAGE, found, encoded_bytes=384)
    assert set(FEATURE_NAMES) == set(measured.features)
    assert ((3, 0.5, 1.23, 2.0, 30.0, 40.0),) == measured.detections
    assert 1.0 == measured.features["bits_per_pixel"]


def test_an_image_without_boxes_has_numbers_too() -> None:
    """What needs a box is None and not 0."""
    nothing = Detections(
        boxes_xyxy=np.zeros((0, 4), np.float32),
        confidences=np.zeros(0, np.float32),
        class_ids=np.zeros(0, np.int64),
    )
    measured = measure(IMAGE, nothing, encoded_bytes=384)
    assert () == measured.detections
    assert 0.0 == measured.features["detection_count"]
    assert measured.features["mean_confidence"] is None
