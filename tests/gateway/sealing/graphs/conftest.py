"""Fixtures for graph surgery: the bundled detector, and both engines as functions from bytes to output bits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from numpy.typing import NDArray

Outputs = list[NDArray[Any]]
Run = Callable[[bytes, list[NDArray[np.float32]]], list[Outputs]]

CONVEYOR = Path(__file__).parents[4] / "examples" / "conveyor" / "conveyor.onnx"


@pytest.fixture(scope="session")
def onnx() -> Any:
    """The onnx package; skips where the seal extra is not installed."""
    return pytest.importorskip("onnx")


@pytest.fixture(scope="session")
def plain_conveyor(onnx: Any) -> bytes:
    """The bundled detector as its exporter wrote it: no feature output."""
    model = onnx.load(CONVEYOR)
    del model.graph.output[1:]
    kept = [node for node in model.graph.node if not node.name.startswith("features/")]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    (ones,) = [part for part in model.graph.initializer if part.name == "features/ones"]
    model.graph.initializer.remove(ones)
    content: bytes = model.SerializeToString()
    return content


@pytest.fixture(scope="session")
def images() -> list[NDArray[np.float32]]:
    """Inputs of the bundled detector: noise, a flat one, a gradient."""
    noise = np.random.default_rng(3).random((1, 3, 320, 320), dtype=np.float32)
    flat = np.full_like(noise, 114 / 255)
    gradient = np.broadcast_to(np.linspace(0, 1, 320, dtype=np.float32), noise.shape).copy()
    return [noise, flat, gradient]


@pytest.fixture(params=["onnxruntime", "openvino f32", "openvino bf16"])
def run(request: pytest.FixtureRequest) -> Run:
    """All outputs of a model for each input, in order, by each engine and precision on one thread."""
    if request.param == "onnxruntime":
        return _onnxruntime_run(pytest.importorskip("onnxruntime"))
    precision = request.param.split()[1]
    return lambda content, images: _openvino_run(content, images, precision)


def _onnxruntime_run(onnxruntime: Any) -> Run:
    def run(content: bytes, images: list[NDArray[np.float32]]) -> list[Outputs]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return [list(session.run(None, {name: image})) for image in images]

    return run


def _openvino_run(
    content: bytes, images: list[NDArray[np.float32]], precision: str
) -> list[Outputs]:
    core = openvino.Core()
    options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1}
    compiled = core.compile_model(core.read_model(content), "CPU", options)
    return [[np.array(output) for output in compiled([image]).values()] for image in images]


def small_detector(
    onnx: Any,
    *,
    outputs: tuple[str, ...] = ("output0",),
    upsampled: str | None = "map",
    batch: int | str = 1,
    side: int | str = 8,
    element_type: int = 1,
) -> bytes:
    """Three channels to four, upsampled twice; each output is a copy of the result."""
    helper = onnx.helper
    kernel = np.arange(12, dtype=helper.tensor_dtype_to_np_dtype(element_type)).reshape(4, 3, 1, 1)
    scales = np.array([1, 1, 2, 2], np.float32)
    nodes = [helper.make_node("Conv", ["images", "kernel"], ["map"], kernel_shape=[1, 1])]
    if upsampled:
        nodes.append(helper.make_node("Resize", [upsampled, "", "scales"], ["large"]))
    last = "large" if upsampled else "map"
    nodes += [helper.make_node("Relu", [last], [name]) for name in outputs]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", element_type, [batch, 3, side, side])],
        [helper.make_tensor_value_info(name, element_type, [None] * 4) for name in outputs],
        [
            onnx.numpy_helper.from_array(kernel, "kernel"),
            onnx.numpy_helper.from_array(scales, "scales"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content
