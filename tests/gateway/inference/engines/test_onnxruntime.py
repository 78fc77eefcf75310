"""The ONNX Runtime engine: the same answers as OpenVINO, from bytes only, and words for what does not fit."""

import gc
import sys
import threading
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.errors import Code, OperatorError, RunnerError
from gateway.inference.canvas_lane import CanvasLane
from gateway.inference.decode import ImageLimits
from gateway.inference.detect import detect_one
from gateway.inference.engine import Network, network_of
from gateway.inference.engines.opening import open_engine
from gateway.inference.engines.openvino import OpenVinoEngine, inspect_onnx
from gateway.inference.postprocess import Thresholds
from tests.gateway.inference.engines.graphs import quantised_onnx, split_onnx

pytest.importorskip("onnxruntime")

from gateway.inference.engines.onnxruntime import OnnxRuntimeEngine, OnnxRuntimeRequest

CONVEYOR = Path(__file__).parents[4] / "examples" / "conveyor" / "conveyor.onnx"
BOX_PIXELS = 0.01
CONFIDENCE = 1e-4


@pytest.fixture(scope="module")
def network() -> Network:
    """The bundled demo model."""
    onnx = CONVEYOR.read_bytes()
    return network_of(onnx, inspect_onnx(onnx), precision="f32")


@pytest.fixture(scope="module")
def engine(network: Network) -> OnnxRuntimeEngine:
    """The demo model in a session for two workers."""
    return OnnxRuntimeEngine(network, workers=2)


def noise(side: int, seed: int = 0) -> NDArray[np.uint8]:
    """A random canvas."""
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3)).astype(np.uint8)


def head_of(lane: CanvasLane, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The head for a canvas of these pixels."""
    lane.canvas.pixels[:] = pixels
    return lane.request.infer().head.copy()


def tiny_onnx(
    *,
    side: int | str = "side",
    columns: int = -1,
    quantised: bool = False,
    head: str = "FLOAT",
) -> bytes:
    """A network whose head is the mean of each channel, twice, 32 x 32 pixels a column, and whose feature is nameless.

    No metadata, as in a sealed file.
    """
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    code = onnx.TensorProto.DataType.Value(head)
    nodes = [
        helper.make_node("AveragePool", ["a"], ["p"], kernel_shape=[32, 32], strides=[32, 32]),
        helper.make_node("Reshape", ["p", "flat"], ["rgb"]),
        helper.make_node("Concat", ["rgb", "rgb"], ["six"], axis=1),
        helper.make_node("Cast", ["six"], ["z"], to=code),
        helper.make_node("GlobalAveragePool", ["a"], ["map"]),
        helper.make_node("Flatten", ["map"], ["b"]),
    ]
    if quantised:
        nodes.append(helper.make_node("QuantizeLinear", ["b", "scale"], ["q"]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("a", 1, [1, 3, side, side])],
        [
            helper.make_tensor_value_info("z", code, [1, 6, None]),
            helper.make_tensor_value_info("b", 1, [1, 3]),
        ],
        [
            numpy_helper.from_array(np.array([1, 3, columns], np.int64), "flat"),
            numpy_helper.from_array(np.array(0.1, np.float32), "scale"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    serialized: bytes = model.SerializeToString()
    return serialized


def tiny(onnx: bytes | None = None, **facts: Any) -> Network:
    """That network with two classes."""
    network = Network(onnx or tiny_onnx(), "detect", ("a", "b"), (64, 64), True, 32, "f32")
    return replace(network, **facts)


def refusal(network: Network, **arguments: Any) -> str:
    """Why the engine refuses a network."""
    with pytest.raises(OperatorError) as caught:
        OnnxRuntimeEngine(network, **{"workers": 1} | arguments)
    assert caught.value.code == Code.MODEL_UNSUPPORTED
    return caught.value.message


def test_the_head_equals_openvinos(engine: OnnxRuntimeEngine, network: Network) -> None:
    """Two libraries, one network: colour order, scale and layout are the same."""
    pixels = noise(320)
    expected = head_of(OpenVinoEngine(network, workers=1).open_lane((320, 320)), pixels)
    actual = head_of(engine.open_lane((320, 320)), pixels)
    np.testing.assert_allclose(actual[0, :4], expected[0, :4], atol=5e-3)
    np.testing.assert_allclose(actual[0, 4:], expected[0, 4:], atol=1e-5)


def test_photographs_are_answered_as_by_openvino(test_data: Path) -> None:
    """Same classes and counts; boxes to a hundredth of a pixel, confidences to 1e-4."""
    onnx = (test_data / "yolov8n_coco.onnx").read_bytes()
    network = network_of(onnx, inspect_onnx(onnx), precision="f32")
    lanes = [
        open_engine(name, network, workers=1).open_lane((640, 640))
        for name in ("openvino", "onnxruntime")
    ]
    count = 0
    for path in sorted((test_data / "coco50").glob("*.jpg"))[:12]:
        expected, actual = (
            detect_one(lane, path.read_bytes(), Thresholds(), limits=ImageLimits()).detections
            for lane in lanes
        )
        np.testing.assert_array_equal(expected.class_ids, actual.class_ids)
        np.testing.assert_allclose(actual.boxes_xyxy, expected.boxes_xyxy, atol=BOX_PIXELS, rtol=0)
        np.testing.assert_allclose(
            actual.confidences, expected.confidences, atol=CONFIDENCE, rtol=0
        )
        count += len(actual)
    assert count > 30


def test_it_says_what_runs_it(engine: OnnxRuntimeEngine) -> None:
    """The library and, since machines differ, the provider."""
    import onnxruntime

    assert (engine.name, engine.precision, engine.task) == ("onnxruntime", "f32", "detect")
    assert engine.input_sizes == ((320, 320),)
    assert engine.versions["onnxruntime"] == onnxruntime.__version__
    assert engine.versions["provider"] in onnxruntime.get_available_providers()


def test_gpus_come_first_where_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT before CUDA before the CPU, nothing cached on disk, f32 in all its bits."""
    import onnxruntime

    asked: list[Any] = []

    class Session:
        """What a machine with a GPU would make of it."""

        def __init__(self, weights: bytes, options: Any, *, providers: list[Any]) -> None:
            asked.extend(providers)
            self._real = real(weights, options, providers=["CPUExecutionProvider"])

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

    real = onnxruntime.InferenceSession
    names = ["CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    OnnxRuntimeEngine(tiny(), workers=1)
    assert asked == [
        (
            "TensorrtExecutionProvider",
            {
                "trt_engine_cache_enable": "0",
                "trt_timing_cache_enable": "0",
                "trt_fp16_enable": "0",
                "trt_int8_enable": "0",
            },
        ),
        ("CUDAExecutionProvider", {"use_tf32": "0"}),
        ("CPUExecutionProvider", {}),
    ]


def test_nothing_is_written_to_disk(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An optimised model or a cache would hold the weights in the clear."""
    for variable in ("HOME", "TMPDIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    OnnxRuntimeEngine(network, workers=1).open_lane((320, 320)).warm_up()
    assert list(tmp_path.rglob("*")) == []


def test_lanes_run_side_by_side(engine: OnnxRuntimeEngine) -> None:
    """One session, and each thread gets the answer to its own canvas."""
    canvases = [noise(320, seed) for seed in range(4)]
    alone = [head_of(engine.open_lane((320, 320)), canvas) for canvas in canvases]
    together: dict[int, NDArray[np.float32]] = {}

    def work(number: int) -> None:
        lane = engine.open_lane((320, 320))
        for _ in range(3):
            together[number] = head_of(lane, canvases[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        np.testing.assert_array_equal(alone[number], together[number])


def test_dynamic_networks_take_other_sizes_and_outputs_go_by_place() -> None:
    """Nameless as in a sealed file; the second output is the embedding."""
    engine = OnnxRuntimeEngine(tiny(), workers=1, input_sizes=[(96, 64), (32, 32)])
    assert engine.input_sizes == ((96, 64), (32, 32))
    blue = np.zeros((96, 64, 3), np.uint8)
    blue[:, :, 0] = 51
    lane = engine.open_lane((96, 64))
    head = head_of(lane, blue)
    assert head.shape == (1, 6, 6)
    # Blue is the last channel of the network and the first of the canvas.
    np.testing.assert_allclose(head[0, :3, 0], [0, 0, 0.2], atol=1e-5)
    found = engine.open_lane((32, 32)).find(blue[:32, :32], Thresholds(), image_shape=(32, 32))
    assert found.embedding is not None
    np.testing.assert_allclose(found.embedding, [0, 0, 0.2], atol=1e-6)


def test_weights_may_come_as_a_view_and_are_let_go() -> None:
    """Opened weights lie in guarded memory, which is wiped once they are compiled."""
    memory = np.frombuffer(tiny_onnx(), np.uint8).copy()
    watched = weakref.ref(memory)
    lane = OnnxRuntimeEngine(tiny(weights=memory.data), workers=1).open_lane((64, 64))
    del memory
    gc.collect()
    assert watched() is None
    lane.warm_up()


def test_a_header_decides_whether_decodes_are_reduced() -> None:
    """Off unless it was sealed so."""
    lanes = [
        OnnxRuntimeEngine(tiny(is_decode_reduced=reduced), workers=1).open_lane((64, 64))
        for reduced in (False, True)
    ]
    assert [lane.decode_covers for lane in lanes] == [None, (64, 64)]


def test_precisions_that_the_library_lacks_are_refused() -> None:
    """With what to do about it."""
    assert "ONNX Runtime runs f32 and int8, not bf16: seal it with" in refusal(
        tiny(precision="bf16")
    )


@pytest.mark.parametrize(("quantised", "precision"), [(True, "f32"), (False, "int8")])
def test_graphs_of_another_precision_are_refused(quantised: bool, precision: str) -> None:
    """Answers state the precision, so it has to be the graph's."""
    assert "its graph is of another precision" in refusal(
        tiny(tiny_onnx(quantised=quantised), precision=precision)
    )


def test_a_quantised_graph_gives_openvinos_numbers() -> None:
    """Scales and zeros mean the same to both libraries."""
    flags = set(Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split())
    if not flags & {"avx512_vnni", "avx_vnni"}:
        pytest.skip("without 8-bit dot products ONNX Runtime adds pairs in 16 bits, which saturate")
    onnx = quantised_onnx()
    network = network_of(onnx, inspect_onnx(onnx), precision="int8")
    pixels = noise(64)
    expected, actual = (
        head_of(engine.open_lane((64, 64)), pixels)
        for engine in (OpenVinoEngine(network, workers=1), OnnxRuntimeEngine(network, workers=1))
    )
    np.testing.assert_allclose(actual, expected, atol=1e-4)


@pytest.mark.parametrize("weights", [b"", b"garbage", b"examples/conveyor/conveyor.onnx"])
def test_bytes_that_are_no_model_are_refused(weights: bytes) -> None:
    """Nor are they taken for a path."""
    assert "it is not an ONNX file: export it" in refusal(replace(tiny(), weights=weights))


def test_a_model_that_the_library_does_not_run_is_refused() -> None:
    """A graph with nothing in it."""
    assert "it is not an ONNX file that ONNX Runtime runs" in refusal(
        replace(tiny(), weights=b"\x08\x08\x3a\x00")
    )


@pytest.mark.parametrize(
    ("text", "other"), [(b"\x0a\x01a", b"\x0a\x01\xff"), (b"Concat", b"\xffoncat")]
)
def test_text_that_is_no_utf_8_is_refused(text: bytes, other: bytes) -> None:
    """The name of the input, which the library gives, and an operator, which its own error repeats."""
    weights = tiny_onnx().replace(text, other)
    assert "it is not an ONNX file that ONNX Runtime runs" in refusal(
        replace(tiny(), weights=weights)
    )


def test_the_librarys_own_format_is_not_read() -> None:
    """It is told by four letters, which can stand in a producer's name, and it can refer to other files."""
    weights = b"\x12\x06\x00\x00ORTM" + tiny_onnx()
    assert OnnxRuntimeEngine(replace(tiny(), weights=weights), workers=1).precision == "f32"


def test_weights_in_other_files_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are where the library would find them, and nobody has signed them."""
    split = split_onnx(tiny_onnx(), tmp_path)
    monkeypatch.chdir(tmp_path)
    for weights in (split, memoryview(bytearray(split))):
        assert "its weights lie in other files: save it as one file" in refusal(
            replace(tiny(), weights=weights)
        )


def test_heads_of_another_type_are_refused() -> None:
    """Integers would be read as floats."""
    assert "its input or outputs are not float32" in refusal(tiny(tiny_onnx(head="INT32")))


def test_sizes_that_the_graph_does_not_take_are_refused() -> None:
    """A header may say dynamic of a graph that is not."""
    assert "its graph does not take 96x96 pixels" in refusal(
        tiny(tiny_onnx(side=64)), input_sizes=[(96, 96)]
    )


def test_sizes_at_which_the_graph_fails_are_refused() -> None:
    """A dynamic graph shows only in running that its parts do not fit together."""
    assert "ONNX Runtime does not run it at 96x96 pixels" in refusal(
        tiny(tiny_onnx(columns=4)), input_sizes=[(96, 96)]
    )


def test_names_that_do_not_fit_the_head_are_refused() -> None:
    """An answer would name another class or none."""
    assert "its head has 2 classes and its header 1 names" in refusal(tiny(class_names=("a",)))


def test_the_engines_failure_is_a_runner_error(engine: OnnxRuntimeEngine) -> None:
    """Whatever the library raises."""
    from onnxruntime.capi import onnxruntime_pybind11_state as failures

    class Broken:
        """A session that fails to run."""

        def __init__(self, real: Any) -> None:
            self.io_binding, self.get_inputs = real.io_binding, real.get_inputs
            self.get_outputs = real.get_outputs

        def run_with_iobinding(self, _binding: Any) -> None:
            """Fail."""
            raise failures.Fail("kernel")

    request = OnnxRuntimeRequest(
        Broken(engine._session), noise(320), engine._output_shapes[320, 320]
    )
    with pytest.raises(RunnerError):
        request.infer()


def test_a_missing_library_is_named_with_its_extra(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A base install has one engine."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "gateway.inference.engines.onnxruntime")
    with pytest.raises(OperatorError) as caught:
        open_engine("onnxruntime", network, workers=1)
    assert caught.value.code == Code.MODEL_UNSUPPORTED
    assert "onnxruntime is not installed: pip install 'gatewatch[onnxruntime]'" in str(caught.value)


def test_an_unknown_engine_is_refused(network: Network) -> None:
    """With those that there are."""
    with pytest.raises(OperatorError, match="'triton', there are openvino, onnxruntime"):
        open_engine("triton", network, workers=1)
