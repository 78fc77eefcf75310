"""The names in a model: replaced by random ones, and looked for in what is left.

Rules: every name that a graph defines is replaced, also in the bodies of If and Loop; operator types and attributes
are the file format's own words and stay.
"""

import ast
import random
import re
from collections.abc import Iterable, Mapping
from typing import Any

from gateway.sealing.graphs.reading import read_model, walk

# Shorter strings are found in any weights by chance.
MIN_NAME_CHARACTERS = 4

_PRINTABLE = re.compile(rb"[ -~]{%d,}" % MIN_NAME_CHARACTERS)
_NAME_CHARACTERS = 8
_DIGITS = "0123456789abcdef"


class FreshNames:
    """Random names, all of one form, never the same twice and never containing one of the names to avoid."""

    def __init__(self, rng: random.Random, *, avoid: Iterable[str]) -> None:
        """avoid: names that must not come up by chance, which a class named `face` would in hexadecimal."""
        self._rng = rng
        self._avoid = [name for name in sorted(avoid) if len(name) <= _NAME_CHARACTERS]
        self._used: set[str] = set()

    def take(self) -> str:
        """The next name: eight hexadecimal digits, the first a letter."""
        while True:
            name = self._rng.choice("abcdef") + "".join(
                self._rng.choices(_DIGITS, k=_NAME_CHARACTERS - 1)
            )
            if name not in self._used and not any(avoided in name for avoided in self._avoid):
                self._used.add(name)
                return name


def rename_all(model: Any, fresh: FreshNames) -> None:
    """Give every node, tensor, initialiser, input, output, graph and symbolic dimension of a ModelProto a new name."""
    _rename_graph(model.graph, fresh, {})
    symbols: dict[str, str] = {}
    for dimension in walk(model, "Dimension"):
        if dimension.HasField("dim_param") and dimension.dim_param:
            if dimension.dim_param not in symbols:
                symbols[dimension.dim_param] = fresh.take()
            dimension.dim_param = symbols[dimension.dim_param]


def names_in(content: bytes) -> frozenset[str]:
    """The names and texts of an ONNX model that tell something about it, of four characters or more.

    Names of nodes, tensors, graphs, functions and dimensions, documentation, producer, and the keys and values of
    its metadata, the class names one by one. Words of the file format itself and bare numbers are left out.
    Raises OperatorError with MODEL_UNSUPPORTED if the bytes are no valid ONNX model.
    """
    model = read_model(content)
    found = {model.producer_name, model.producer_version, model.domain, model.doc_string}
    format_words: set[str] = set()
    for message in walk(model):
        found.update(_texts_of(message))
        if message.DESCRIPTOR.name == "NodeProto":
            format_words.update((message.op_type, message.domain))
        elif message.DESCRIPTOR.name == "AttributeProto":
            format_words.update((message.name, message.s.decode("utf-8", "replace")))
    for entry in model.metadata_props:
        found.update(_literal_texts(entry.value))
    for function in model.functions:
        format_words -= {function.name, function.domain}
        found.update((function.name, function.domain))
    telling = {text for text in found if len(text) >= MIN_NAME_CHARACTERS and not text.isdigit()}
    return frozenset(t for t in telling if not any(t in word for word in format_words))


def names_left(original: Iterable[str], obfuscated: bytes) -> tuple[str, ...]:
    """Those of the original names that occur anywhere in these bytes, sorted."""
    # Names are looked for by the thousand, so plain ones only where there is text at all.
    readable = b"\n".join(_PRINTABLE.findall(obfuscated))
    return tuple(
        name
        for name in sorted(original)
        if name.encode() in (readable if name.isascii() and name.isprintable() else obfuscated)
    )


def _rename_graph(graph: Any, fresh: FreshNames, outer: Mapping[str, str]) -> None:
    names = {**outer, "": ""}
    own = dict.fromkeys(
        [info.name for info in graph.input]
        + [tensor.name for tensor in graph.initializer]
        + [sparse.values.name for sparse in graph.sparse_initializer]
        + [name for node in graph.node for name in node.output if name]
    )
    names.update((name, fresh.take()) for name in own)
    graph.name = fresh.take()
    for named in (*graph.input, *graph.initializer, *graph.output, *graph.value_info):
        named.name = names[named.name]
    for sparse in graph.sparse_initializer:
        sparse.values.name = names[sparse.values.name]
    for node in graph.node:
        node.name = fresh.take()
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
        for body in bodies_of(node):
            _rename_graph(body, fresh, names)


def bodies_of(node: Any) -> list[Any]:
    """The graphs that a node carries in its attributes: the branches of an If, the body of a Loop."""
    return [
        body
        for attribute in node.attribute
        for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs)
    ]


def _texts_of(message: Any) -> list[str]:
    """The names and free texts that this message itself holds."""
    kind = message.DESCRIPTOR.name
    if kind == "NodeProto":
        return [message.name, message.doc_string, *message.input, *message.output]
    if kind == "StringStringEntryProto":
        return [message.key, message.value]
    if kind == "Dimension":
        return [message.dim_param]
    if kind in {"GraphProto", "TensorProto", "ValueInfoProto", "FunctionProto"}:
        return [message.name, message.doc_string]
    return []


def _literal_texts(value: str) -> list[str]:
    """The texts in a Python literal, which is how Ultralytics writes the class names."""
    try:
        literal = ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return []
    if isinstance(literal, dict):
        return [text for pair in literal.items() for text in pair if isinstance(text, str)]
    if isinstance(literal, list | tuple):
        return [text for text in literal if isinstance(text, str)]
    return []
