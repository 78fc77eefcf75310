"""Two answers about one image: what counts as the same, and how a difference is put."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.inference.agreement import Tolerance, compare, find_differences, pair_up
from gateway.store.records import ClassRanking, Detections

Box = tuple[float, float, float, float]
EXACT = Tolerance(box_pixels=0.01, confidence=1e-4)
SQUARE: Box = (10, 10, 50, 50)
FAR: Box = (200, 200, 240, 260)


def answer(*rows: tuple[int, float, Box]) -> Detections:
    """Detections from (class, confidence, box)."""
    return Detections(
        np.array([box for _, _, box in rows], np.float32).reshape(-1, 4),
        np.array([confidence for _, confidence, _ in rows], np.float32),
        np.array([class_id for class_id, _, _ in rows], np.int64),
    )


def said(expected: Detections, found: Detections) -> tuple[str, ...]:
    """The differences as parity counts them."""
    return compare(expected, found, box_pixels=0.01, confidence=1e-4)


def moved(box: Box, pixels: float) -> Box:
    """A box further to the right."""
    return (box[0] + pixels, box[1], box[2] + pixels, box[3])


def test_order_and_rounding_do_not_count() -> None:
    """The same boxes, the last digits different, in another order."""
    expected = answer((1, 0.5, SQUARE), (1, 0.49995, FAR))
    found = answer((1, 0.50001, moved(FAR, 0.005)), (1, 0.49999, SQUARE))
    assert () == said(expected, found)


def test_a_missing_box_is_named() -> None:
    """With its class, confidence and place."""
    expected = answer((1, 0.5, SQUARE), (2, 0.4, FAR))
    assert ("class 2 with 0.4000 at (200.0, 200.0, 240.0, 260.0) is missing",) == said(
        expected, answer((1, 0.5, SQUARE))
    )


def test_an_extra_box_is_named() -> None:
    """The other way round."""
    assert ("class 1 with 0.5000 at (10.0, 10.0, 50.0, 50.0) is extra",) == said(
        answer(), answer((1, 0.5, SQUARE))
    )


def test_another_class_is_another_box() -> None:
    """One missing, one extra."""
    texts = said(answer((1, 0.5, SQUARE)), answer((2, 0.5, SQUARE)))
    assert ["missing", "extra"] == [text.rsplit(" ", 1)[1] for text in texts]


def test_a_moved_box_is_off_by_its_pixels() -> None:
    """The number and the limit."""
    (text,) = said(answer((1, 0.5, SQUARE)), answer((1, 0.5, moved(SQUARE, 0.5))))
    assert text.endswith("its box is off by 0.5 pixels (at most 0.01)")


def test_another_confidence_is_off_by_its_sign() -> None:
    """Lower is said to be lower."""
    (text,) = said(answer((1, 0.5, SQUARE)), answer((1, 0.4, SQUARE)))
    assert text.endswith("its confidence by -0.1 (at most 0.0001)")


def test_one_box_is_one_difference() -> None:
    """Place and confidence together."""
    (text,) = said(answer((1, 0.5, SQUARE)), answer((1, 0.4, moved(SQUARE, 1))))
    assert "off by 1 pixels" in text
    assert "confidence by -0.1" in text


def test_nan_is_a_difference() -> None:
    """It compares as false with everything."""
    assert said(answer((1, 0.5, SQUARE)), answer((1, float("nan"), SQUARE)))
    assert said(answer((1, 0.5, SQUARE)), answer((1, 0.5, (float("nan"),) * 4)))


def test_twins_are_paired_by_confidence() -> None:
    """A head without suppression gives one place twice; their rounding must not cross them."""
    expected = answer((1, 0.9, SQUARE), (1, 0.3, moved(SQUARE, 0.004)))
    found = answer((1, 0.9, moved(SQUARE, 0.004)), (1, 0.3, SQUARE))
    assert () == said(expected, found)


def test_boxes_without_area_are_paired_by_place() -> None:
    """Their overlap is 0/0."""
    point: Box = (5, 5, 5, 5)
    assert () == said(answer((1, 0.5, point)), answer((1, 0.5, point)))


def test_a_box_is_paired_once() -> None:
    """Two found where one was: one is extra."""
    texts = said(answer((1, 0.5, SQUARE)), answer((1, 0.5, SQUARE), (1, 0.4, SQUARE)))
    assert ("class 1 with 0.4000 at (10.0, 10.0, 50.0, 50.0) is extra",) == texts


@pytest.mark.parametrize(("confidence", "differences"), [(0.255, 0), (0.265, 1)])
def test_near_the_threshold_a_box_may_be_absent(confidence: float, differences: int) -> None:
    """Where the option is taken, on either side; without it, never."""
    near = Tolerance(box_pixels=0.01, confidence=0.01, threshold=0.25)
    one, none = answer((1, confidence, SQUARE)), answer()
    assert differences == len(find_differences(one, none, near))
    assert differences == len(find_differences(none, one, near))
    strict = dataclasses.replace(near, threshold=None)
    assert 1 == len(find_differences(one, none, strict))


def test_below_the_threshold_nothing_is_compared() -> None:
    """But a box that counts is compared with its partner that does not."""
    near = Tolerance(box_pixels=0.01, confidence=0.01, threshold=0.25)
    weak = answer((1, 0.1, SQUARE))
    assert [] == find_differences(weak, answer((1, 0.2, moved(SQUARE, 3))), near)
    assert 1 == len(find_differences(answer((1, 0.3, SQUARE)), weak, near))


def test_a_large_box_may_be_off_by_its_ratio() -> None:
    """5 % of 40 pixels are 2."""
    tolerance = Tolerance(box_pixels=0.0, confidence=0.1, box_ratio=0.05)
    one = answer((1, 0.5, SQUARE))
    assert [] == find_differences(one, answer((1, 0.5, moved(SQUARE, 1.9))), tolerance)
    assert find_differences(one, answer((1, 0.5, moved(SQUARE, 2.1))), tolerance)


def test_a_rival_over_the_same_object_contests_a_box() -> None:
    """Suppression may have chosen the other one; nothing else is explained by that."""
    one, elsewhere = answer((1, 0.5, SQUARE)), answer((1, 0.5, moved(SQUARE, 8)))
    assert [True] == [each.is_contested for each in find_differences(one, elsewhere, EXACT)]
    weaker, named = answer((1, 0.4, SQUARE)), answer((2, 0.5, SQUARE))
    assert [False] == [each.is_contested for each in find_differences(one, weaker, EXACT)]
    assert [False, False] == [each.is_contested for each in find_differences(one, named, EXACT)]
    twice = answer((1, 0.5, SQUARE), (1, 0.4, moved(SQUARE, 8)))
    assert [True] == [each.is_contested for each in find_differences(one, twice, EXACT)]


def with_polygon(*points: tuple[float, float]) -> Detections:
    """One box and its outline."""
    outline = np.array(points, np.float32).reshape(-1, 2)
    return dataclasses.replace(answer((1, 0.5, SQUARE)), polygons=(outline,))


def test_outlines_are_compared_by_extent_and_area() -> None:
    """Not by their points, of which there may be more."""
    square = with_polygon((10, 10), (50, 10), (50, 50), (10, 50))
    assert () == said(square, with_polygon((10, 10), (30, 10), (50, 10), (50, 50), (10, 50)))
    (text,) = said(square, with_polygon((10, 10), (50, 10), (50, 30), (10, 30)))
    assert "outline reaches 20 pixels elsewhere" in text
    (text,) = said(square, with_polygon((10, 10), (50, 10), (10, 50), (50, 50)))
    assert text.endswith("its outline holds 0 square pixels, not 1600")
    (text,) = said(square, with_polygon())
    assert text.endswith("only one side has an outline")
    assert () == said(with_polygon(), with_polygon())
    (text,) = said(square, answer((1, 0.5, SQUARE)))
    assert text.endswith("only one side has polygons")


def with_keypoints(*points: tuple[float, ...]) -> Detections:
    """One box and its keypoints."""
    return dataclasses.replace(answer((1, 0.5, SQUARE)), keypoints=np.array([points], np.float32))


@pytest.mark.parametrize(
    ("points", "end"),
    [
        (((1.0, 2.0, 0.9),), None),
        (((1.0, 2.5, 0.9),), "a keypoint is off by 0.5 pixels (at most 0.01)"),
        (((1.0, 2.0, 0.5),), "a keypoint's visibility is off by 0.4 (at most 0.0001)"),
        (((1.0, 2.0),), "it has keypoints of shape (1, 2), not (1, 3)"),
    ],
)
def test_keypoints_are_compared_one_by_one(
    points: tuple[tuple[float, ...], ...], end: str | None
) -> None:
    """Place, visibility and number."""
    texts = said(with_keypoints((1.0, 2.0, 0.9)), with_keypoints(*points))
    assert ([] if end is None else [end]) == [text.split(": ")[1] for text in texts]


def test_corners_may_begin_anywhere() -> None:
    """The rectangle is the same."""
    corners = np.array([[[10, 10], [50, 10], [50, 50], [10, 50]]], np.float32)
    one = dataclasses.replace(answer((1, 0.5, SQUARE)), corners=corners)
    assert () == said(one, dataclasses.replace(one, corners=np.roll(corners, 2, axis=1)))
    (text,) = said(one, dataclasses.replace(one, corners=corners + 1))
    assert text.endswith("a corner is off by 1 pixels (at most 0.01)")


def ranked(*places: tuple[int, float]) -> Detections:
    """What a classifier answers."""
    ranking = ClassRanking(
        np.array([class_id for class_id, _ in places], np.int64),
        np.array([confidence for _, confidence in places], np.float32),
    )
    return dataclasses.replace(answer(), ranking=ranking)


def test_rankings_are_compared_by_class() -> None:
    """Equals may swap places, also with what is ranked last."""
    one = ranked((3, 0.5), (1, 0.3), (2, 0.1))
    assert () == said(one, ranked((3, 0.5), (1, 0.3), (7, 0.1)))
    assert ("class 3 is ranked with 0.4000, not 0.5000 (at most 0.0001 apart)",) == said(
        one, ranked((3, 0.4), (1, 0.3), (2, 0.1))
    )
    assert ("only one side ranks the classes",) == said(one, answer())


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 40))
def test_an_answer_is_the_same_as_itself_shuffled(seed: int, count: int) -> None:
    """Whatever overlaps; and without its first box it is not."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 100, (count, 2))
    boxes = np.hstack((corner, corner + rng.uniform(0, 50, (count, 2)))).astype(np.float32)
    one = Detections(boxes, rng.random(count, np.float32), rng.integers(0, 3, count))
    order = rng.permutation(count)
    other = Detections(boxes[order], one.confidences[order], one.class_ids[order])
    assert () == said(one, other)
    assert [(index, int(place)) for index, place in enumerate(np.argsort(order))] == pair_up(
        one, other, EXACT
    )
    if count:
        shorter = Detections(boxes[1:], one.confidences[1:], one.class_ids[1:])
        assert said(one, shorter)
