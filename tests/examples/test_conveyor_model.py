"""The bundled detector: small, in the shape the gateway expects, silent about who built it."""

import re

import openvino

from examples.conveyor.train import IMAGE_SIZE, ONNX_FILE

LIMIT_BYTES = 6_000_000


def test_model_is_small() -> None:
    """The file may travel in the wheel."""
    assert ONNX_FILE.stat().st_size <= LIMIT_BYTES


def test_model_has_the_shapes_of_a_raw_detector() -> None:
    """One picture in; four box numbers and seven class scores for each of 2100 places out, then the features."""
    model = openvino.Core().read_model(ONNX_FILE)
    assert list(model.input().shape) == [1, 3, IMAGE_SIZE, IMAGE_SIZE]
    assert [list(port.shape) for port in model.outputs] == [[1, 11, 2100], [1, 128]]


def test_model_names_its_classes() -> None:
    """The metadata lists the classes in the order of their ids."""
    names = b"{0: 'bolt', 1: 'nut', 2: 'washer', 3: 'gear', 4: 'bracket', 5: 'scratch', 6: 'rust'}"
    assert names in ONNX_FILE.read_bytes()


def test_model_tells_no_paths() -> None:
    """Nothing in the file names a folder or a source file of the machine it was built on."""
    assert re.search(rb"/(tmp|home|work|root|usr)/|\.py\b", ONNX_FILE.read_bytes()) is None
