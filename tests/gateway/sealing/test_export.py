"""The export from Ultralytics weights."""

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest

from gateway.errors import OperatorError
from gateway.sealing.export import export_onnx


def test_a_missing_file_is_refused_before_anything_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ultralytics would try to download it."""
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    with pytest.raises(OperatorError, match="there is no weights file"):
        export_onnx(tmp_path / "yolo26n.pt", image_size=(640, 640))


@pytest.mark.needs_seal
@pytest.mark.usefixtures("ultralytics")
def test_the_exported_network_is_static_and_answers_as_the_known_export(
    test_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes are the network of the weights file, with its facts, and nothing is left on disk."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    exported = export_onnx(test_data / "yolov8n_coco.pt", image_size=(640, 640))
    assert list(tmp_path.iterdir()) == []
    assert (exported.task, exported.input_size, exported.stride) == ("detect", (640, 640), 32)
    assert (
        exported.names[0],
        exported.names[79],
        len(exported.names),
    ) == ("person", "toothbrush", 80)
    assert "onnx" not in repr(exported)
    image = np.random.default_rng(7).random((1, 3, 640, 640), dtype=np.float32)
    known = run(openvino.Core(), (test_data / "yolov8n_coco.onnx").read_bytes(), image)
    assert known.shape == (1, 84, 8400)
    np.testing.assert_allclose(run(openvino.Core(), exported.onnx, image), known, atol=2e-2)


@pytest.mark.needs_seal
@pytest.mark.usefixtures("ultralytics")
def test_a_size_that_the_network_cannot_take_is_refused(test_data: Path) -> None:
    """Ultralytics would silently round up."""
    with pytest.raises(OperatorError, match="multiples of 32"):
        export_onnx(test_data / "yolov8n_coco.pt", image_size=(640, 630))


@pytest.mark.needs_seal
@pytest.mark.usefixtures("ultralytics")
def test_what_is_no_weights_file_is_refused(tmp_path: Path) -> None:
    """The message names the file and what it should be."""
    (tmp_path / "x.pt").write_bytes(b"not weights")
    with pytest.raises(OperatorError, match=r"x\.pt cannot be exported .*Ultralytics \.pt file"):
        export_onnx(tmp_path / "x.pt", image_size=(640, 640))


def run(core: Any, onnx: bytes, image: Any) -> Any:
    """The network's first output for this image, computed in 32-bit floats."""
    compiled = core.compile_model(core.read_model(onnx), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled(image)[0]
