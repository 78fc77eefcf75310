"""OpenVINO on the CPU: the default engine, and the only home of openvino.

Rules: weights come as bytes, all of them, and go nowhere (no CACHE_DIR: it would write them to disk in the clear);
precision is stated and what was compiled is looked at, because on processors with bfloat16 the library's default is not
f32 and elsewhere a wish is dropped in silence; inputs and outputs go by place, because sealed graphs have no names;
shapes are static and calls synchronous (AsyncInferQueue can hang for ever: Ultralytics issue 25923); one stream of one
thread a worker, so parallel requests do not share a core. The change of bytes to RGB, 0..1, planar happens inside the
compiled graph.
"""

import functools
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.errors import Code, RunnerError
from gateway.inference.canvas_lane import CanvasLane, Outputs
from gateway.inference.engine import (
    Network,
    OnnxFacts,
    check_outputs,
    chosen_sizes,
    one_line,
    read_facts,
    unsupported_model,
)
from gateway.inference.onnx_scan import check_self_contained
from gateway.inference.preprocess import Canvas


@contextmanager
def _absent(module: str) -> Iterator[None]:
    """While this lasts, the module cannot be imported, unless it has been."""
    modules: dict[str, Any] = sys.modules
    modules.setdefault(module, None)
    try:
        yield
    finally:
        if modules[module] is None:
            del modules[module]


# OpenVINO does without its converter of other formats where it is missing. Nothing here uses it, and it would take two
# thirds of the import's time (0.16 s) and 20 MB.
with _absent("openvino.tools.ovc"):
    import openvino
    from openvino._offline_transformations import apply_moc_transformations
    from openvino.preprocess import ColorFormat, PrePostProcessor

HEAD_NAME = "output0"
# An error of the library that repeats a graph's text is another one where that text is no UTF-8.
_FAILURES = (RuntimeError, UnicodeDecodeError)
_METADATA = ["framework"]
# What is asked of the library for what a header declares; a quantised graph says itself where it is int8.
_HINTS = {"f32": openvino.Type.f32, "bf16": openvino.Type.bf16, "int8": openvino.Type.f32}
# The layers that cost time, and what each declaration allows and needs among their precisions.
_HEAVY_LAYERS = frozenset({"Convolution", "FullyConnected", "MatMul"})
_ALLOWED = {
    "f32": frozenset({"f32"}),
    "bf16": frozenset({"f32", "bf16"}),
    "int8": frozenset({"f32", "i8", "u8"}),
}
_NEEDED = {
    "f32": frozenset({"f32"}),
    "bf16": frozenset({"bf16"}),
    "int8": frozenset({"i8", "u8"}),
}


@functools.cache
def _core() -> Any:
    """The one Core of this process, kept for good.

    The library's CPU plugin gives the thread that loads it a signal stack of its own and takes it back when the last
    Core goes; with two Cores whose lives overlap, the thread is left with a freed one, and its next signal writes into
    memory that belongs to somebody else. A plugin that is never unloaded leaves none.
    """
    return openvino.Core()


def inspect_onnx(onnx: bytes) -> OnnxFacts:
    """What an ONNX file says about itself. Raises OperatorError with MODEL_UNSUPPORTED if it is no detector."""
    check_self_contained(onnx)
    model = _read(_core(), onnx)
    try:
        return _facts(model)
    except UnicodeDecodeError as exc:
        raise unsupported_model(
            "its metadata or its outputs' names are no UTF-8 text: export it again"
        ) from exc


class OpenVinoEngine:
    """A detector compiled for each of its input sizes; memory is shared by the requests of one size."""

    name = "openvino"

    def __init__(
        self, network: Network, *, workers: int, input_sizes: Sequence[tuple[int, int]] = ()
    ) -> None:
        """Compile, which takes about a second a size.

        workers: how many requests run at a time, >= 1. input_sizes: (height, width), the first is the default; none
        means the network's own. Only dynamic networks can have others.
        Raises OperatorError with MODEL_UNSUPPORTED if the weights, a size or this machine do not fit.
        """
        self.precision = network.precision
        self.task = network.task
        self.versions = {"openvino": version("openvino")}
        self.input_sizes = chosen_sizes(network, input_sizes)
        # Not the network itself: its weights are to be gone once they are compiled.
        self._is_decode_reduced = network.is_decode_reduced
        core = _core()
        _check_machine(core, network.precision)
        check_self_contained(network.weights)
        # The library takes bytes and nothing else.
        weights = bytes(network.weights)
        self._compiled = {
            size: _compile(core, _read(core, weights), network, size, workers)
            for size in self.input_sizes
        }

    def open_lane(self, size: tuple[int, int]) -> CanvasLane:
        """A lane for one of the input sizes (height, width)."""
        canvas = Canvas(size)
        request = OpenVinoRequest(self._compiled[size].create_infer_request(), canvas.pixels)
        return CanvasLane(canvas, request, is_decode_reduced=self._is_decode_reduced)


class OpenVinoRequest:
    """One infer request and the canvas it reads: uint8 (H, W, 3), BGR, C-contiguous."""

    def __init__(self, request: Any, pixels: NDArray[np.uint8]) -> None:
        # Tensors share memory with arrays, so the arrays have to live as long as the request. Fixed memory on
        # either side spares each call the conversion of its inputs and outputs.
        self._pixels = pixels[np.newaxis]
        request.set_input_tensor(openvino.Tensor(self._pixels, shared_memory=True))
        ports = request.get_compiled_model().outputs
        arrays = [np.empty(tuple(port.get_shape()), np.float32) for port in ports[:2]]
        for port, array in zip(ports, arrays, strict=False):
            request.set_tensor(port, openvino.Tensor(array, shared_memory=True))
        self._outputs = Outputs(arrays[0], arrays[1] if len(arrays) == 2 else None)
        self._request = request

    def infer(self) -> Outputs:
        """The network's numbers for the canvas as it is now, valid until the next call. Raises RunnerError."""
        try:
            self._request.infer(share_outputs=True)
        except _FAILURES as exc:
            raise RunnerError(
                Code.RUNNER_FAILED,
                "the detector failed on this image",
                reason="runner_failed: openvino",
            ) from exc
        return self._outputs


def _read(core: Any, onnx: bytes) -> Any:
    try:
        return core.read_model(onnx)
    except _FAILURES as exc:
        raise unsupported_model("it is not an ONNX file that OpenVINO reads") from exc


def _facts(model: Any) -> OnnxFacts:
    if len(model.inputs) != 1 or not model.outputs:
        raise unsupported_model("it has not one input and an output")
    metadata = model.get_rt_info(_METADATA).value if model.has_rt_info(_METADATA) else {}
    return read_facts(
        {str(key): str(value) for key, value in metadata.items()},
        input_shape=_shape(model.inputs[0]),
        output_shape=_shape(_head_port(model)),
    )


def _head_port(model: Any) -> Any:
    """The detection head: the output of that name, or the first; sealed models carry a second one for drift."""
    named = [port for port in model.outputs if HEAD_NAME in port.get_names()]
    return named[0] if named else model.outputs[0]


def _shape(port: Any) -> tuple[int | None, ...]:
    return tuple(
        dimension.get_length() if dimension.is_static else None
        for dimension in port.get_partial_shape()
    )


def has_bfloat16() -> bool:
    """Whether this machine's processor computes in bfloat16, which the library would replace by f32 in silence."""
    return _computes_bfloat16(_core())


def _computes_bfloat16(core: Any) -> bool:
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _check_machine(core: Any, precision: str) -> None:
    if precision not in _HINTS:
        raise unsupported_model(
            f"OpenVINO has no precision {precision[:16]!r}: seal it again as f32"
        )
    if precision == "bf16" and not _computes_bfloat16(core):
        raise unsupported_model(
            "it is sealed for bf16 and this processor has no bfloat16: "
            "seal it for this machine with --precision f32 or int8"
        )


def _compile(core: Any, model: Any, network: Network, size: tuple[int, int], workers: int) -> Any:
    if len(model.inputs) != 1 or not model.outputs:
        raise unsupported_model("it has not one input and an output")
    try:
        model.reshape([1, 3, *size])
        if network.precision == "int8":
            # Fuses each quantisation with its reversal, as the library's own converter does. Compiled without it,
            # 2026.4 mistakes the scales of maps that are concatenated, and no detection is left.
            apply_moc_transformations(model, cf=True)
        compiled = core.compile_model(
            _with_pixel_input(model),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": _HINTS[network.precision],
                "NUM_STREAMS": str(workers),
                "INFERENCE_NUM_THREADS": workers,
            },
        )
    except _FAILURES as exc:
        raise unsupported_model(
            f"OpenVINO does not compile it for {size[0]}x{size[1]} pixels, or memory ran out",
            reason=f"model_unsupported: openvino: {one_line(str(exc))}",
        ) from exc
    if any(port.get_element_type() != openvino.Type.f32 for port in compiled.outputs[:2]):
        raise unsupported_model("its outputs are not float32")
    check_outputs(network, [_shape(port) for port in compiled.outputs[:2]])
    _check_precision(compiled, network.precision)
    return compiled


def _check_precision(compiled: Any, precision: str) -> None:
    """Refuse what was not compiled as declared: a wish that the library dropped, or a graph of another precision."""
    layers = (op.get_rt_info() for op in compiled.get_runtime_model().get_ops())
    ran = {
        str(info["runtimePrecision"].value)
        for info in layers
        if info["layerType"].value in _HEAVY_LAYERS
    }
    is_hint_taken = compiled.get_property("INFERENCE_PRECISION_HINT") == _HINTS[precision]
    is_as_declared = not ran or (ran <= _ALLOWED[precision] and ran & _NEEDED[precision])
    if not is_hint_taken or not is_as_declared:
        found = ", ".join(sorted(ran)) or "another precision"
        raise unsupported_model(
            f"it is sealed as {precision} and OpenVINO on this machine would run it in {found}: "
            "seal it again for this machine with the --precision that it has"
        )


def _with_pixel_input(model: Any) -> Any:
    """The model with uint8 (1, H, W, 3) BGR in place of float32 (1, 3, H, W) RGB, 0..1."""
    steps = PrePostProcessor(model)
    tensor = steps.input().tensor()
    tensor.set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    tensor.set_color_format(ColorFormat.BGR)
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    change = steps.input().preprocess()
    change.convert_element_type(openvino.Type.f32).convert_color(ColorFormat.RGB).scale(255.0)
    return steps.build()
