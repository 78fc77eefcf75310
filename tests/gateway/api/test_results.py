"""The entries of an answer, for the shapes of every task, against literals and against Ultralytics' own."""

from typing import Any

import numpy as np
import pytest

from gateway.api.results import summarize
from gateway.store.records import ClassRanking, Detections

NAMES = ("bolt", "nut")
BOX = np.array([[10, 20, 30, 40]], np.float32)


def found(**shapes: Any) -> Detections:
    """One nut, with shapes."""
    return Detections(
        BOX,
        np.array([0.8765432], np.float32),
        np.array([1], np.int64),
        **shapes,
    )


def entries(detections: Detections, *, decimals: int = 2, **choice: bool) -> list[dict[str, Any]]:
    """The entries for an image 400 pixels high and 800 wide."""
    return summarize(
        detections,
        NAMES,
        image_shape=(400, 800),
        is_normalized=choice.get("is_normalized", False),
        decimals=decimals,
    )


def test_a_box_has_name_class_confidence_and_box() -> None:
    """In this order, and nothing else."""
    assert [
        {
            "name": "nut",
            "class": 1,
            "confidence": 0.88,
            "box": {"x1": 10.0, "y1": 20.0, "x2": 30.0, "y2": 40.0},
        }
    ] == entries(found())
    assert ["name", "class", "confidence", "box"] == list(entries(found())[0])


def test_an_outline_is_two_lists() -> None:
    """x and y of every point, as shares of the sides if asked for."""
    outline = found(polygons=(np.array([[10.25, 20], [32, 20], [32, 40.125]], np.float32),))
    assert {"x": [10.2, 32.0, 32.0], "y": [20.0, 20.0, 40.1]} == entries(outline, decimals=1)[0][
        "segments"
    ]
    assert {"x": [0.013, 0.04, 0.04], "y": [0.05, 0.05, 0.1]} == entries(
        outline, decimals=3, is_normalized=True
    )[0]["segments"]


def test_a_mask_without_an_outline_has_empty_lists() -> None:
    """As Ultralytics answers it."""
    nothing = found(polygons=(np.zeros((0, 2), np.float32),))
    assert {"x": [], "y": []} == entries(nothing)[0]["segments"]


def test_keypoints_have_visibility_only_where_the_model_gives_it() -> None:
    """Models with two numbers a point have none; visibility is never divided by a side."""
    seen = np.array([[[400, 100, 0.75], [0, 0, 0.125]]], np.float32)
    assert {"x": [0.5, 0.0], "y": [0.25, 0.0], "visible": [0.75, 0.12]} == entries(
        found(keypoints=seen), is_normalized=True
    )[0]["keypoints"]
    assert {"x": [400.0, 0.0], "y": [100.0, 0.0]} == entries(found(keypoints=seen[:, :, :2]))[0][
        "keypoints"
    ]


def test_an_oriented_box_has_four_corners() -> None:
    """In place of the upright box."""
    corners = np.array([[[20, 10], [40, 20], [30, 40], [10, 30]]], np.float32)
    assert {
        "x1": 20.0, "y1": 10.0, "x2": 40.0, "y2": 20.0,
        "x3": 30.0, "y3": 40.0, "x4": 10.0, "y4": 30.0,
    } == entries(found(corners=corners))[0]["box"]  # fmt: skip


def test_a_classifier_ranks_the_whole_image() -> None:
    """Entries without a box, as many as classes were ranked."""
    ranking = ClassRanking(np.array([1, 0], np.int64), np.array([0.875, 0.125], np.float32))
    nothing = Detections(
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.float32),
        np.zeros(0, np.int64),
        ranking=ranking,
    )
    assert [
        {"name": "nut", "class": 1, "confidence": 0.88},
        {"name": "bolt", "class": 0, "confidence": 0.12},
    ] == entries(nothing)


@pytest.mark.needs_seal
@pytest.mark.usefixtures("ultralytics")
@pytest.mark.parametrize("is_normalized", [False, True])
@pytest.mark.parametrize("decimals", [0, 3, 5, 10])
def test_every_digit_is_that_of_summary(decimals: int, *, is_normalized: bool) -> None:
    """Roundings agree on a thousand boxes and keypoints, also where a digit more would be a five."""
    import torch
    from ultralytics.engine.results import Results

    rng = np.random.default_rng(decimals)
    # Multiples of 1/64 end in a five, so that ways of rounding show.
    boxes = (rng.integers(0, 25_600, (1000, 4)) / 64).astype(np.float32)
    confidences = (rng.integers(0, 1024, 1000) / 1024).astype(np.float32)
    class_ids = rng.integers(0, 2, 1000)
    poses = (rng.integers(0, 25_600, (1000, 2, 3)) / 64).astype(np.float32)
    poses[:, :, 2] /= 400
    theirs = Results(
        np.zeros((399, 801, 3), np.uint8),
        path="",
        names=dict(enumerate(NAMES)),
        boxes=torch.from_numpy(np.column_stack((boxes, confidences, class_ids))),
        keypoints=torch.from_numpy(poses.copy()),
    )
    ours = summarize(
        Detections(boxes, confidences, class_ids, keypoints=poses),
        NAMES,
        image_shape=(399, 801),
        is_normalized=is_normalized,
        decimals=decimals,
    )
    expected: list[dict[str, Any]] = theirs.summary(normalize=is_normalized, decimals=decimals)
    assert expected == ours
