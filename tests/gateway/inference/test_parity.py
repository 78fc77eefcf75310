"""The same numbers as Ultralytics: its letterbox, its suppression, and its own predict on the same weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.inference.canvas_lane import CanvasLane
from gateway.inference.decode import ImageLimits, decode_image
from gateway.inference.detect import detect_one
from gateway.inference.engine import network_of
from gateway.inference.engines.openvino import OpenVinoEngine, inspect_onnx
from gateway.inference.postprocess import Thresholds, find_detections
from gateway.inference.preprocess import Canvas
from gateway.store.records import Detections

pytestmark = [pytest.mark.needs_seal]

BOX_PIXELS = 0.01
CONFIDENCE = 1e-4


@pytest.fixture(scope="module")
def lane(test_data: Path) -> CanvasLane:
    """The COCO-trained detector at 640 x 640."""
    onnx = (test_data / "yolov8n_coco.onnx").read_bytes()
    engine = OpenVinoEngine(network_of(onnx, inspect_onnx(onnx), precision="f32"), workers=1)
    return engine.open_lane((640, 640))


@pytest.fixture(scope="module")
def photographs(test_data: Path) -> list[Path]:
    """Fifty photographs."""
    return sorted((test_data / "coco50").glob("*.jpg"))


def assert_same(expected: NDArray[np.float32], actual: Detections) -> None:
    """Compare rows x1, y1, x2, y2, confidence, class with detections; near-ties may change places."""
    assert len(expected) == len(actual)
    ours = np.column_stack((actual.boxes_xyxy, actual.confidences, actual.class_ids))
    for row in expected:
        distance = np.abs(ours - row)
        is_match = (
            (distance[:, :4].max(axis=1) <= BOX_PIXELS)
            & (distance[:, 4] <= CONFIDENCE)
            & (distance[:, 5] == 0)
        )
        assert is_match.sum() == 1, (row, ours[distance[:, :4].max(axis=1).argmin()])


def test_canvas_equals_letterbox(ultralytics: Any) -> None:
    """Bit for bit, for sizes that round in every way."""
    from ultralytics.data.augment import LetterBox

    rng = np.random.default_rng(4)
    for canvas_shape in ((640, 640), (320, 320), (192, 192), (384, 640)):
        letterbox, canvas = LetterBox(canvas_shape, auto=False), Canvas(canvas_shape)
        for height, width in [*rng.integers(1, 900, (40, 2)), (1, 3000), (480, 640), (640, 640)]:
            image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
            canvas.place(image)
            np.testing.assert_array_equal(letterbox(image=image), canvas.pixels)


@pytest.mark.parametrize(
    ("confidence", "iou", "limit"),
    [(0.25, 0.7, 300), (0.01, 0.7, 300), (0.01, 0.0, 300), (0.05, 0.45, 20), (0.01, 0.95, 300)],
)
def test_suppression_equals_ultralytics_on_real_heads(
    ultralytics: Any,
    heads: list[tuple[Any, NDArray[np.float32]]],
    confidence: float,
    iou: float,
    limit: int,
) -> None:
    """The same boxes in the same order, to the last bit but for scaling."""
    import torch
    from ultralytics.utils import nms, ops

    thresholds = Thresholds(confidence=confidence, iou=iou, max_detections=limit)
    for fit, head in heads:
        actual = find_detections(head, thresholds=thresholds, fit=fit)
        (expected,) = nms.non_max_suppression(
            torch.from_numpy(head.copy()), confidence, iou, max_det=limit
        )
        expected[:, :4] = ops.scale_boxes((640, 640), expected[:, :4], fit.image_shape)
        np.testing.assert_array_equal(expected[:, 5].numpy(), actual.class_ids)
        np.testing.assert_array_equal(expected[:, 4].numpy(), actual.confidences)
        np.testing.assert_allclose(actual.boxes_xyxy, expected[:, :4].numpy(), rtol=1e-6, atol=1e-4)


@pytest.fixture(scope="module")
def heads(lane: CanvasLane, photographs: list[Path]) -> list[tuple[Any, NDArray[np.float32]]]:
    """Placement and raw head of each photograph."""
    found = []
    for path in photographs:
        fit = lane.canvas.place(decode_image(path.read_bytes(), ImageLimits()))
        found.append((fit, lane.request.infer().head.copy()))
    return found


def crowd(rng: np.random.Generator, *, has_ties: bool) -> NDArray[np.float32]:
    """A head with 4000 overlapping candidates of 20 classes; without ties all best scores differ."""
    head = np.zeros((1, 24, 4000), np.float32)
    head[0, :2] = rng.uniform(0, 640, (2, 4000))
    head[0, 2:4] = rng.uniform(5, 200, (2, 4000))
    if has_ties:
        head[0, 4:] = rng.uniform(0, 1, (20, 4000)).round(2) ** 4
    else:
        best = rng.permutation(np.linspace(0.02, 0.98, 4000))
        head[0, 4:] = best * rng.uniform(0, 0.9, (20, 4000))
        head[0, 4 + rng.integers(0, 20, 4000), np.arange(4000)] = best
    return head


@pytest.mark.parametrize("has_ties", [False, True])
def test_suppression_equals_ultralytics_on_crowds(ultralytics: Any, has_ties: bool) -> None:
    """Thousands of overlapping candidates of many classes."""
    import torch
    import torchvision
    from ultralytics.utils import nms

    from gateway.inference.preprocess import fit_image

    if has_ties and torchvision.__spec__.loader is None:
        pytest.skip("torchvision does not fit torch here; its stand-in orders equal scores anyhow")
    rng = np.random.default_rng(5)
    for _ in range(6):
        head = crowd(rng, has_ties=has_ties)
        actual = find_detections(
            head, thresholds=Thresholds(confidence=0.5), fit=fit_image((640, 640), (640, 640))
        )
        (expected,) = nms.non_max_suppression(torch.from_numpy(head.copy()), 0.5, 0.7, max_det=300)
        np.testing.assert_array_equal(expected[:, 5].numpy(), actual.class_ids)
        np.testing.assert_array_equal(expected[:, 4].numpy(), actual.confidences)
        np.testing.assert_allclose(
            actual.boxes_xyxy, expected[:, :4].numpy().clip(0, 640), rtol=1e-6, atol=1e-4
        )


@pytest.mark.parametrize("name", ["yolov8n_coco.onnx", "yolov8n_coco.pt"])
def test_detections_equal_ultralytics_predict(
    ultralytics: Any,
    lane: CanvasLane,
    photographs: list[Path],
    test_data: Path,
    tmp_path: Path,
    name: str,
) -> None:
    """From the file to the boxes, against Ultralytics' own run of the same ONNX file and of its PyTorch twin."""
    weights = tmp_path / name
    weights.write_bytes((test_data / name).read_bytes())
    model = ultralytics.YOLO(str(weights), task="detect")
    for path in photographs:
        (expected,) = model.predict(
            str(path), imgsz=640, rect=False, conf=0.25, iou=0.7, device="cpu", verbose=False
        )
        result = detect_one(lane, path.read_bytes(), Thresholds(), limits=ImageLimits())
        assert expected.orig_shape == result.image_shape
        assert_same(expected.boxes.data.numpy(), result.detections)
