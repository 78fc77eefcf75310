"""One answered image in numbers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gateway.sampling.features import FEATURE_NAMES
from gateway.sampling.measure import measure
from gateway.store.records import ClassRanking, Detections

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


def test_the_features_of_a_ranking_are_those_of_no_boxes() -> None:
    """A classifier looks at the whole image: nothing can be said about boxes, and nothing fails."""
    nothing = Detections(
        boxes_xyxy=np.zeros((0, 4), np.float32),
        confidences=np.zeros(0, np.float32),
        class_ids=np.zeros(0, np.int64),
    )
    ranking = ClassRanking(np.array([3, 1], np.int64), np.array([0.75, 0.25], np.float32))
    ranked = replace(nothing, ranking=ranking)
    assert measure(IMAGE, nothing, encoded_bytes=384) == measure(IMAGE, ranked, encoded_bytes=384)


@pytest.mark.parametrize(
    "shapes",
    [
        {"polygons": (np.array([[1, 2], [30, 2], [30, 40]], np.float32),)},
        {"polygons": (np.zeros((0, 2), np.float32),)},
        {"keypoints": np.zeros((1, 17, 3), np.float32)},
        {"corners": np.array([[[-9, 5], [30, -9], [70, 30], [1, 40]]], np.float32)},
    ],
    ids=["segment", "segment without an outline", "pose", "obb"],
)
def test_other_shapes_are_measured_by_their_boxes(shapes: dict[str, Any]) -> None:
    """So that samples of models for different tasks compare."""
    found = Detections(
        boxes_xyxy=np.array([[1, 2, 30, 40]], np.float32),
        confidences=np.array([0.5], np.float32),
        class_ids=np.array([3], np.int64),
    )
    assert measure(IMAGE, found, encoded_bytes=384) == measure(
        IMAGE, replace(found, **shapes), encoded_bytes=384
    )


def test_a_reduced_copy_is_measured_as_the_image_that_was_sent() -> None:
    """Sizes and places refer to what the caller sent; the boxes do, too."""
    found = Detections(
        boxes_xyxy=np.array([[10, 20, 30, 60]], np.float32),
        confidences=np.array([0.5], np.float32),
        class_ids=np.array([0], np.int64),
    )
    large = measure(np.zeros((80, 160, 3), np.uint8), found, encoded_bytes=384)
    small = measure(
        np.zeros((20, 40, 3), np.uint8), found, encoded_bytes=384, image_shape=(80, 160)
    )
    assert large == small
