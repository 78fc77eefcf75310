"""The export from Ultralytics weights."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest

from gateway.errors import OperatorError
from gateway.inference.agreement import compare
from gateway.inference.decode import ImageLimits, decode_image
from gateway.inference.engine import Network
from gateway.inference.engines.openvino import OpenVinoEngine, inspect_onnx
from gateway.inference.postprocess import Thresholds
from gateway.sealing.export import export_onnx
from gateway.sealing.oracle import UltralyticsOracle
from gateway.sealing.private_folder import folder_in_memory

SIDE_PIXELS = 160
BIAS = -2.6


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


@pytest.mark.needs_seal
@pytest.mark.usefixtures("ultralytics")
def test_a_pickle_that_raises_what_it_likes_is_refused(tmp_path: Path) -> None:
    """This one divides by zero: it runs code, whose exceptions can be of any class."""
    (tmp_path / "x.pt").write_bytes(b"coperator\nfloordiv\n(I1\nI0\ntR.")
    with pytest.raises(OperatorError, match=r"x\.pt cannot be exported \(ZeroDivisionError\)"):
        export_onnx(tmp_path / "x.pt", image_size=(640, 640))


def run(core: Any, onnx: bytes, image: Any) -> Any:
    """The network's first output for this image, computed in 32-bit floats."""
    compiled = core.compile_model(core.read_model(onnx), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled(image)[0]


@pytest.mark.needs_seal
@pytest.mark.parametrize(
    ("network", "head", "is_end_to_end"),
    [
        ("yolov8n", "auto", False),
        ("yolo11n", "auto", False),
        ("yolo11n", "dense", False),
        ("yolo26n", "auto", False),
        ("yolo26n", "dense", False),
        ("yolo26n", "nms_free", True),
    ],
)
def test_our_pipeline_finds_what_ultralytics_finds(
    ultralytics: Any,
    test_data: Path,
    tmp_path: Path,
    network: str,
    head: str,
    is_end_to_end: bool,
) -> None:
    """The same classes and counts, boxes within 0.01 pixel, confidence within 1e-4: each head of each network."""
    weights = save_eager(ultralytics, network, tmp_path)
    exported = export_onnx(weights, image_size=(SIDE_PIXELS, SIDE_PIXELS), head=head)
    facts = inspect_onnx(exported.onnx)
    assert (is_end_to_end, is_end_to_end) == (exported.is_end_to_end, facts.is_end_to_end)
    lane = OpenVinoEngine(
        Network(
            weights=exported.onnx,
            task="detect",
            class_names=facts.class_names,
            input_size=facts.input_size,
            is_dynamic=False,
            stride_pixels=facts.stride_pixels,
            precision="f32",
        ),
        workers=1,
    ).open_lane(facts.input_size)
    oracle = UltralyticsOracle(
        weights.read_bytes(), is_pickle=True, image_size=exported.input_size, head=head
    )
    for path in sorted((test_data / "coco50").glob("*.jpg"))[:4]:
        encoded = path.read_bytes()
        thresholds = Thresholds(confidence=clear_threshold(oracle, encoded))
        image = decode_image(encoded, ImageLimits())
        shape = (image.shape[0], image.shape[1])
        expected = oracle.predict(encoded, thresholds)
        found = lane.find(image, thresholds, image_shape=shape).detections
        assert len(expected) >= 5
        assert () == tuple(compare(expected, found, box_pixels=0.01, confidence=1e-4))


def clear_threshold(oracle: UltralyticsOracle, encoded: bytes) -> float:
    """A confidence that 5 to 14 detections exceed, and none comes near to."""
    best = oracle.predict(encoded, Thresholds(confidence=0.01)).confidences[4:15]
    widest = int(np.argmax(best[:-1] - best[1:]))
    return float(best[widest] + best[widest + 1]) / 2


def save_eager(ultralytics: Any, network: str, folder: Path) -> Path:
    """Untrained weights that find something: scores spread wide, and most of them low."""
    import torch

    torch.manual_seed(8)
    model = ultralytics.YOLO(f"{network}.yaml")
    head = model.model.model[-1]
    for boxes, scores in (("cv2", "cv3"), ("one2one_cv2", "one2one_cv3")):
        for branch in getattr(head, boxes, None) or ():
            # Less of what an untrained network makes of rounding.
            branch[-1].weight.data *= 0.03
        for branch in getattr(head, scores, None) or ():
            branch[-1].weight.data.normal_(0, 0.01)
            branch[-1].bias.data.fill_(BIAS)
    # Normalised as in training, or what reaches the head of a network this deep is next to nothing.
    for module in model.model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    # Smooth, as photographs are: what is normalised for noise explodes on them.
    smooth = torch.nn.Upsample((SIDE_PIXELS, SIDE_PIXELS), mode="bilinear")
    with torch.no_grad():
        model.model.train()(smooth(torch.rand(16, 3, 12, 12)))
    model.model.eval()
    path = folder / f"{network}.pt"
    model.save(path)
    return path


@pytest.mark.needs_seal
def test_a_head_that_the_network_lacks_is_refused(ultralytics: Any, tmp_path: Path) -> None:
    """Before anything is exported, with what to do instead."""
    plain = save_eager(ultralytics, "yolo11n", tmp_path)
    with pytest.raises(OperatorError, match="no NMS-free head"):
        export_onnx(plain, image_size=(64, 64), head="nms_free")
    model = ultralytics.YOLO(str(save_eager(ultralytics, "yolo26n", tmp_path)))
    model.model.end2end = True
    model.model.fuse(verbose=False)
    model.save(tmp_path / "fused.pt")
    with pytest.raises(OperatorError, match="lost its dense head"):
        export_onnx(tmp_path / "fused.pt", image_size=(64, 64), head="dense")
    assert export_onnx(tmp_path / "fused.pt", image_size=(64, 64)).is_end_to_end


@pytest.mark.needs_seal
def test_other_tasks_are_refused(ultralytics: Any, tmp_path: Path) -> None:
    """They are sealed as they are, and the message says so."""
    ultralytics.YOLO("yolo11n-seg.yaml").save(tmp_path / "seg.pt")
    with pytest.raises(OperatorError, match=r"task is segment.*seal the \.pt itself"):
        export_onnx(tmp_path / "seg.pt", image_size=(64, 64))


def test_an_unknown_head_is_refused(tmp_path: Path) -> None:
    """The message lists what there is."""
    with pytest.raises(OperatorError, match="choose auto, nms_free, dense"):
        export_onnx(tmp_path / "x.pt", image_size=(64, 64), head="both")


@pytest.mark.needs_seal
def test_no_file_appears_anywhere(ultralytics: Any, tmp_path: Path) -> None:
    """Where one works, beside the weights, in the temporary folder and in one's home, also where the libraries like."""
    for name in ("home", "here", "temporary", "weights"):
        (tmp_path / name).mkdir()
    weights = save_eager(ultralytics, "yolov8n", tmp_path / "weights")
    root = Path(__file__).resolve().parents[3]
    code = f"""
import sys; sys.path.insert(0, {str(root)!r})
import numpy as np
from pathlib import Path
from gateway.sealing.export import export_onnx
from gateway.sealing.quantise import quantise_int8
onnx = export_onnx(Path({str(weights)!r}), image_size=(64, 64)).onnx
quantise_int8(onnx, samples=[np.zeros((64, 64, 3), np.uint8)])
"""
    environment = os.environ | {
        "HOME": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path / "temporary"),
        "XDG_CONFIG_HOME": str(tmp_path / "home"),
        "XDG_CACHE_HOME": str(tmp_path / "home"),
    }
    environment.pop("YOLO_CONFIG_DIR", None)
    memory = folder_in_memory(needed_bytes=1)
    with tempfile.TemporaryDirectory(dir=memory) as runtime:
        environment["XDG_RUNTIME_DIR"] = runtime
        subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path / "here", env=environment, check=True
        )
        assert list(Path(runtime).iterdir()) == []
    left = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    # Ultralytics' own settings, which say nothing of a model.
    settings = {
        Path("home/Ultralytics/settings.json"),
        Path("home/Ultralytics/persistent_cache.json"),
    }
    assert {Path("weights/yolov8n.pt")} == left - settings
