"""From an f32 detector to one whose backbone and neck compute in 8 bits, where models are sealed.

Rules: bytes in, bytes out, nothing on disk and nothing sent; NNCF belongs to the `seal` extra and is imported inside
functions only. What is quantised is found by the graph's shape, never by names. The convolutions that end the head,
and all that follows them, stay in f32: boxes (0..640) and scores (0..1) share tensors there, and one scale for both
would leave nothing of the scores. So does attention, which is cheap and has products that 8 bits hold badly.
"""

import contextlib
import importlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.errors import Code, OperatorError
from gateway.sealing.graphs.reading import import_onnx, read_model, write_model

MAX_SAMPLES = 300

_OUTLIER_SHARE = 1e-4

_ATTENTION = frozenset({"MatMul", "Softmax"})


def quantise_int8(onnx: bytes, *, samples: Iterable[NDArray[np.uint8]]) -> bytes:
    """The detector with 8-bit weights and activations, as ONNX with QuantizeLinear and DequantizeLinear.

    onnx: the head is output 0. samples: canvases as the network will see them, uint8 (H, W, 3), BGR, letterboxed;
    the first MAX_SAMPLES count, and each is taken when its turn comes, so that a generator can show progress.
    Inputs, outputs and metadata stay as they are. The same samples give the same bytes.
    Raises OperatorError if there are no samples, NNCF cannot quantise the network, or the `seal` extra is missing.
    Source: NNCF 3.4 post-training quantisation, preset MIXED (weights symmetric for each channel, activations
    asymmetric) with fast bias correction; why not all of a detector: the module's rules.
    """
    model = read_model(onnx)
    _name_nodes(model.graph)
    f32_nodes = _nodes_to_keep(model.graph)
    nncf = _import_nncf()
    kept = _Kept(samples)
    input_name = model.graph.input[0].name
    with _silence():
        try:
            quantised = nncf.quantize(
                model,
                nncf.Dataset(kept, lambda pixels: {input_name: _to_input(pixels)}),
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=MAX_SAMPLES,
                ignored_scope=nncf.IgnoredScope(names=f32_nodes, validate=False),
                advanced_parameters=_range_of_activations(nncf),
            )
        except _what_fails() as exc:
            if not kept:
                raise _unsupported("there are no images to calibrate it on") from exc
            raise _unsupported(
                f"NNCF fails on it ({type(exc).__name__}): seal it as f32 or bf16"
            ) from exc
    return write_model(quantised)


class _Kept:
    """Samples that can be gone through again, each taken from their source when it is first asked for."""

    def __init__(self, source: Iterable[NDArray[np.uint8]]) -> None:
        self._source = iter(source)
        self._taken: list[NDArray[np.uint8]] = []

    def __bool__(self) -> bool:
        return bool(self._taken)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        for number in range(MAX_SAMPLES):
            if number == len(self._taken):
                try:
                    self._taken.append(next(self._source))
                except StopIteration:
                    return
            yield self._taken[number]


def _to_input(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    planes = np.ascontiguousarray(pixels[..., ::-1].transpose(2, 0, 1)[np.newaxis])
    return planes.astype(np.float32) / np.float32(255)


def _name_nodes(graph: Any) -> None:
    """Give every node a name of its own, by which NNCF can be told to leave it."""
    taken: set[str] = set()
    for number, node in enumerate(graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{number}"
        taken.add(node.name)


def _nodes_to_keep(graph: Any) -> list[str]:
    """The names of the nodes that stay in f32: all but those that lead to the convolutions that end the head."""
    producers = {name: node for node in graph.node for name in node.output}
    ends, _ = _walk_up(producers, [graph.output[0].name], stop_at=_end_of_head(graph))
    if not ends:
        raise _unsupported("no convolution leads to its head: seal it as f32 or bf16")
    _, passed = _walk_up(producers, [end.input[0] for end in ends], stop_at=lambda _node: False)
    quantised = {node.name for node in passed if node.op_type not in _ATTENTION}
    return [node.name for node in graph.node if node.name not in quantised]


def _walk_up(
    producers: Mapping[str, Any], names: Iterable[str], *, stop_at: Callable[[Any], bool]
) -> tuple[list[Any], list[Any]]:
    """The first nodes above these tensors that stop the walk, and all nodes that did not."""
    stopping: list[Any] = []
    passed: list[Any] = []
    seen: set[str] = set()
    waiting = list(names)
    while waiting:
        node = producers.get(waiting.pop())
        # Sizes of maps lead to the maps, which are no part of what is computed with the sizes.
        if node is None or node.name in seen or node.op_type == "Shape":
            continue
        seen.add(node.name)
        if stop_at(node):
            stopping.append(node)
        else:
            passed.append(node)
            waiting.extend(node.input)
    return stopping, passed


def _end_of_head(graph: Any) -> Callable[[Any], bool]:
    """Whether a node is a convolution, but for the one that turns a distribution over 0, 1, 2 ... into its mean."""
    to_array = import_onnx().numpy_helper.to_array
    weights = {tensor.name: tensor for tensor in graph.initializer}

    def is_mean(node: Any) -> bool:
        tensor = weights.get(node.input[1])
        if tensor is None or list(tensor.dims[:1]) != [1]:
            return False
        values = to_array(tensor).ravel()
        return bool(np.array_equal(values, np.arange(values.size)))

    return lambda node: node.op_type == "Conv" and not is_mean(node)


def _import_nncf() -> Any:
    """NNCF, unable to send anything. Raises OperatorError if the `seal` extra is not installed."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    # NNCF reports each use to its maker through this package, and does without where that cannot be imported.
    reporter = sys.modules.get("openvino_telemetry")
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # what importlib documents for "not there"
    try:
        with _silence():
            return importlib.import_module("nncf")
    except ModuleNotFoundError as exc:
        raise _unsupported(
            "int8 needs NNCF: run `pip install -e '.[seal]'` in the checkout"
        ) from exc
    finally:
        del sys.modules["openvino_telemetry"]
        if reporter is not None:
            sys.modules["openvino_telemetry"] = reporter


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Nothing of what the libraries print, log and warn of reaches the terminal: it says nothing to who seals."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _range_of_activations(nncf: Any) -> Any:
    """Each map's smallest value, and the largest but for one in ten thousand; averaged over the samples.

    SiLU bounds what is below, and nothing what is above: without the cut, few outliers would coarsen every step.
    """
    parts = importlib.import_module("nncf.quantization.range_estimator")
    mean = parts.AggregatorType.MEAN
    return nncf.AdvancedQuantizationParameters(
        activations_range_estimator_params=parts.RangeEstimatorParameters(
            min=parts.StatisticsCollectorParameters(
                statistics_type=parts.StatisticsType.MIN, aggregator_type=mean
            ),
            max=parts.StatisticsCollectorParameters(
                statistics_type=parts.StatisticsType.QUANTILE,
                aggregator_type=mean,
                quantile_outlier_prob=_OUTLIER_SHARE,
            ),
        )
    )


def _what_fails() -> tuple[type[Exception], ...]:
    """What NNCF and the ONNX Runtime beneath it raise for a network that they cannot take."""
    modules = ("nncf.errors", "onnxruntime.capi.onnxruntime_pybind11_state")
    found = [value for name in modules for value in vars(importlib.import_module(name)).values()]
    own = (item for item in found if isinstance(item, type) and issubclass(item, Exception))
    return (*own, RuntimeError, ValueError, TypeError, LookupError, AttributeError)


def _unsupported(why: str) -> OperatorError:
    return OperatorError(Code.MODEL_UNSUPPORTED, f"the network cannot be quantised: {why}")
