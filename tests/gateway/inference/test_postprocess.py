"""Detections from head outputs: thresholds, suppression, coordinates."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gateway.errors import Code, RequestError, RunnerError
from gateway.inference.postprocess import Thresholds, find_detections, overlaps, suppress
from gateway.inference.preprocess import Fit
from gateway.store.records import Detections

Floats = NDArray[np.float32]

IDENTITY = Fit(image_shape=(100, 100), resized_shape=(100, 100), top=0, left=0)


def raw_head(*columns: tuple[float, ...]) -> Floats:
    """A raw head output: each column cx, cy, w, h, then class scores."""
    return np.array(columns, np.float32).T[np.newaxis]


def rows(found: Detections) -> list[tuple[int, float, list[float]]]:
    """Detections as plain numbers."""
    return [
        (int(class_id), round(float(confidence), 4), box)
        for class_id, confidence, box in zip(
            found.class_ids, found.confidences, found.boxes_xyxy.tolist(), strict=True
        )
    ]


def test_boxes_above_the_confidence_best_first() -> None:
    """The best class of each, not the others; at the threshold is not above it."""
    head = raw_head((20, 20, 10, 10, 0.3, 0.4), (50, 50, 20, 40, 0.9, 0.1), (80, 80, 9, 9, 0.25, 0))
    found = find_detections(head, thresholds=Thresholds(), fit=IDENTITY)
    assert rows(found) == [(0, 0.9, [40, 30, 60, 70]), (1, 0.4, [15, 15, 25, 25])]
    assert found.boxes_xyxy.dtype == np.float32
    assert found.confidences.dtype == np.float32
    assert found.class_ids.dtype == np.int64


def test_nothing_found_has_shapes_too() -> None:
    """No box is an answer."""
    for head in (raw_head((20, 20, 10, 10, 0.2)), np.zeros((1, 300, 6), np.float32)):
        found = find_detections(head, thresholds=Thresholds(), fit=IDENTITY)
        assert (
            found.boxes_xyxy.shape,
            found.confidences.shape,
            found.class_ids.shape,
        ) == ((0, 4), (0,), (0,))


def test_overlapping_boxes_of_one_class_are_suppressed() -> None:
    """The better one stays; another class in the same place stays, too."""
    head = raw_head((50, 50, 20, 20, 0.8, 0), (51, 50, 20, 20, 0.9, 0), (50, 50, 20, 20, 0, 0.7))
    found = find_detections(head, thresholds=Thresholds(), fit=IDENTITY)
    assert [confidence for _, confidence, _ in rows(found)] == [0.9, 0.7]


def test_boxes_return_to_the_original_image() -> None:
    """Padding is taken off, each side scaled by what it was scaled with, and the rest clipped."""
    fit = Fit(image_shape=(480, 640), resized_shape=(240, 320), top=40, left=0)
    head = raw_head((160, 160, 100, 60, 0.9), (0, 40, 20, 20, 0.8), (320, 280, 20, 20, 0.7))
    found = find_detections(head, thresholds=Thresholds(), fit=fit)
    assert [box for _, _, box in rows(found)] == [
        [220, 180, 420, 300],
        [0, 0, 20, 20],
        [620, 460, 640, 480],
    ]


def test_end_to_end_heads_need_no_suppression() -> None:
    """Rows are boxes already; they are filtered, put best first and limited."""
    head = np.array(
        [[[1, 2, 30, 40, 0.5, 3], [1, 2, 30, 40, 0.6, 3], [0, 0, 9, 9, 0.25, 1]]], np.float32
    )
    thresholds = Thresholds()
    assert rows(find_detections(head, thresholds=thresholds, fit=IDENTITY)) == [
        (3, 0.6, [1, 2, 30, 40]),
        (3, 0.5, [1, 2, 30, 40]),
    ]
    limited = find_detections(head, thresholds=Thresholds(max_detections=1), fit=IDENTITY)
    assert [confidence for _, confidence, _ in rows(limited)] == [0.6]


@pytest.mark.parametrize("confidence", [0.01, 0.25, 0.6])
def test_candidates_are_counted_before_suppression(confidence: float) -> None:
    """Whatever the caller wants to see of them: above 0.25, once a place, also where a better box hides it."""
    head = raw_head(
        (50, 50, 20, 20, 0.8, 0.7),
        (50, 50, 20, 20, 0.9, 0),
        (20, 20, 10, 10, 0.3, 0),
        (80, 80, 9, 9, 0.25, 0),
        (80, 20, 9, 9, math.nan, 0.5),
    )
    thresholds = Thresholds(confidence=confidence, max_detections=1)
    assert 3 == find_detections(head, thresholds=thresholds, fit=IDENTITY).candidate_count
    nothing = raw_head((20, 20, 10, 10, 0.2))
    assert 0 == find_detections(nothing, thresholds=thresholds, fit=IDENTITY).candidate_count


def test_an_end_to_end_head_tells_no_candidates() -> None:
    """What it left out, nobody knows; 0 would say that there was nothing."""
    head = np.array([[[1, 2, 30, 40, 0.5, 3]]], np.float32)
    assert find_detections(head, thresholds=Thresholds(), fit=IDENTITY).candidate_count is None


def test_the_heads_memory_is_not_kept_or_changed() -> None:
    """The engine overwrites it with the next image."""
    for head in (
        raw_head((50, 50, 20, 20, 0.8)),
        np.array([[[1, 2, 30, 40, 0.5, 3]]], np.float32),
    ):
        before = head.copy()
        found = find_detections(
            head, thresholds=Thresholds(), fit=Fit((200, 200), (100, 100), 0, 0)
        )
        np.testing.assert_array_equal(before, head)
        for part in (found.boxes_xyxy, found.confidences, found.class_ids):
            assert not np.shares_memory(head, part)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_boxes_that_are_no_numbers_are_a_failure(bad: float) -> None:
    """They would be invalid JSON, and say that the engine is broken."""
    with pytest.raises(RunnerError):
        find_detections(raw_head((bad, 20, 10, 10, 0.9)), thresholds=Thresholds(), fit=IDENTITY)


@pytest.mark.parametrize(
    "wrong",
    [
        {"confidence": 0.009},
        {"confidence": 1.01},
        {"confidence": math.nan},
        {"iou": -0.01},
        {"iou": 0.951},
        {"iou": math.nan},
        {"max_detections": 0},
        {"max_detections": 301},
    ],
)
def test_thresholds_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    """A confidence of zero would send every anchor through suppression."""
    with pytest.raises(RequestError) as caught:
        Thresholds(**wrong)  # type: ignore[arg-type]  # one of them at a time, an int where an int belongs
    assert caught.value.code == Code.PARAMETER_INVALID
    assert next(iter(wrong)) in caught.value.message


def test_thresholds_at_their_limits_are_taken() -> None:
    """The limits themselves are allowed."""
    Thresholds(confidence=0.01, iou=0, max_detections=1)
    Thresholds(confidence=1, iou=0.95, max_detections=300)


def test_overlap_is_intersection_over_union() -> None:
    """Half, none, all, and none of nothing."""
    first = np.array([[0, 0, 10, 10]], np.float32)
    second = np.array(
        [[5, 0, 15, 10], [10, 0, 20, 10], [0, 0, 10, 10], [30, 30, 40, 40]], np.float32
    )
    np.testing.assert_allclose([[1 / 3, 0, 1, 0]], overlaps(first, second), rtol=1e-6)
    point = np.array([[5, 5, 5, 5]], np.float32)
    assert math.isnan(overlaps(point, point)[0, 0])


def test_at_the_threshold_is_not_over_it() -> None:
    """torchvision's rule; half is a float32 without rounding."""
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5]], np.float32)
    assert suppress(boxes, iou=0.5, limit=300).tolist() == [0, 1]
    assert suppress(boxes, iou=0.49, limit=300).tolist() == [0]


@pytest.mark.parametrize(("inner", "iou"), [(7, 0.7), (3, 0.3), (6, 0.6), (9, 0.9), (1, 0.1)])
def test_thresholds_are_compared_without_rounding(inner: int, iou: float) -> None:
    """An overlap in float32 against a threshold in float64, as torchvision's compiled kernel does."""
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, inner]], np.float32)
    overlap = float(np.float32(inner) / np.float32(10))
    expected = [0] if overlap > iou else [0, 1]
    assert expected == suppress(boxes, iou=iou, limit=300).tolist()


def test_boxes_without_area_suppress_nothing() -> None:
    """0/0 is not more than any threshold."""
    assert suppress(np.zeros((2, 4), np.float32), iou=0.5, limit=300).tolist() == [0, 1]


def suppress_plainly(boxes: Floats, iou: float, limit: int) -> list[int]:
    """The textbook's loop, one box at a time."""
    kept: list[int] = []
    for index, box in enumerate(boxes):
        against = overlaps(boxes[kept], box[np.newaxis])
        if not (against.astype(np.float64) > iou).any():
            kept.append(index)
    return kept[:limit]


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(0, 700),
    seed=st.integers(0, 2**32 - 1),
    iou=st.floats(0, 0.95),
    limit=st.integers(1, 300),
    spread=st.sampled_from([30, 300, 3000]),
)
def test_suppression_in_blocks_equals_the_plain_loop(
    count: int, seed: int, iou: float, limit: int, spread: int
) -> None:
    """Also across block borders and when the limit ends it."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, spread, (count, 2))
    boxes = np.hstack((corner, corner + rng.integers(0, 30, (count, 2)))).astype(np.float32)
    assert suppress_plainly(boxes, iou, limit) == suppress(boxes, iou=iou, limit=limit).tolist()


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    confidence=st.floats(0.01, 1),
    # Six columns are what the other kind of head has; no network has so few places.
    count=st.integers(1, 200).filter(lambda count: count != 6),
)
def test_detections_keep_their_promises(seed: int, confidence: float, count: int) -> None:
    """Inside the image, corners in order, above the threshold, best first."""
    rng = np.random.default_rng(seed)
    head = rng.random((1, 9, count), np.float32)
    head[:, :4] *= 100
    fit = Fit(image_shape=(64, 80), resized_shape=(80, 100), top=10, left=0)
    found = find_detections(head, thresholds=Thresholds(confidence=confidence), fit=fit)
    x1, y1, x2, y2 = found.boxes_xyxy.T
    assert ((x1 >= 0) & (x1 <= x2) & (x2 <= 80)).all()
    assert ((y1 >= 0) & (y1 <= y2) & (y2 <= 64)).all()
    assert (found.confidences > np.float32(confidence)).all()
    assert (np.diff(found.confidences) <= 0).all()
    assert set(found.class_ids.tolist()) <= set(range(5))
