"""A lane around any engine's request: boxes in the pixels that were sent, numbers that are the caller's own."""

import numpy as np
from numpy.typing import NDArray

from gateway.inference.canvas_lane import CanvasLane, Outputs
from gateway.inference.postprocess import Thresholds
from gateway.inference.preprocess import Canvas


class FakeRequest:
    """Finds one box in the lower right quarter of the canvas; its feature counts the runs."""

    def __init__(self, canvas: Canvas, *, has_feature: bool = True) -> None:
        self.pixels = canvas.pixels
        side = canvas.shape[0]
        head = np.array([[[side / 2, side / 2, side, side, 0.5, 0]]], np.float32)
        self.feature = np.zeros((1, 2), np.float32)
        self.outputs = Outputs(head, self.feature if has_feature else None)

    def infer(self) -> Outputs:
        """Run."""
        self.feature += 1
        return self.outputs


def lane_of(*, has_feature: bool = True, is_decode_reduced: bool = False) -> CanvasLane:
    """A lane with a canvas of 64 x 64."""
    canvas = Canvas((64, 64))
    request = FakeRequest(canvas, has_feature=has_feature)
    return CanvasLane(canvas, request, is_decode_reduced=is_decode_reduced)


def image(height: int, width: int) -> NDArray[np.uint8]:
    """A black image."""
    return np.zeros((height, width, 3), np.uint8)


def test_boxes_are_in_the_pixels_of_the_image_that_was_sent() -> None:
    """Whether the lane got all of its pixels or a quarter of each side."""
    lane = lane_of()
    for given in ((400, 800), (100, 200)):
        found = lane.find(image(*given), Thresholds(), image_shape=(400, 800))
        assert found.detections.boxes_xyxy.tolist() == [[400.0, 200.0, 800.0, 400.0]]


def test_a_reduced_image_lies_where_the_whole_one_would() -> None:
    """Rounding of reduced sides does not move the picture on the canvas."""
    lane, whole = lane_of(), lane_of()
    bright = np.full((34, 50, 3), 255, np.uint8)
    lane.find(bright, Thresholds(), image_shape=(133, 199))
    whole.find(np.full((133, 199, 3), 255, np.uint8), Thresholds(), image_shape=(133, 199))
    np.testing.assert_array_equal(whole.canvas.pixels, lane.canvas.pixels)


def test_the_embedding_is_the_callers_own() -> None:
    """The engine writes the next one into the same memory."""
    lane = lane_of()
    first = lane.find(image(64, 64), Thresholds(), image_shape=(64, 64)).embedding
    lane.find(image(64, 64), Thresholds(), image_shape=(64, 64))
    assert first is not None
    assert first.dtype == np.float32
    assert first.tolist() == [1.0, 1.0]


def test_a_network_without_a_feature_has_no_embedding() -> None:
    """Absent, not zero."""
    found = lane_of(has_feature=False).find(image(8, 8), Thresholds(), image_shape=(8, 8))
    assert found.embedding is None


def test_times_are_of_one_stage_each() -> None:
    """And all of them pass."""
    found = lane_of().find(image(64, 64), Thresholds(), image_shape=(64, 64))
    assert found.preprocess_milliseconds > 0
    assert found.inference_milliseconds > 0
    assert found.postprocess_milliseconds > 0


def test_pixels_are_left_out_only_where_the_header_says_so() -> None:
    """And as many as its canvas still does without."""
    assert lane_of().decode_covers is None
    assert lane_of(is_decode_reduced=True).decode_covers == (64, 64)


def test_warming_up_runs_the_network() -> None:
    """Once."""
    lane = lane_of()
    lane.warm_up()
    assert lane.request.infer().feature is not None
    found = lane.find(image(64, 64), Thresholds(), image_shape=(64, 64))
    assert found.embedding is not None
    assert found.embedding.tolist() == [3.0, 3.0]
