"""Ultralytics' own predict as the gates ask for it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.errors import OperatorError
from gateway.inference.postprocess import Thresholds
from gateway.sealing.oracle import UltralyticsOracle

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


@pytest.mark.parametrize("is_pickle", [True, False])
def test_what_is_no_weights_is_refused(*, is_pickle: bool) -> None:
    """The message says what was expected."""
    with pytest.raises(OperatorError, match=r"Ultralytics \.pt|\.pt or ONNX file"):
        UltralyticsOracle(b"not weights", is_pickle=is_pickle, image_size=(640, 640))


def test_what_is_no_image_is_told(test_data: Path) -> None:
    """Not as a failure inside a library."""
    weights = (test_data / "yolov8n_coco.onnx").read_bytes()
    oracle = UltralyticsOracle(weights, is_pickle=False, image_size=(640, 640))
    with pytest.raises(OperatorError, match="cannot predict an image"):
        oracle.predict(b"not an image", Thresholds())
