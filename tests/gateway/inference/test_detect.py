"""From encoded bytes to boxes, in full and reduced."""

import cv2
import numpy as np
import pytest

from gateway.errors import Code, DecodeError
from gateway.inference.canvas_lane import CanvasLane, Outputs
from gateway.inference.decode import ImageLimits
from gateway.inference.detect import InferenceResult, detect_one
from gateway.inference.postprocess import Thresholds
from gateway.inference.preprocess import Canvas


class FakeRequest:
    """Finds one box on the upper left quarter of the canvas."""

    def infer(self) -> Outputs:
        """Run."""
        return Outputs(np.array([[[0, 0, 32, 32, 0.5, 0]]], np.float32), None)


def detected(extension: str, *, is_decode_reduced: bool) -> InferenceResult:
    """What is found in a white image of 400 x 400 on a canvas of 64 x 64."""
    lane = CanvasLane(Canvas((64, 64)), FakeRequest(), is_decode_reduced=is_decode_reduced)
    body = cv2.imencode(extension, np.full((400, 400, 3), 255, np.uint8))[1].tobytes()
    return detect_one(lane, body, Thresholds(), limits=ImageLimits(), queue_milliseconds=7.0)


@pytest.mark.parametrize(
    ("extension", "is_decode_reduced", "decoded"),
    [(".jpg", False, 400), (".jpg", True, 100), (".png", True, 400)],
)
def test_boxes_and_shape_are_those_of_the_image_that_was_sent(
    extension: str, is_decode_reduced: bool, decoded: int
) -> None:
    """Whatever the decoder left out."""
    result = detected(extension, is_decode_reduced=is_decode_reduced)
    assert (decoded, decoded, 3) == result.image.shape
    assert result.image_shape == (400, 400)
    assert result.detections.boxes_xyxy.tolist() == [[0.0, 0.0, 200.0, 200.0]]


def test_where_the_time_went() -> None:
    """Decoding is a stage of its own; the wait is the caller's to know."""
    result = detected(".jpg", is_decode_reduced=False)
    assert result.decode_milliseconds > 0
    assert result.preprocess_milliseconds > 0
    assert result.queue_milliseconds == 7.0


def test_what_is_no_image_never_reaches_the_lane() -> None:
    """It ends in the decoder."""
    lane = CanvasLane(Canvas((64, 64)), FakeRequest())
    with pytest.raises(DecodeError) as caught:
        detect_one(lane, b"no image", Thresholds(), limits=ImageLimits())
    assert caught.value.code == Code.IMAGE_UNSUPPORTED
