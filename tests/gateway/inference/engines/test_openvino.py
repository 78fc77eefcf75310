"""The OpenVINO engine on the bundled demo model, and on models made to be refused."""

import gc
import subprocess
import sys
import threading
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino
import pytest
from numpy.typing import NDArray

from gateway.errors import Code, OperatorError, RunnerError
from gateway.inference.canvas_lane import CanvasLane
from gateway.inference.decode import ImageLimits
from gateway.inference.detect import detect_one
from gateway.inference.engine import network_of
from gateway.inference.engines.openvino import (
    OpenVinoEngine,
    OpenVinoRequest,
    _check_machine,
    _check_precision,
    inspect_onnx,
)
from gateway.inference.postprocess import Thresholds
from tests.gateway.inference.engines.graphs import METADATA, quantised_onnx, split_onnx

CONVEYOR = Path(__file__).parents[4] / "examples" / "conveyor" / "conveyor.onnx"


@pytest.fixture(scope="module")
def conveyor() -> bytes:
    """The bundled demo model."""
    return CONVEYOR.read_bytes()


@pytest.fixture(scope="module")
def engine(conveyor: bytes) -> OpenVinoEngine:
    """The demo model, compiled for two workers."""
    return opened(conveyor, workers=2)


def opened(onnx: bytes, precision: str = "f32", **arguments: Any) -> OpenVinoEngine:
    """An engine that is told what the file says of itself."""
    network = network_of(onnx, inspect_onnx(onnx), precision=precision)
    return OpenVinoEngine(network, **{"workers": 1} | arguments)


def head_of(lane: CanvasLane, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The head for a canvas of these pixels."""
    lane.canvas.pixels[:] = pixels
    return lane.request.infer().head.copy()


def noise(side: int, seed: int = 0) -> NDArray[np.uint8]:
    """A random canvas."""
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3)).astype(np.uint8)


def tiny_onnx(
    side: int | str,
    *,
    metadata: dict[str, str] | None = None,
    has_feature: bool = False,
    is_pooled: bool = True,
    head_type: str = "FLOAT",
) -> bytes:
    """A dynamic or static network whose head is the mean of each channel, twice, 32 x 32 pixels a column."""
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    head_code = onnx.TensorProto.DataType.Value(head_type)
    nodes = [
        helper.make_node("AveragePool", ["images"], ["p"], kernel_shape=[32, 32], strides=[32, 32]),
        helper.make_node("Reshape", ["p", "flat"], ["rgb"]),
        helper.make_node("Concat", ["rgb", "rgb"], ["six"], axis=1),
        helper.make_node("Cast", ["six"], ["output0"], to=head_code),
    ]
    outputs = [helper.make_tensor_value_info("output0", head_code, [1, 6, None])]
    if has_feature:
        nodes.append(helper.make_node("GlobalAveragePool", ["images"], ["map"]))
        nodes.append(helper.make_node("Flatten", ["map"], ["row"]))
        name, shape = ("row", [1, 3]) if is_pooled else ("map", [1, 3, 1, 1])
        outputs.append(helper.make_tensor_value_info(name, 1, shape))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", 1, [1, 3, side, side])],
        outputs,
        [numpy_helper.from_array(np.array([1, 3, -1], np.int64), "flat")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    chosen = METADATA | {"names": "{0: 'a', 1: 'b'}"} if metadata is None else metadata
    helper.set_model_props(model, chosen)
    serialized: bytes = model.SerializeToString()
    return serialized


def refusal(onnx: bytes, **arguments: Any) -> str:
    """Why the engine refuses a model."""
    with pytest.raises(OperatorError) as caught:
        opened(onnx, **arguments)
    assert caught.value.code == Code.MODEL_UNSUPPORTED
    return caught.value.message


def test_facts_of_the_demo_model(conveyor: bytes) -> None:
    """Ultralytics' metadata comes through OpenVINO's reader."""
    facts = inspect_onnx(conveyor)
    assert facts.task == "detect"
    assert facts.stride_pixels == 32
    assert facts.class_names[0] == "bolt"
    assert facts.output_shape[1] == 4 + len(facts.class_names)
    assert not facts.is_dynamic


def test_the_head_equals_plain_openvino(engine: OpenVinoEngine, conveyor: bytes) -> None:
    """Colour order, scale and layout inside the graph are what Ultralytics does outside."""
    side = engine.input_sizes[0][0]
    pixels = noise(side)
    plain = openvino.Core().compile_model(
        openvino.Core().read_model(conveyor), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    blob = pixels[:, :, ::-1].transpose(2, 0, 1)[np.newaxis].astype(np.float32) / 255
    expected = plain(np.ascontiguousarray(blob))[0]
    actual = head_of(engine.open_lane((side, side)), pixels)
    np.testing.assert_allclose(actual[0, :4], expected[0, :4], atol=5e-3)
    np.testing.assert_allclose(actual[0, 4:], expected[0, 4:], atol=1e-5)


def test_precision_is_pinned(engine: OpenVinoEngine) -> None:
    """The default on many processors is bfloat16, whose answers differ."""
    assert engine.precision == "f32"
    for compiled in engine._compiled.values():
        assert compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32


def test_a_quantised_graph_runs_as_int8_and_nothing_else() -> None:
    """What a header declares is what answers state, so it has to be what runs."""
    assert opened(quantised_onnx(), "int8").precision == "int8"
    said = refusal(quantised_onnx(), precision="f32")
    assert "it is sealed as f32 and OpenVINO on this machine would run it in u8" in said
    said = refusal(quantised_onnx(), precision="bf16")
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert "it is sealed as bf16 and OpenVINO on this machine would run it in u8" in said
    else:
        assert "this processor has no bfloat16" in said


def test_a_graph_that_is_not_quantised_is_not_taken_for_int8(conveyor: bytes) -> None:
    """It would run in f32 under another name."""
    assert "it is sealed as int8 and OpenVINO on this machine would run it in f32" in refusal(
        conveyor, precision="int8"
    )


def test_bfloat16_is_taken_where_the_processor_has_it(conveyor: bytes) -> None:
    """Its answers are near those of f32, and not the same; elsewhere the words say what to do."""
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert "seal it for this machine with --precision f32 or int8" in refusal(
            conveyor, precision="bf16"
        )
        return
    pixels = noise(320)
    exact = head_of(opened(conveyor).open_lane((320, 320)), pixels)
    near = head_of(opened(conveyor, "bf16").open_lane((320, 320)), pixels)
    assert not np.array_equal(exact, near)
    np.testing.assert_allclose(near[0, 4:], exact[0, 4:], atol=0.05)


def test_a_processor_without_bfloat16_is_told_apart() -> None:
    """The library would run f32 in silence."""

    class Core:
        """One that has only f32."""

        def get_property(self, _device: str, _name: str) -> list[str]:
            """What the processor has."""
            return ["FP32", "INT8"]

    with pytest.raises(OperatorError, match="this processor has no bfloat16: seal it for this"):
        _check_machine(Core(), "bf16")


def test_a_wish_that_the_library_drops_is_noticed() -> None:
    """Its own report of what it compiled is believed, not what it was asked for."""

    class Compiled:
        """A network that was asked for in bfloat16 and compiled in f32."""

        def get_runtime_model(self) -> Any:
            """No layer worth a look."""
            return openvino.Model([openvino.opset13.constant(np.zeros(1, np.float32))], [])

        def get_property(self, _name: str) -> Any:
            """The hint that was taken."""
            return openvino.Type.f32

    with pytest.raises(OperatorError, match="would run it in another precision"):
        _check_precision(Compiled(), "bf16")


def test_unknown_precisions_are_refused(conveyor: bytes) -> None:
    """Never the library's own default."""
    assert "OpenVINO has no precision 'f16'" in refusal(conveyor, precision="f16")


def test_nothing_is_written_to_disk(
    conveyor: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiled cache would hold the weights in the clear."""
    for variable in ("HOME", "TMPDIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    opened(conveyor).open_lane((320, 320)).warm_up()
    assert list(tmp_path.rglob("*")) == []


def test_a_lane_reads_its_canvas_at_each_call(engine: OpenVinoEngine) -> None:
    """Without being given the pixels again."""
    side = engine.input_sizes[0][0]
    lane = engine.open_lane((side, side))
    grey, other = np.full((side, side, 3), 114, np.uint8), noise(side)
    before = head_of(lane, grey)
    assert not np.array_equal(before, head_of(lane, other))
    np.testing.assert_array_equal(before, head_of(lane, grey))


def test_lanes_run_side_by_side(engine: OpenVinoEngine) -> None:
    """Each thread gets the answer to its own canvas."""
    side = engine.input_sizes[0][0]
    canvases = [noise(side, seed) for seed in range(4)]
    alone = [head_of(engine.open_lane((side, side)), canvas) for canvas in canvases]
    together: dict[int, NDArray[np.float32]] = {}

    def work(number: int) -> None:
        lane = engine.open_lane((side, side))
        for _ in range(5):
            together[number] = head_of(lane, canvases[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        np.testing.assert_allclose(alone[number], together[number], atol=1e-3)


def test_an_image_goes_all_the_way(engine: OpenVinoEngine) -> None:
    """From bytes to boxes in one call."""
    body = cv2.imencode(".jpg", noise(100))[1].tobytes()
    lane = engine.open_lane(engine.input_sizes[0])
    result = detect_one(lane, body, Thresholds(confidence=0.01), limits=ImageLimits())
    assert result.image_shape == (100, 100)
    assert result.detections.boxes_xyxy.shape == (len(result.detections), 4)
    assert result.queue_milliseconds == 0


def test_dynamic_models_take_other_sizes() -> None:
    """The first is the default; one asked for twice is compiled once."""
    engine = opened(tiny_onnx("side"), input_sizes=[(96, 64), (32, 32), (96, 64)])
    assert engine.input_sizes == ((96, 64), (32, 32))
    pixels = np.zeros((96, 64, 3), np.uint8)
    pixels[:, :, 0] = 51
    head = head_of(engine.open_lane((96, 64)), pixels)
    assert head.shape == (1, 6, 6)
    # Blue is the last channel of the network and the first of the canvas.
    np.testing.assert_allclose(head[0, :3, 0], [0, 0, 0.2], atol=1e-5)


def test_dynamic_models_default_to_the_size_of_their_export() -> None:
    """As their metadata says."""
    assert opened(tiny_onnx("side")).input_sizes == ((64, 64),)


def test_the_second_output_is_the_embedding() -> None:
    """By place, for sealed graphs have no names; what is kept does not change with the next image."""
    lane = opened(tiny_onnx(64, has_feature=True)).open_lane((64, 64))
    blue = np.zeros((64, 64, 3), np.uint8)
    blue[:, :, 0] = 51
    first = lane.find(blue, Thresholds(), image_shape=(64, 64)).embedding
    lane.find(noise(64), Thresholds(), image_shape=(64, 64))
    assert first is not None
    np.testing.assert_allclose(first, [0, 0, 0.2], atol=1e-6)


def test_networks_without_a_second_output_have_no_embedding() -> None:
    """Absent, not zero."""
    lane = opened(tiny_onnx(64)).open_lane((64, 64))
    assert lane.find(noise(64), Thresholds(), image_shape=(64, 64)).embedding is None


def test_a_second_output_that_is_no_row_is_refused() -> None:
    """A map of features is not the pooled one."""
    assert "its second output is not one row" in refusal(
        tiny_onnx(64, has_feature=True, is_pooled=False)
    )


def test_names_that_do_not_fit_the_head_are_refused(conveyor: bytes) -> None:
    """An answer would name another class or none."""
    network = network_of(conveyor, inspect_onnx(conveyor), precision="f32")
    with pytest.raises(OperatorError, match="and its header 1 names"):
        OpenVinoEngine(replace(network, class_names=("bolt",)), workers=1)


def test_the_library_starts_without_its_converter() -> None:
    """Which nobody needs to serve; whoever asks for it later gets it."""
    program = (
        "import sys; import gateway.inference.engines.openvino; "
        "assert 'openvino.tools.ovc' not in sys.modules; import openvino.tools.ovc"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=CONVEYOR.parents[2])


def test_a_header_decides_whether_decodes_are_reduced(conveyor: bytes) -> None:
    """Off unless it was sealed so."""
    network = network_of(conveyor, inspect_onnx(conveyor), precision="f32")
    lanes = [
        OpenVinoEngine(replace(network, is_decode_reduced=reduced), workers=1).open_lane((320, 320))
        for reduced in (False, True)
    ]
    assert [lane.decode_covers for lane in lanes] == [None, (320, 320)]


def test_an_engine_lets_the_weights_go(conveyor: bytes) -> None:
    """Once they are compiled, nothing of ours holds them in the clear."""
    memory = np.frombuffer(conveyor, np.uint8).copy()
    watched = weakref.ref(memory)
    network = network_of(conveyor, inspect_onnx(conveyor), precision="f32")
    network = replace(network, weights=memory.data)
    engine = OpenVinoEngine(network, workers=1)
    lane = engine.open_lane((320, 320))
    del network, memory
    gc.collect()
    assert watched() is None
    lane.warm_up()


def test_static_models_take_no_other_size(conveyor: bytes) -> None:
    """Detections at another size would be of another network."""
    assert "it is fixed to 320x320 pixels, not 640x640" in refusal(
        conveyor, input_sizes=[(640, 640)]
    )


@pytest.mark.parametrize("size", [(65, 64), (64, 100), (0, 64)])
def test_sizes_have_to_be_multiples_of_the_stride(size: tuple[int, int]) -> None:
    """The network's maps would not fit together."""
    assert "is not a multiple of its stride of 32 pixels" in refusal(
        tiny_onnx("side"), input_sizes=[size]
    )


@pytest.mark.parametrize("onnx", [b"", b"garbage", b"examples/conveyor/conveyor.onnx"])
def test_bytes_that_are_no_model_are_refused(onnx: bytes) -> None:
    """Nor are they taken for a path."""
    assert "it is not an ONNX file: export it" in refusal(onnx)


def test_a_model_that_the_library_does_not_read_is_refused() -> None:
    """One node with an operator that there is not."""
    node = b"\x12\x01y\x22\x04None"
    graph = b"\x0a" + bytes([len(node)]) + node
    assert "it is not an ONNX file that OpenVINO reads" in refusal(
        b"\x08\x08\x3a" + bytes([len(graph)]) + graph
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"Concat", "it is not an ONNX file that OpenVINO reads"),
        (b"'b'}", "are no UTF-8 text: export"),
    ],
)
def test_text_that_is_no_utf_8_is_refused(text: bytes, said: str) -> None:
    """An operator, which the library's own error repeats, and a class name."""
    assert said in refusal(tiny_onnx(64).replace(text, b"\xff" + text[1:]))


def test_a_truncated_model_is_refused(conveyor: bytes) -> None:
    """Sealing would not let it come so far; the engine does not rely on that."""
    assert "it is not an ONNX file: export it" in refusal(conveyor[: len(conveyor) // 2])


def test_weights_in_other_files_are_not_read(
    conveyor: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are where the library would find them, and nobody has signed them."""
    network = network_of(conveyor, inspect_onnx(conveyor), precision="f32")
    split = split_onnx(conveyor, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert "its weights lie in other files: save it as one file" in refusal(split)
    with pytest.raises(OperatorError, match="its weights lie in other files"):
        OpenVinoEngine(replace(network, weights=memoryview(bytearray(split))), workers=1)


def test_models_without_metadata_are_refused() -> None:
    """A network that does not say what it is."""
    assert "it has no Ultralytics metadata" in refusal(tiny_onnx(64, metadata={}))


def test_other_tasks_are_refused() -> None:
    """Their heads carry more than boxes."""
    assert "its task is 'segment'" in refusal(
        tiny_onnx(64, metadata=METADATA | {"task": "segment"})
    )


def test_heads_of_another_type_are_refused() -> None:
    """Halves would be read as floats."""
    assert "its outputs are not float32" in refusal(tiny_onnx(64, head_type="INT32"))


def test_the_engines_failure_is_a_runner_error(engine: OpenVinoEngine) -> None:
    """OpenVINO raises RuntimeError whatever went wrong."""

    class Broken:
        """An infer request that fails."""

        def __init__(self, real: Any) -> None:
            self.get_compiled_model = real.get_compiled_model
            self.set_input_tensor = real.set_input_tensor
            self.set_tensor = real.set_tensor

        def infer(self, **_: Any) -> None:
            """Fail."""
            raise RuntimeError("kernel")

    (compiled,) = engine._compiled.values()
    request = OpenVinoRequest(Broken(compiled.create_infer_request()), noise(320))
    with pytest.raises(RunnerError):
        request.infer()


def test_what_the_library_says_of_a_failed_compilation_is_in_the_reason(
    conveyor: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory that ran out looks like a graph that does not compile."""

    def fail(*_: Any) -> None:
        raise RuntimeError("Exception from src/plugin.cpp:12:\nbad allocation\n")

    monkeypatch.setattr(openvino.Core, "compile_model", fail)
    with pytest.raises(OperatorError, match="for 320x320 pixels, or memory ran out") as caught:
        opened(conveyor)
    assert caught.value.reason == (
        "model_unsupported: openvino: Exception from src/plugin.cpp:12: bad allocation"
    )


_SIGNAL_AFTER_ENGINES = """
import faulthandler, gc, signal, sys
from pathlib import Path
from gateway.inference.engine import network_of
from gateway.inference.engines.openvino import OpenVinoEngine, inspect_onnx
from gateway.sealing.guarded_memory import return_freed_memory
faulthandler.enable()
onnx = Path(sys.argv[1]).read_bytes()
network = network_of(onnx, inspect_onnx(onnx), precision="f32")
first = OpenVinoEngine(network, workers=1)
second = OpenVinoEngine(network, workers=1)
del first
gc.collect()
del second
gc.collect()
return_freed_memory()
seen = []
signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
signal.raise_signal(signal.SIGTERM)
assert seen == [signal.SIGTERM]
"""


def test_a_signal_after_engines_came_and_went_is_handled() -> None:
    """The library leaves a freed signal stack behind where two of its Cores overlap: the process would crash."""
    onnx = Path(__file__).resolve().parents[4] / "examples" / "conveyor" / "conveyor.onnx"
    done = subprocess.run(
        [sys.executable, "-c", _SIGNAL_AFTER_ENGINES, str(onnx)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (0, "") == (done.returncode, done.stderr)
