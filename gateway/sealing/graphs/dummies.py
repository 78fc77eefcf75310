"""What obfuscation adds to a graph: nodes that engines remove, constants in disguise, branches that lead nowhere.

Rules: nothing here may change a fusion that an engine makes of the live graph, or the outputs would change bits.
So neither edge of a QuantizeLinear or DequantizeLinear is touched, and a dead branch starts only where the graph
forks already. ONNX Runtime computes dead branches, so they are small and sit on the smallest maps.
"""

import random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.sealing.graphs.reading import FLOAT, TensorType, import_onnx

_QUANTISATION = {"QuantizeLinear", "DequantizeLinear"}
_IDENTITY_SHARE = 0.15
_DISGUISED_SHARE = 0.2
_CONVOLUTIONS_A_DEAD_BRANCH = 30
_DEAD_CHANNELS = (16, 32)
_PLAUSIBLE_DEVIATION = 0.05


class Scratch:
    """Names for what is added, until everything is renamed; `\\0` cannot be in any name of the original."""

    def __init__(self) -> None:
        self._count = 0

    def take(self) -> str:
        """The next name."""
        self._count += 1
        return f"\0{self._count}"


def add_identities(
    graph: Any, types: dict[str, TensorType], scratch: Scratch, rng: random.Random
) -> None:
    """Put an Identity on some edges between nodes that compute on float maps; engines remove it while they load."""
    helper = import_onnx().helper
    producers = {name: node for node in graph.node for name in node.output}
    added = []
    for node in graph.node:
        for number, name in enumerate(node.input):
            is_open = (
                name in producers
                and types.get(name, (0, ()))[0] == FLOAT
                and not {node.op_type, producers[name].op_type} & _QUANTISATION
            )
            if is_open and rng.random() < _IDENTITY_SHARE:
                node.input[number] = scratch.take()
                added.append(helper.make_node("Identity", [name], [node.input[number]]))
    graph.node.extend(added)


def disguise_weights(graph: Any, scratch: Scratch, rng: random.Random) -> None:
    """Store some convolutions' weights transposed, with the node that undoes it; engines fold both while they load."""
    onnx = import_onnx()
    readers = _count_readers(graph)
    convolved = {node.input[1] for node in graph.node if node.op_type == "Conv"}
    added = []
    for tensor in graph.initializer:
        is_open = (
            tensor.name in convolved
            and readers[tensor.name] == 1
            and tensor.data_type == FLOAT
            and len(tensor.dims) == 4
        )
        if is_open and rng.random() < _DISGUISED_SHARE:
            weights = onnx.numpy_helper.to_array(tensor)
            stored, original = scratch.take(), tensor.name
            order = rng.sample(range(4), k=4)
            added.append(
                onnx.helper.make_node(
                    "Transpose", [stored], [original], perm=[order.index(axis) for axis in range(4)]
                )
            )
            tensor.CopyFrom(onnx.numpy_helper.from_array(_contiguous(weights, order), stored))
    graph.node.extend(added)


def add_dead_branches(
    graph: Any, types: dict[str, TensorType], scratch: Scratch, rng: random.Random
) -> None:
    """Hang small convolutions with random weights on live maps; nothing reads what they compute."""
    convolutions = sum(node.op_type == "Conv" for node in graph.node)
    taps = _taps(graph, types)[: max(1, convolutions // _CONVOLUTIONS_A_DEAD_BRANCH)]
    noise = np.random.default_rng(rng.getrandbits(64))
    for name, channels in taps:
        _add_dead_branch(graph, name, channels, scratch, rng, noise)


def _contiguous(weights: NDArray[Any], order: list[int]) -> NDArray[Any]:
    return np.ascontiguousarray(weights.transpose(order))


def _count_readers(graph: Any) -> dict[str, int]:
    """How often a tensor is read, as an input of a node or as an output of the graph."""
    readers: dict[str, int] = {}
    for name in [name for node in graph.node for name in node.input] + [
        o.name for o in graph.output
    ]:
        readers[name] = readers.get(name, 0) + 1
    return readers


def _taps(graph: Any, types: dict[str, TensorType]) -> list[tuple[str, int]]:
    """Float maps that several nodes read, with their channels: small areas first, then many channels."""
    readers = _count_readers(graph)
    found = []
    for node in graph.node:
        for name in node.output:
            element_type, dimensions = types.get(name, (0, ()))
            if element_type != FLOAT or len(dimensions) != 4 or readers.get(name, 0) < 2:
                continue
            _, channels, height, width = dimensions
            if channels is not None:
                found.append(((height or 0) * (width or 0), -channels, name))
    return [(name, -channels) for _, channels, name in sorted(found)]


def _add_dead_branch(
    graph: Any,
    name: str,
    channels: int,
    scratch: Scratch,
    rng: random.Random,
    noise: np.random.Generator,
) -> None:
    # Down to half the area, then across the channels, as the detectors' own blocks begin.
    for side, stride in ((3, 2), (1, 1)):
        wider = rng.choice(_DEAD_CHANNELS)
        weights, bias, made = (scratch.take() for _ in range(3))
        _add_noise(graph, weights, (wider, channels, side, side), noise)
        _add_noise(graph, bias, (wider,), noise)
        form = {"dilations": [1, 1], "group": 1, "kernel_shape": [side, side]}
        form |= {"pads": [side // 2] * 4, "strides": [stride, stride]}
        graph.node.append(
            import_onnx().helper.make_node("Conv", [name, weights, bias], [made], **form)
        )
        name, channels = _add_activation(graph, made, scratch), wider


def _add_activation(graph: Any, name: str, scratch: Scratch) -> str:
    """The activation that the graph itself uses: SiLU as exporters write it, or ReLU."""
    make = import_onnx().helper.make_node
    kinds = [node.op_type for node in graph.node]
    bent = scratch.take()
    if kinds.count("Relu") >= kinds.count("Sigmoid"):
        graph.node.append(make("Relu", [name], [bent]))
    else:
        gate = scratch.take()
        graph.node.append(make("Sigmoid", [name], [gate]))
        graph.node.append(make("Mul", [name, gate], [bent]))
    return bent


def _add_noise(graph: Any, name: str, shape: tuple[int, ...], noise: np.random.Generator) -> None:
    values = noise.normal(0.0, _PLAUSIBLE_DEVIATION, shape).astype(np.float32)
    graph.initializer.append(import_onnx().numpy_helper.from_array(values, name))
