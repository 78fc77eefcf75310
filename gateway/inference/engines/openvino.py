"""OpenVINO on the CPU: the default engine, and the only home of openvino.

Rules: weights come as bytes and go nowhere (no CACHE_DIR: it would write them to disk in the clear); precision is
stated, because on processors with bfloat16 the library's default is not f32; shapes are static and calls synchronous
(AsyncInferQueue can hang for ever: Ultralytics issue 25923); one stream of one thread a worker, so parallel requests
do not share a core. The change of bytes to RGB, 0..1, planar happens inside the compiled graph.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino.preprocess import ColorFormat, PrePostProcessor

from gateway.errors import Code, RunnerError
from gateway.inference.engine import OnnxFacts, read_facts, unsupported_model

HEAD_NAME = "output0"
_METADATA = ["framework"]


def inspect_onnx(onnx: bytes) -> OnnxFacts:
    """What an ONNX file says about itself. Raises OperatorError with MODEL_UNSUPPORTED if it is no detector."""
    return _facts(_read(openvino.Core(), onnx))


class OpenVinoEngine:
    """A detector compiled for each of its input sizes; memory is shared by the requests of one size."""

    name = "openvino"
    precision = "f32"

    def __init__(
        self, *, onnx: bytes, workers: int, input_sizes: Sequence[tuple[int, int]] = ()
    ) -> None:
        """Compile, which takes about a second a size.

        workers: how many requests run at a time, >= 1. input_sizes: (height, width), the first is the default; none
        means the size that the file was exported with. Only dynamic models can have others.
        Raises OperatorError with MODEL_UNSUPPORTED if the file or a size does not fit.
        """
        core = openvino.Core()
        self.facts = _facts(_read(core, onnx))
        self.input_sizes = tuple(dict.fromkeys(input_sizes)) or (self.facts.input_size,)
        _check_sizes(self.input_sizes, self.facts)
        self._compiled = {
            size: _compile(core, _read(core, onnx), size, workers) for size in self.input_sizes
        }

    def open_request(self, pixels: NDArray[np.uint8]) -> "OpenVinoRequest":
        """A request that reads this memory at each call: uint8 (H, W, 3), BGR, C-contiguous, H and W an input size."""
        compiled = self._compiled[pixels.shape[0], pixels.shape[1]]
        return OpenVinoRequest(compiled.create_infer_request(), pixels)


class OpenVinoRequest:
    """One infer request and the canvas it reads."""

    def __init__(self, request: Any, pixels: NDArray[np.uint8]) -> None:
        # Both tensors share memory with arrays, so the arrays have to live as long as the request. Fixed memory on
        # either side spares each call the conversion of its inputs and outputs.
        self._pixels = pixels[np.newaxis]
        port = _head_port(request.get_compiled_model())
        self._head = np.empty(tuple(port.get_shape()), np.float32)
        request.set_input_tensor(openvino.Tensor(self._pixels, shared_memory=True))
        request.set_tensor(port, openvino.Tensor(self._head, shared_memory=True))
        self._request = request

    def infer(self) -> NDArray[np.float32]:
        """The head's numbers for the canvas as it is now: float32, valid until the next call. Raises RunnerError."""
        try:
            self._request.infer(share_outputs=True)
        except RuntimeError as exc:
            raise RunnerError(
                Code.RUNNER_FAILED,
                "the detector failed on this image",
                reason="runner_failed: openvino",
            ) from exc
        return self._head


def _read(core: Any, onnx: bytes) -> Any:
    try:
        return core.read_model(onnx)
    except RuntimeError as exc:
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


def _check_sizes(sizes: Sequence[tuple[int, int]], facts: OnnxFacts) -> None:
    for height, width in sizes:
        if not facts.is_dynamic and (height, width) != facts.input_size:
            raise unsupported_model(
                f"it is fixed to {facts.input_size[0]}x{facts.input_size[1]} pixels, not {height}x{width}"
            )
        if height < 1 or width < 1 or height % facts.stride_pixels or width % facts.stride_pixels:
            raise unsupported_model(
                f"{height}x{width} is not a multiple of its stride of {facts.stride_pixels} pixels"
            )


def _compile(core: Any, model: Any, size: tuple[int, int], workers: int) -> Any:
    try:
        model.reshape([1, 3, *size])
        compiled = core.compile_model(
            _with_pixel_input(model),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "f32",
                "NUM_STREAMS": str(workers),
                "INFERENCE_NUM_THREADS": workers,
            },
        )
    except RuntimeError as exc:
        raise unsupported_model(
            f"OpenVINO does not compile it for {size[0]}x{size[1]} pixels"
        ) from exc
    head = _head_port(compiled)
    if head.get_partial_shape().is_dynamic or head.get_element_type() != openvino.Type.f32:
        raise unsupported_model("its head is not float32 of one shape for one input size")
    return compiled


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
