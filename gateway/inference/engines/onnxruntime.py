"""ONNX Runtime: the engine for NVIDIA GPUs and a second opinion on CPUs, and the only home of onnxruntime.

Rules: weights come as bytes, all of them, and go nowhere (no optimised model, engine or timing cache on disk);
precision is stated (TF32, CUDA's default for f32, is off); inputs and outputs go by place, because sealed graphs have
no names; one session serves all workers, each on its own thread, so parallel requests do not share a core, and no
thread spins while it waits. Whatever provider is installed and starts is used, the fastest first, and answers say which
one it is.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as failures

from gateway.errors import Code, RunnerError
from gateway.inference.canvas_lane import CanvasLane, Outputs
from gateway.inference.engine import Network, check_outputs, chosen_sizes, unsupported_model
from gateway.inference.onnx_scan import check_self_contained
from gateway.inference.preprocess import Canvas

# Fastest first; each takes what those before it leave.
_PROVIDERS: tuple[tuple[str, Mapping[str, str]], ...] = (
    (
        "TensorrtExecutionProvider",
        {"trt_engine_cache_enable": "0", "trt_timing_cache_enable": "0", "trt_fp16_enable": "0"},
    ),
    ("CUDAExecutionProvider", {"use_tf32": "0"}),
    ("CPUExecutionProvider", {}),
)
# The library's exceptions have no class in common, and what repeats a graph's text fails where that is no UTF-8.
_FAILURES = (
    RuntimeError,
    UnicodeDecodeError,
    failures.EPFail,
    failures.Fail,
    failures.InvalidArgument,
    failures.InvalidGraph,
    failures.InvalidProtobuf,
    failures.NotImplemented,
    failures.RuntimeException,
)
# Operators keep their names in every graph, and without this one nothing runs in eight bits.
_QUANTISED = b"QuantizeLinear"
_FATAL = 4


class OnnxRuntimeEngine:
    """A detector in one session, which all lanes and all input sizes share."""

    name = "onnxruntime"

    def __init__(
        self, network: Network, *, workers: int, input_sizes: Sequence[tuple[int, int]] = ()
    ) -> None:
        """Load and optimise the graph.

        workers: how many requests run at a time; each brings its own thread. input_sizes: (height, width), the first
        is the default; none means the network's own. Only dynamic networks can have others.
        Raises OperatorError with MODEL_UNSUPPORTED if the weights, a size or the precision do not fit.
        """
        del workers
        self.precision = network.precision
        self.task = network.task
        self.input_sizes = chosen_sizes(network, input_sizes)
        # Not the network itself: its weights are to be gone once they are compiled.
        self._is_decode_reduced = network.is_decode_reduced
        check_self_contained(network.weights)
        # The library takes bytes and nothing else.
        weights = bytes(network.weights)
        _check_precision(network.precision, weights)
        self._session = _session(weights, network.precision)
        self.versions = {
            "onnxruntime": onnxruntime.__version__,
            "provider": self._session.get_providers()[0],
        }
        self._output_shapes = {
            size: _output_shapes(self._session, size) for size in self.input_sizes
        }
        for shapes in self._output_shapes.values():
            check_outputs(network, shapes)

    def open_lane(self, size: tuple[int, int]) -> CanvasLane:
        """A lane for one of the input sizes (height, width)."""
        canvas = Canvas(size)
        request = OnnxRuntimeRequest(self._session, canvas.pixels, self._output_shapes[size])
        return CanvasLane(canvas, request, is_decode_reduced=self._is_decode_reduced)


class OnnxRuntimeRequest:
    """One binding of a session's input and outputs to memory, and the canvas: uint8 (H, W, 3), BGR, C-contiguous."""

    def __init__(
        self, session: Any, pixels: NDArray[np.uint8], output_shapes: Sequence[tuple[int, ...]]
    ) -> None:
        # The binding holds addresses only, so the arrays have to live as long as it does.
        self._planes = pixels[:, :, ::-1].transpose(2, 0, 1)
        self._input = np.empty((1, *self._planes.shape), np.float32)
        arrays = [np.empty(shape, np.float32) for shape in output_shapes]
        self._binding = session.io_binding()
        _bind(self._binding.bind_input, session.get_inputs()[0], self._input)
        for output, array in zip(session.get_outputs(), arrays, strict=False):
            _bind(self._binding.bind_output, output, array)
        self._outputs = Outputs(arrays[0], arrays[1] if len(arrays) == 2 else None)
        self._session = session

    def infer(self) -> Outputs:
        """The network's numbers for the canvas as it is now, valid until the next call. Raises RunnerError."""
        # One pass: reversed channels, planes and 0..1, straight into the memory that the session reads.
        np.divide(self._planes, np.float32(255), out=self._input[0])
        try:
            self._session.run_with_iobinding(self._binding)
        except _FAILURES as exc:
            raise RunnerError(
                Code.RUNNER_FAILED,
                "the detector failed on this image",
                reason="runner_failed: onnxruntime",
            ) from exc
        return self._outputs


def _check_precision(precision: str, weights: bytes) -> None:
    if precision not in ("f32", "int8"):
        raise unsupported_model(
            f"ONNX Runtime runs f32 and int8, not {precision[:16]}: "
            "seal it with --precision f32 or int8, or for the engine openvino"
        )
    if (precision == "int8") != (_QUANTISED in weights):
        raise unsupported_model(
            f"it is sealed as {precision} and its graph is of another precision"
        )


def _session(weights: bytes, precision: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # Else bytes with its mark are read in a format of its own, which can refer to other files.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # What it has to say about somebody's graph would go to standard error, names and all.
    options.log_severity_level = _FATAL
    available = onnxruntime.get_available_providers()
    providers = [(name, dict(chosen)) for name, chosen in _PROVIDERS if name in available]
    for name, chosen in providers:
        if name == "TensorrtExecutionProvider":
            chosen["trt_int8_enable"] = "1" if precision == "int8" else "0"
    try:
        session = onnxruntime.InferenceSession(weights, options, providers=providers)
        _check_ports(session.get_inputs(), session.get_outputs())
    except _FAILURES as exc:
        raise unsupported_model("it is not an ONNX file that ONNX Runtime runs") from exc
    return session


def _check_ports(inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    if len(inputs) != 1 or not outputs:
        raise unsupported_model("it has not one input and an output")
    # Names are bound to, so they have to be texts: reading one that is no UTF-8 raises.
    if any(port.type != "tensor(float)" or not port.name for port in (*inputs, *outputs[:2])):
        raise unsupported_model("its input or outputs are not float32, or have no names")


def _output_shapes(session: Any, size: tuple[int, int]) -> list[tuple[int, ...]]:
    """The shapes of the head and the feature for one input size; a dynamic graph tells them by running only."""
    (entry,) = session.get_inputs()
    taken = zip(entry.shape, (1, 3, *size), strict=False)
    if len(entry.shape) != 4 or any(type(side) is int and side != own for side, own in taken):
        raise unsupported_model(f"its graph does not take {size[0]}x{size[1]} pixels")
    ports = session.get_outputs()[:2]
    shapes = [tuple(port.shape) for port in ports]
    if all(type(side) is int for shape in (entry.shape, *shapes) for side in shape):
        return shapes
    blank = np.zeros((1, 3, *size), np.float32)
    try:
        found = session.run([port.name for port in ports], {entry.name: blank})
    except _FAILURES as exc:
        raise unsupported_model(
            f"ONNX Runtime does not run it at {size[0]}x{size[1]} pixels"
        ) from exc
    return [tuple(array.shape) for array in found]


def _bind(bind: Any, port: Any, array: NDArray[np.float32]) -> None:
    bind(port.name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
