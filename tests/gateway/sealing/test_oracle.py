"""Ultralytics' own predict as the gates ask for it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.errors import OperatorError
from gateway.inference.postprocess import Thresholds
from gateway.sealing.oracle import UltralyticsOracle

# The pickle of 1 // 0.
DIVIDES_BY_ZERO = b"coperator\nfloordiv\n(I1\nI0\ntR."

pytestmark = [pytest.mark.needs_seal, pytest.mark.usefixtures("ultralytics")]


@pytest.mark.parametrize("name", ["yolov8n_coco.pt", "yolov8n_coco.onnx"])
def test_it_answers_as_ultralytics_does_for_the_files(
    ultralytics: Any,
    test_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    """From bytes in memory to the numbers of YOLO(path).predict(path), and no file is left where one works."""
    photographs = sorted((test_data / "coco50").glob("*.jpg"))[:3]
    weights = tmp_path / name
    weights.write_bytes((test_data / name).read_bytes())
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    oracle = UltralyticsOracle(
        weights.read_bytes(), is_pickle=name.endswith(".pt"), image_size=(640, 640)
    )
    model = ultralytics.YOLO(str(weights), task="detect")
    for path in photographs:
        found = oracle.predict(
            path.read_bytes(), Thresholds(confidence=0.3, iou=0.5, max_detections=7)
        )
        (expected,) = model.predict(
            str(path),
            imgsz=640,
            rect=False,
            conf=0.3,
            iou=0.5,
            max_det=7,
            device="cpu",
            verbose=False,
        )
        boxes = expected.boxes.data.numpy()
        assert len(found) > 0
        np.testing.assert_array_equal(boxes[:, :4], found.boxes_xyxy)
        np.testing.assert_array_equal(boxes[:, 4], found.confidences)
        np.testing.assert_array_equal(boxes[:, 5], found.class_ids)
    assert list((tmp_path / "here").iterdir()) == []


def test_a_pickle_that_raises_what_it_likes_is_refused() -> None:
    """It runs code, whose exceptions can be of any class."""
    with pytest.raises(OperatorError, match=r"cannot be loaded \(ZeroDivisionError\): are they an"):
        UltralyticsOracle(DIVIDES_BY_ZERO, is_pickle=True, image_size=(640, 640))


@pytest.mark.parametrize("is_pickle", [True, False])
def test_what_is_no_weights_is_refused(*, is_pickle: bool) -> None:
    """The message says what was expected."""
    with pytest.raises(OperatorError, match=r"Ultralytics \.pt|\.pt or ONNX file"):
        UltralyticsOracle(b"not weights", is_pickle=is_pickle, image_size=(640, 640))


def test_a_network_that_onnx_runtime_does_not_load_is_refused() -> None:
    """The exceptions of that library have no class in common with others."""
    with pytest.raises(OperatorError, match=r"cannot load these 4 bytes of weights \(.*ONNX file"):
        UltralyticsOracle(b"\x08\x08\x3a\x00", is_pickle=False, image_size=(640, 640))


def test_a_network_that_fails_on_an_image_is_told(test_data: Path) -> None:
    """Its metadata states another size than its graph takes, which ONNX Runtime finds at the first image only."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(test_data / "yolov8n_coco.onnx")
    for entry in model.metadata_props:
        if entry.key == "imgsz":
            entry.value = "[320, 320]"
    photograph = min((test_data / "coco50").glob("*.jpg"))
    oracle = UltralyticsOracle(model.SerializeToString(), is_pickle=False, image_size=(320, 320))
    with pytest.raises(OperatorError, match=r"cannot predict an image \(.*--skip-parity"):
        oracle.predict(photograph.read_bytes(), Thresholds())


def test_what_is_no_image_is_told(test_data: Path) -> None:
    """Not as a failure inside a library."""
    weights = (test_data / "yolov8n_coco.onnx").read_bytes()
    oracle = UltralyticsOracle(weights, is_pickle=False, image_size=(640, 640))
    with pytest.raises(OperatorError, match="cannot predict an image"):
        oracle.predict(b"not an image", Thresholds())
