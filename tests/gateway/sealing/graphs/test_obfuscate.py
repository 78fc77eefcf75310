"""Obfuscation: the same bits from both engines, and nothing of the original's words."""

import logging
import random
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gateway.errors import Code, OperatorError
from gateway.sealing.graphs.names import names_in, names_left
from gateway.sealing.graphs.obfuscate import obfuscate
from gateway.sealing.graphs.pooled import add_pooled_output
from tests.gateway.sealing.graphs.conftest import CONVEYOR, Run, small_detector


@pytest.fixture(scope="module")
def conveyor(onnx: Any) -> bytes:
    """The bundled detector with its feature output."""
    return add_pooled_output(CONVEYOR.read_bytes())


@pytest.fixture(scope="module")
def obfuscated(conveyor: bytes) -> bytes:
    """The same, obfuscated."""
    return obfuscate(conveyor, rng=random.Random(5))


@pytest.fixture(scope="module")
def quantised_detector(onnx: Any) -> bytes:
    """A small convolutional network after NNCF: int8 weights and QuantizeLinear, DequantizeLinear around them."""
    nncf = pytest.importorskip("nncf")
    helper, rng = onnx.helper, np.random.default_rng(2)
    weights = {
        "w1": rng.normal(0, 0.3, (16, 3, 3, 3)),
        "w2": rng.normal(0, 0.1, (16, 16, 3, 3)),
        "w3": rng.normal(0, 0.1, (16, 16, 3, 3)),
    }
    form = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["images", "w1"], ["c1"], "conv1", **form),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "conv2", **form),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("Add", ["r1", "r2"], ["a2"], "add2"),
        helper.make_node("Conv", ["a2", "w3"], ["c3"], "conv3", **form),
        helper.make_node("Concat", ["c3", "a2"], ["output0"], "concat", axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "quantised",
        [helper.make_tensor_value_info("images", 1, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("output0", 1, [1, 32, 16, 16])],
        [onnx.numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    samples = [{"images": rng.random((1, 3, 16, 16), dtype=np.float32)} for _ in range(3)]
    nncf.set_log_level(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised = nncf.quantize(model, nncf.Dataset(samples), subset_size=3)
    content: bytes = quantised.SerializeToString()
    return content


@pytest.mark.parametrize("seed", [5, 6])
def test_every_output_keeps_every_bit(
    conveyor: bytes, images: list[NDArray[np.float32]], run: Run, seed: int
) -> None:
    """Whatever was drawn, in both engines and both precisions, head and features alike."""
    expected, found = (
        [[output.tobytes() for output in outputs] for outputs in run(content, images)]
        for content in (conveyor, obfuscate(conveyor, rng=random.Random(seed)))
    )
    assert expected == found


def test_no_name_of_the_original_is_left(conveyor: bytes, obfuscated: bytes) -> None:
    """Neither names of tensors and nodes nor metadata nor class names occur anywhere in the bytes."""
    original = names_in(conveyor)
    assert {"washer", "output0", "images", "pytorch", "/model.0/conv/Conv"} <= original
    assert () == names_left(original, obfuscated)
    assert b"model." not in obfuscated


def test_no_name_of_the_coco_detector_is_left(onnx: Any, test_data: Path) -> None:
    """Nor of a network with eighty class names and fifteen metadata entries, by an exporter that writes all of it."""
    content = (test_data / "yolov8n_coco.onnx").read_bytes()
    original = names_in(content)
    assert {"person", "toothbrush", "Ultralytics"} <= original
    obfuscated = obfuscate(content, rng=random.Random(5))
    assert () == names_left(original, obfuscated)
    assert b"model." not in obfuscated


def test_all_names_look_alike(onnx: Any, obfuscated: bytes) -> None:
    """A name says neither whether it stands for a node or a tensor, nor whether that is a real one."""
    graph = onnx.load_from_string(obfuscated).graph
    names = {name for node in graph.node for name in (node.name, *node.input, *node.output)}
    names |= {part.name for part in (*graph.input, *graph.output, *graph.initializer, graph)}
    assert [] == sorted(name for name in names - {""} if not re.fullmatch("[a-f][0-9a-f]{7}", name))


def test_nothing_is_said_beside_the_graph(onnx: Any, obfuscated: bytes) -> None:
    """No metadata, documentation, producer or intermediate shapes."""
    model = onnx.load_from_string(obfuscated)
    assert ("", "", "", "", 0) == (
        model.producer_name,
        model.producer_version,
        model.domain,
        model.doc_string,
        model.model_version,
    )
    assert ([], []) == (list(model.metadata_props), list(model.graph.value_info))


def test_the_same_randomness_gives_the_same_bytes(conveyor: bytes, obfuscated: bytes) -> None:
    """So a sealing can be repeated, and another seed gives another file."""
    assert obfuscated == obfuscate(conveyor, rng=random.Random(5))
    assert obfuscated != obfuscate(conveyor, rng=random.Random(6))


def test_the_order_is_another_one(onnx: Any, conveyor: bytes, obfuscated: bytes) -> None:
    """Weights and nodes no longer stand in the order of the layers."""
    before, after = (
        [tuple(tensor.dims) for tensor in onnx.load_from_string(content).graph.initializer]
        for content in (conveyor, obfuscated)
    )
    assert before != after[: len(before)]


def test_dummies_are_there(onnx: Any, conveyor: bytes, obfuscated: bytes) -> None:
    """Identities, disguised weights and convolutions that nothing reads."""
    before, after = (
        [node.op_type for node in onnx.load_from_string(content).graph.node]
        for content in (conveyor, obfuscated)
    )
    added = {kind: after.count(kind) - before.count(kind) for kind in set(after)}
    assert {kind for kind, count in added.items() if count > 0} == {
        "Conv",
        "Identity",
        "Relu",
        "Transpose",
    }
    assert 4 == added["Conv"]


def test_a_quantised_network_keeps_every_bit(
    onnx: Any, quantised_detector: bytes, images: list[NDArray[np.float32]], run: Run
) -> None:
    """Engines fuse by the quantisation nodes around an operator, so nothing is put between those."""
    obfuscated = obfuscate(quantised_detector, rng=random.Random(5))
    kinds = [node.op_type for node in onnx.load_from_string(obfuscated).graph.node]
    assert {"QuantizeLinear", "DequantizeLinear"} <= set(kinds)
    small = [image[:, :, :16, :16] for image in images]
    expected, found = (
        [[output.tobytes() for output in outputs] for outputs in run(model, small)]
        for model in (quantised_detector, obfuscated)
    )
    assert expected == found


def test_a_dynamic_network_keeps_every_bit_and_loses_its_symbols(onnx: Any, run: Run) -> None:
    """The names of the dimensions go as well; those that were equal stay equal."""
    content = small_detector(onnx, batch="batch", side="pixels")
    obfuscated = obfuscate(content, rng=random.Random(5))
    assert not re.search(rb"batch|pixels", obfuscated)
    (shape,) = [
        port.type.tensor_type.shape for port in onnx.load_from_string(obfuscated).graph.input
    ]
    symbols = [dimension.dim_param for dimension in shape.dim]
    assert symbols[2] == symbols[3] != symbols[0]
    image = np.random.default_rng(1).random((2, 3, 8, 12), dtype=np.float32)
    assert run(content, [image])[0][0].tobytes() == run(obfuscated, [image])[0][0].tobytes()


def test_names_inside_branches_are_replaced(onnx: Any) -> None:
    """The bodies of an If read tensors from around them, and define their own."""
    onnxruntime = pytest.importorskip("onnxruntime")
    content = branching_model(onnx)
    obfuscated = obfuscate(content, rng=random.Random(5))
    original = names_in(content)
    assert {"outside", "inside_then", "then_body", "weights_else"} <= original
    assert () == names_left(original, obfuscated)
    for value, expected in ((2.0, 4.0), (-2.0, 5.0)):
        session = onnxruntime.InferenceSession(obfuscated)
        name = session.get_inputs()[0].name
        assert expected == session.run(None, {name: np.array([value], np.float32)})[0][0]


def test_functions_are_dissolved(onnx: Any) -> None:
    """A function's own name and domain would say what it is."""
    content = model_with_a_function(onnx)
    obfuscated = obfuscate(content, rng=random.Random(5))
    assert {"house.ops", "twice_of"} <= names_in(content)
    assert not re.search(rb"house\.ops|twice_of", obfuscated)
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(obfuscated)
    name = session.get_inputs()[0].name
    assert 6.0 == session.run(None, {name: np.array([3.0], np.float32)})[0][0]


def test_unknown_fields_are_dropped(conveyor: bytes) -> None:
    """What this version of the format does not know would otherwise be written out as it came."""
    field_999 = b"\xba\x3e" + bytes([6]) + b"secret"
    assert b"secret" not in obfuscate(conveyor + field_999, rng=random.Random(5))


@given(seed=st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_any_seed_gives_a_valid_model_without_old_names(seed: int) -> None:
    """Every order that can be drawn is a topological one; the checker runs inside."""
    onnx = pytest.importorskip("onnx")
    content = small_detector(onnx, outputs=("output0", "boxes"))
    obfuscated = obfuscate(content, rng=random.Random(seed))
    assert () == names_left(names_in(content), obfuscated)


@given(content=st.binary(max_size=200))
def test_hostile_bytes_are_refused(content: bytes) -> None:
    """No error but the one that is named escapes."""
    pytest.importorskip("onnx")
    with pytest.raises(OperatorError):
        obfuscate(content, rng=random.Random(1))


def test_what_is_no_model_is_refused() -> None:
    """With the cause and the fix."""
    pytest.importorskip("onnx")
    for content in (b"", b"garbage", CONVEYOR.read_bytes()[:1000]):
        with pytest.raises(OperatorError, match="export it") as caught:
            obfuscate(content, rng=random.Random(1))
        assert Code.MODEL_UNSUPPORTED == caught.value.code


def test_weights_in_other_files_are_refused(onnx: Any, conveyor: bytes) -> None:
    """They would be sealed nowhere, and reading them follows a path that the file names."""
    model = onnx.load_from_string(conveyor)
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "/etc/passwd")
    with pytest.raises(OperatorError, match="weights lie in other files"):
        obfuscate(model.SerializeToString(), rng=random.Random(1))


def branching_model(onnx: Any) -> bytes:
    """Twice a positive number, three minus a negative one; the sign chooses the branch."""
    helper, from_array = onnx.helper, onnx.numpy_helper.from_array
    info = helper.make_tensor_value_info
    then_body = helper.make_graph(
        [helper.make_node("Add", ["outside", "outside"], ["inside_then"], "add_then")],
        "then_body",
        [],
        [info("inside_then", 1, [1])],
    )
    else_body = helper.make_graph(
        [
            helper.make_node("Identity", ["weights_else"], ["inside_else"], "same_else"),
            helper.make_node("Sub", ["inside_else", "outside"], ["inside_then"], "sub_else"),
        ],
        "else_body",
        [],
        [info("inside_then", 1, [1])],
        [from_array(np.array([3], np.float32), "weights_else")],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Identity", ["number"], ["outside"], "same"),
            helper.make_node("Greater", ["outside", "zero"], ["sign"], "compare"),
            helper.make_node("Squeeze", ["sign"], ["condition"], "scalar"),
            helper.make_node(
                "If",
                ["condition"],
                ["result"],
                "choose",
                then_branch=then_body,
                else_branch=else_body,
            ),
        ],
        "main_graph",
        [info("number", 1, [1])],
        [info("result", 1, [1])],
        [from_array(np.array([0], np.float32), "zero")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


def model_with_a_function(onnx: Any) -> bytes:
    """One call of a function that doubles."""
    helper = onnx.helper
    opset = helper.make_opsetid("", 17)
    doubling = helper.make_function(
        "house.ops",
        "twice_of",
        ["once"],
        ["twice"],
        [helper.make_node("Add", ["once", "once"], ["twice"])],
        [opset],
    )
    graph = helper.make_graph(
        [helper.make_node("twice_of", ["number"], ["result"], domain="house.ops")],
        "main_graph",
        [helper.make_tensor_value_info("number", 1, [1])],
        [helper.make_tensor_value_info("result", 1, [1])],
    )
    imports = [opset, helper.make_opsetid("house.ops", 1)]
    model = helper.make_model(graph, functions=[doubling], opset_imports=imports, ir_version=8)
    content: bytes = model.SerializeToString()
    return content
