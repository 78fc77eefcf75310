"""What is refused before anything is exported."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.commands.seal_order import SealOrder, check_order
from gateway.errors import Code, OperatorError
from gateway.inference.labelled import LabelledImage, read_labelled_folder

PT = SealOrder(source_file=Path("a.pt"), name="a", version="1", signer_file=Path("signer.key"))
ONNX = replace(PT, source_file=Path("a.onnx"))


@pytest.fixture
def unlabelled(tmp_path: Path) -> list[LabelledImage]:
    """Images of which nobody has said what is in them."""
    (tmp_path / "a.jpg").write_bytes(b"x")
    return read_labelled_folder(tmp_path)


@pytest.fixture
def labelled(tmp_path: Path) -> list[LabelledImage]:
    """Images of which somebody has."""
    folder = tmp_path / "labelled"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"x")
    (folder / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n", encoding="ascii")
    return read_labelled_folder(folder)


@pytest.mark.parametrize(
    ("order", "told"),
    [
        (replace(PT, precision="fp16"), "--precision takes f32, bf16, int8, not 'fp16'"),
        (replace(ONNX, head="foo"), "--head takes auto, nms_free, dense, not 'foo'"),
        (replace(PT, engine="tensorrt"), "--engine takes openvino, onnxruntime, ultralytics"),
        (replace(PT, task="foo"), "--task takes detect, segment, pose, obb, classify, not 'foo'"),
        (replace(PT, image_size_pixels=0), "--imgsz takes 1 to 8192 pixels, not 0"),
        (replace(PT, image_size_pixels=-32), "--imgsz takes 1 to 8192 pixels, not -32"),
        (replace(PT, image_size_pixels=99_999), "--imgsz takes 1 to 8192 pixels, not 99999"),
        (replace(ONNX, image_size_pixels=320), "an ONNX file has its size and its head already"),
        (replace(ONNX, head="dense"), "an ONNX file has its size and its head already"),
        (replace(PT, engine="onnxruntime", precision="bf16"), "choose openvino for bf16"),
        (replace(PT, precision="int8", is_loss_accepted=True), "int8 needs images"),
    ],
)
def test_what_does_not_fit_is_refused_at_once(order: SealOrder, told: str) -> None:
    """With the option and what it takes."""
    with pytest.raises(OperatorError, match=told) as caught:
        check_order(order, [])
    assert caught.value.code is Code.MODEL_UNSUPPORTED


@pytest.mark.parametrize(
    "changes", [{"precision": "bf16"}, {"precision": "int8"}, {"is_decode_reduced": True}]
)
def test_a_loss_that_cannot_be_measured_is_refused_at_once(
    unlabelled: list[LabelledImage], labelled: list[LabelledImage], changes: dict[str, Any]
) -> None:
    """Labels or a word that it does not matter let it pass."""
    order = replace(PT, **changes)
    with pytest.raises(OperatorError, match="or --accept-loss") as caught:
        check_order(order, unlabelled)
    assert caught.value.code is Code.GATE_FAILED
    check_order(order, [*unlabelled, *labelled])
    check_order(replace(order, is_loss_accepted=True), unlabelled)


def test_the_usual_orders_pass() -> None:
    """Without any image."""
    check_order(PT, [])
    check_order(ONNX, [])
    check_order(replace(PT, image_size_pixels=320, head="nms_free", task="detect"), [])
