"""A detector that computes the same bits and says nothing about where it comes from.

Rules: every transformation is exact, and none changes what an engine makes of the live graph; inputs and outputs keep
their order, for they are all that is left to tell them apart. This delays whoever reads the opened graph and does
not prevent anything: the structure and the weights are all there, and watching the engine run shows them.
"""

import random
from typing import Any

from gateway.sealing.graphs.dummies import (
    Scratch,
    add_dead_branches,
    add_identities,
    disguise_weights,
)
from gateway.sealing.graphs.names import FreshNames, bodies_of, names_in, rename_all
from gateway.sealing.graphs.reading import (
    import_onnx,
    read_model,
    tensor_types,
    walk,
    write_model,
)

_TEXT_FIELDS = (
    "doc_string",
    "metadata_props",
    "denotation",
    "producer_name",
    "producer_version",
    "model_version",
    # Facts about tensors that an engine infers again, and hints that no engine here reads.
    "value_info",
    "quantization_annotation",
    "training_info",
    "configuration",
    "device_configurations",
)


def obfuscate(content: bytes, *, rng: random.Random) -> bytes:
    """The same network with random names, shuffled, without texts, and with nodes that do nothing.

    content: an ONNX model with its weights inside. rng: the result depends on it and on nothing else.
    Inputs and outputs keep their order, types and shapes and lose their names; all metadata is gone.
    Raises OperatorError with MODEL_UNSUPPORTED if the bytes are no valid ONNX model or name other files.
    """
    model = read_model(content)
    if model.functions:
        model = import_onnx().inliner.inline_local_functions(model)
    _strip_texts(model)
    types, scratch = tensor_types(model), Scratch()
    add_dead_branches(model.graph, types, scratch, rng)
    add_identities(model.graph, types, scratch, rng)
    disguise_weights(model.graph, scratch, rng)
    _shuffle(model.graph, rng)
    rename_all(model, FreshNames(rng, avoid=names_in(content)))
    return write_model(model)


def _strip_texts(model: Any) -> None:
    """Take out whatever is for people or for tools, at every level."""
    # What this version of the format does not know would be written out again as it came.
    model.DiscardUnknownFields()
    model.ClearField("domain")
    used_domains = {node.domain for node in walk(model.graph, "NodeProto")} | {""}
    kept = [entry for entry in model.opset_import if entry.domain in used_domains]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    for message in walk(model):
        fields = message.DESCRIPTOR.fields_by_name
        for name in _TEXT_FIELDS:
            if name in fields:
                message.ClearField(name)
        if message.DESCRIPTOR.name == "AttributeProto" and message.HasField("t"):
            message.t.ClearField("name")


def _shuffle(graph: Any, rng: random.Random) -> None:
    """Put nodes into another order in which each still comes after what it reads, and initialisers into any."""
    initializers = list(graph.initializer)
    rng.shuffle(initializers)
    del graph.initializer[:]
    graph.initializer.extend(initializers)
    for node in graph.node:
        for body in bodies_of(node):
            _shuffle(body, rng)
    ordered = _random_order(list(graph.node), rng)
    del graph.node[:]
    graph.node.extend(ordered)


def _random_order(nodes: list[Any], rng: random.Random) -> list[Any]:
    producers = {name: number for number, node in enumerate(nodes) for name in node.output if name}
    readers: list[list[int]] = [[] for _ in nodes]
    waiting = []
    for number, node in enumerate(nodes):
        needed = sorted({producers[name] for name in _read_by(node) if name in producers})
        waiting.append(len(needed))
        for producer in needed:
            readers[producer].append(number)
    ready = [number for number, count in enumerate(waiting) if count == 0]
    ordered = []
    while ready:
        number = ready.pop(rng.randrange(len(ready)))
        ordered.append(nodes[number])
        for reader in readers[number]:
            waiting[reader] -= 1
            if waiting[reader] == 0:
                ready.append(reader)
    return ordered


def _read_by(node: Any) -> list[str]:
    """What a node reads, also from within the graphs it carries; their own names are harmless extras."""
    inner = [name for body in bodies_of(node) for part in body.node for name in _read_by(part)]
    outputs = [output.name for body in bodies_of(node) for output in body.output]
    return [*node.input, *inner, *outputs]
