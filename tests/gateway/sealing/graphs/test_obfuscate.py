"""Obfuscation: the same bits from both engines, and nothing of the original's words."""

import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.errors import Code, OperatorError
from gateway.sealing.graphs.names import names_in, names_left
from gateway.sealing.graphs.obfuscate import obfuscate
from gateway.sealing.graphs.pooled import add_pooled_output
from tests.gateway.sealing.graphs.conftest import CONVEYOR, Run


@pytest.fixture(scope="module")
def conveyor(onnx: Any) -> bytes:
    """The bundled detector with its feature output."""
    return add_pooled_output(CONVEYOR.read_bytes())


@pytest.fixture(scope="module")
def obfuscated(conveyor: bytes) -> bytes:
    """The same, obfuscated."""
    return obfuscate(conveyor, rng=random.Random(5))


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
    assert 8 == added["Conv"]


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
