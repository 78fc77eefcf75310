"""Quantising detectors: what becomes 8 bits, what stays f32, and what OpenVINO makes of it."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.errors import OperatorError
from gateway.inference.decode import ImageLimits, decode_image
from gateway.inference.engine import Network
from gateway.inference.engines.openvino import OpenVinoEngine, inspect_onnx
from gateway.inference.postprocess import Thresholds
from gateway.inference.preprocess import Canvas
from gateway.sealing.graphs.pooled import add_pooled_output
from gateway.sealing.quantise import MAX_SAMPLES, quantise_int8

ROOT = Path(__file__).resolve().parents[3]
onnx = pytest.importorskip("onnx", reason="needs the seal extra")
pytest.importorskip("nncf", reason="needs the seal extra")
helper = onnx.helper


def small_detector() -> bytes:
    """Two scales, a residual and a concatenation, a head with a mean over distances, a pooled output; no names."""
    rng = np.random.default_rng(11)
    nodes: list[Any] = []
    weights: list[Any] = []

    def constant(name: str, values: Any) -> str:
        weights.append(onnx.numpy_helper.from_array(np.asarray(values), name))
        return name

    def convolve(source: str, target: str, channels: tuple[int, int], size: int = 1) -> str:
        spread = rng.normal(0, (2 / channels[0]) ** 0.5 / size, (*channels[::-1], size, size))
        kernel = constant(f"{target}/w", spread.astype(np.float32))
        nodes.append(
            helper.make_node(
                "Conv", [source, kernel], [target], pads=[size // 2] * 4, kernel_shape=[size, size]
            )
        )
        return target

    def silu(source: str) -> str:
        nodes.append(helper.make_node("Sigmoid", [source], [f"{source}/s"]))
        nodes.append(helper.make_node("Mul", [source, f"{source}/s"], [f"{source}/a"]))
        return f"{source}/a"

    first = silu(convolve("images", "c0", (3, 16), 3))
    second = silu(convolve(first, "c1", (16, 16), 3))
    nodes.append(helper.make_node("Add", [first, second], ["sum"]))
    nodes.append(helper.make_node("Concat", [first, "sum"], ["both"], axis=1))
    third = silu(convolve("both", "c2", (32, 16)))
    boxes = convolve(third, "boxes", (16, 16))
    scores = convolve(third, "scores", (16, 3))
    nodes += [
        helper.make_node("Reshape", [boxes, constant("s0", np.array([1, 4, 4, -1]))], ["b0"]),
        helper.make_node("Transpose", ["b0"], ["b1"], perm=[0, 2, 1, 3]),
        helper.make_node("Softmax", ["b1"], ["b2"], axis=1),
        helper.make_node(
            "Conv",
            ["b2", constant("dfl", np.arange(4, dtype=np.float32).reshape(1, 4, 1, 1))],
            ["b3"],
            kernel_shape=[1, 1],
        ),
        helper.make_node("Reshape", ["b3", constant("s1", np.array([1, 4, -1]))], ["b4"]),
        helper.make_node("Mul", ["b4", constant("stride", np.float32(200))], ["b5"]),
        helper.make_node("Sigmoid", [scores], ["p0"]),
        helper.make_node("Reshape", ["p0", constant("s2", np.array([1, 3, -1]))], ["p1"]),
        helper.make_node("Concat", ["b5", "p1"], ["head"], axis=1),
        helper.make_node("GlobalAveragePool", [third], ["f0"]),
        helper.make_node("Flatten", ["f0"], ["features"]),
    ]
    return _serialised(nodes, weights)


def _serialised(nodes: list[Any], weights: list[Any]) -> bytes:
    """A detector's file with one input and two outputs, of these nodes."""
    floats = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", floats, [1, 3, 32, 64])],
        [
            helper.make_tensor_value_info("head", floats, [1, 7, 32 * 64]),
            helper.make_tensor_value_info("features", floats, [1, 16]),
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {"task": "detect", "stride": "1", "names": "{0:'a',1:'b',2:'c'}"})
    content: bytes = model.SerializeToString()
    return content


def canvases(count: int) -> Iterator[NDArray[np.uint8]]:
    """Smooth colours with some noise."""
    rng = np.random.default_rng(5)
    ramp = np.linspace(0, 200, 64)[None, :, None]
    for _ in range(count):
        image = ramp * rng.random(3) + rng.integers(0, 55, (32, 64, 3))
        yield image.astype(np.uint8)


@pytest.fixture(scope="module")
def quantised() -> bytes:
    """The small detector in 8 bits."""
    return quantise_int8(small_detector(), samples=canvases(8))


def run(content: bytes, pixels: NDArray[np.uint8]) -> Any:
    """Head and features for one canvas, from the engine that serves."""
    facts = inspect_onnx(content)
    is_quantised = b"DequantizeLinear" in content
    network = Network(
        weights=content,
        task="detect",
        class_names=facts.class_names,
        input_size=facts.input_size,
        is_dynamic=False,
        stride_pixels=facts.stride_pixels,
        precision="int8" if is_quantised else "f32",
    )
    lane = OpenVinoEngine(network, workers=1).open_lane(facts.input_size)
    lane.canvas.pixels[:] = pixels
    return lane.request.infer()


def test_openvino_answers_nearly_as_in_f32(quantised: bytes) -> None:
    """Also behind a concatenation of quantised maps, where the library mistakes scales if it is let."""
    for pixels in canvases(3):
        exact, found = run(small_detector(), pixels), run(quantised, pixels)
        assert np.abs(exact.head[0, 4:] - found.head[0, 4:]).mean() < 0.02
        assert np.abs(exact.head[0, :4] - found.head[0, :4]).mean() < 10
        np.testing.assert_allclose(exact.feature, found.feature, atol=0.1)


def test_only_what_leads_to_the_ends_of_the_head_is_quantised(quantised: bytes) -> None:
    """The last convolutions, the mean over distances, and the pooled output see no quantised weights."""
    graph = onnx.load_model_from_string(quantised).graph
    producers = {name: node.op_type for node in graph.node for name in node.output}
    kinds = {
        node.output[0]: producers.get(node.input[1])
        for node in graph.node
        if node.op_type == "Conv"
    }
    assert {
        "c0": "DequantizeLinear",
        "c1": "DequantizeLinear",
        "c2": "DequantizeLinear",
        "boxes": None,
        "scores": None,
        "b3": None,
    } == kinds
    behind = {"Sigmoid": "scores", "GlobalAveragePool": "c2/a", "Transpose": "b0"}
    for node in graph.node:
        if node.op_type in behind and node.output[0] in ("p0", "f0", "b1"):
            assert [behind[node.op_type]] == list(node.input)


def test_inputs_outputs_and_facts_stay(quantised: bytes) -> None:
    """Whoever reads the network next finds what was there."""
    before, after = inspect_onnx(small_detector()), inspect_onnx(quantised)
    assert before == after
    graph = onnx.load_model_from_string(quantised).graph
    assert ["head", "features"] == [output.name for output in graph.output]


def test_the_same_samples_give_the_same_bytes(quantised: bytes) -> None:
    """An interrupted sealing can be repeated."""
    assert quantised == quantise_int8(small_detector(), samples=canvases(8))


def test_samples_are_taken_one_by_one_and_no_more_than_count() -> None:
    """A generator sees the work go on, and a large folder is not read to its end."""
    taken: list[int] = []

    def counted() -> Iterator[NDArray[np.uint8]]:
        for number, pixels in enumerate(canvases(MAX_SAMPLES + 50)):
            taken.append(number)
            yield pixels

    quantise_int8(small_detector(), samples=counted())
    assert list(range(MAX_SAMPLES)) == taken


def test_no_samples_are_refused() -> None:
    """Ranges guessed from nothing would seal a network that finds nothing."""
    with pytest.raises(OperatorError, match="no images to calibrate"):
        quantise_int8(small_detector(), samples=[])


def test_samples_of_another_size_are_told() -> None:
    """Not as a failure inside a library."""
    with pytest.raises(OperatorError, match="NNCF fails on it"):
        quantise_int8(small_detector(), samples=[np.zeros((16, 16, 3), np.uint8)])


def test_a_network_without_convolutions_is_refused() -> None:
    """There is nothing to gain."""
    model = onnx.load_model_from_string(small_detector())
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.append(helper.make_node("Identity", ["images"], ["head"]))
    model.graph.node.append(helper.make_node("Flatten", ["images"], ["features"]))
    with pytest.raises(OperatorError, match="no convolution"):
        quantise_int8(model.SerializeToString(), samples=canvases(1))


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str], quantised: bytes) -> None:
    """Its bars and its list of every node would hide the steps of the command; logging is as before."""
    quantise_int8(small_detector(), samples=canvases(2))
    assert ("", "") == capfd.readouterr()
    assert logging.root.manager.disable == logging.NOTSET


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever quantises without NNCF is told what to install."""
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(OperatorError, match=r"pip install -e '\.\[seal\]'"):
        quantise_int8(small_detector(), samples=canvases(1))


def test_nothing_is_sent_and_nothing_heavy_is_imported_early() -> None:
    """NNCF runs with a stand-in for its reporter, in a process of its own as in a command."""
    code = (
        "import sys, gateway.sealing.quantise as q\n"
        "assert not {'nncf', 'torch', 'onnx', 'pandas'} & set(sys.modules)\n"
        "q._import_nncf(); import nncf.telemetry as t\n"
        "assert 'openvino_telemetry' not in sys.modules\n"
        "print(type(t.telemetry).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "MagicMock\n" == done.stdout


@pytest.mark.needs_seal
def test_a_trained_detector_finds_the_same(test_data: Path) -> None:
    """Of what the network is sure of in f32, 8 bits calibrated on a dozen photographs lose next to nothing."""
    content = add_pooled_output((test_data / "yolov8n_coco.onnx").read_bytes())
    photographs = sorted((test_data / "coco50").glob("*.jpg"))[:8]
    canvas = Canvas((640, 640))

    def placed() -> Iterator[NDArray[np.uint8]]:
        for path in photographs:
            image = decode_image(path.read_bytes(), ImageLimits())
            canvas.place(image, image_shape=(image.shape[0], image.shape[1]))
            yield canvas.pixels.copy()

    small = quantise_int8(content, samples=placed())
    assert len(small) < len(content) / 2
    best = [run(network, next(placed())).head[0, 4:].max(axis=1) for network in (content, small)]
    sure = best[0] > Thresholds().confidence
    assert sure.any()
    np.testing.assert_allclose(best[0][sure], best[1][sure], atol=0.1)
