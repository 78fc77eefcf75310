"""Small networks that several engines are asked to run."""

from pathlib import Path

import numpy as np
import pytest

METADATA = {"task": "detect", "stride": "32", "names": "{0: 'part'}", "imgsz": "[64, 64]"}


def quantised_onnx() -> bytes:
    """Two convolutions in eight bits: inputs and weights quantised, as quantisers write it."""
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    rng = np.random.default_rng(0)
    constants = {
        "pixel": np.array(1 / 255, np.float32),
        "step": np.array(0.1, np.float32),
        "zero": np.array(0, np.uint8),
        "weight": np.array(0.01, np.float32),
        "none": np.array(0, np.int8),
        "w1": rng.integers(-100, 100, (16, 3, 3, 3)).astype(np.int8),
        "w2": rng.integers(-100, 100, (6, 16, 3, 3)).astype(np.int8),
        "flat": np.array([1, 6, -1], np.int64),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["images", "pixel", "zero"], ["q1"]),
        helper.make_node("DequantizeLinear", ["q1", "pixel", "zero"], ["d1"]),
        helper.make_node("DequantizeLinear", ["w1", "weight", "none"], ["f1"]),
        helper.make_node("Conv", ["d1", "f1"], ["c1"], strides=[8, 8], pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("QuantizeLinear", ["r1", "step", "zero"], ["q2"]),
        helper.make_node("DequantizeLinear", ["q2", "step", "zero"], ["d2"]),
        helper.make_node("DequantizeLinear", ["w2", "weight", "none"], ["f2"]),
        helper.make_node("Conv", ["d2", "f2"], ["c2"], strides=[4, 4], pads=[1] * 4),
        helper.make_node("Reshape", ["c2", "flat"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "quantised",
        [helper.make_tensor_value_info("images", 1, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("output0", 1, [1, 6, 4])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, METADATA | {"names": "{0: 'a', 1: 'b'}"})
    serialized: bytes = model.SerializeToString()
    return serialized


def split_onnx(whole: bytes, folder: Path) -> bytes:
    """The same network with its weights in a file w.bin of this folder."""
    onnx = pytest.importorskip("onnx")
    file = folder / "split.onnx"
    onnx.save_model(
        onnx.load_model_from_string(whole),
        file,
        save_as_external_data=True,
        location="w.bin",
        size_threshold=0,
        convert_attribute=True,
    )
    return file.read_bytes()
