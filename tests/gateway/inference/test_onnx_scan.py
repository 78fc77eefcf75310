"""That weights outside of the file are found wherever ONNX can refer to them, and that no bytes crash the search."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import OperatorError
from gateway.inference.onnx_scan import _HOLDERS, check_self_contained

CONVEYOR = Path(__file__).parents[3] / "examples" / "conveyor" / "conveyor.onnx"
# Fields of length 0 to 127 by number, where a tag fits in one byte.
GRAPH, INITIALIZER, NODE, ATTRIBUTE, TENSOR, SUBGRAPH = 7, 5, 1, 5, 5, 6
MODEL = b"\x08\x08"
LOCATION_OUTSIDE = b"\x70\x01"


def field(number: int, content: bytes) -> bytes:
    """A field of this number with these bytes."""
    return bytes([number << 3 | 2, len(content)]) + content


def said_of(content: bytes | memoryview) -> str:
    """Why it is refused; nothing if it is not."""
    try:
        check_self_contained(content)
    except OperatorError as exc:
        return f"{exc.code.value}: {exc.message}"
    return ""


def is_outside(content: bytes) -> bool:
    """Whether it is refused, and for weights in other files."""
    said = said_of(content)
    return said.startswith(
        "model_unsupported: the model cannot be served: its weights lie in other files: save it as one file"
    )


def is_no_onnx(content: bytes) -> bool:
    """Whether it is refused, and for being something else."""
    return "it is not an ONNX file" in said_of(content)


def nested(depth: int) -> bytes:
    """A model with this many graphs, each in an attribute of a node of the one before."""
    graph = b""
    for _ in range(depth - 1):
        for number in (SUBGRAPH, ATTRIBUTE, NODE):
            graph = bytes([number << 3 | 2]) + varint(len(graph)) + graph
    return b"\x3a" + varint(len(graph)) + graph


def varint(value: int) -> bytes:
    """A number as protobuf writes it."""
    low = value & 0x7F
    return bytes([low]) if value < 128 else bytes([low | 0x80]) + varint(value >> 7)


def holder_paths() -> Iterator[tuple[str, ...]]:
    """Every way from a model to a tensor through fields, once around each message."""
    onnx = pytest.importorskip("onnx")

    def walk(descriptor: Any, seen: tuple[str, ...], path: tuple[str, ...]) -> Iterator[Any]:
        if descriptor.name == "TensorProto":
            yield path
            return
        for member in descriptor.fields:
            inner = member.message_type
            if inner is not None and seen.count(inner.name) < 2:
                yield from walk(inner, (*seen, inner.name), (*path, member.name))

    yield from walk(onnx.ModelProto.DESCRIPTOR, ("ModelProto",), ())


def with_tensor(path: tuple[str, ...], *, is_external: bool) -> bytes:
    """A model with a graph, and one tensor where the path leads."""
    onnx = pytest.importorskip("onnx")
    model = onnx.ModelProto(ir_version=9)
    model.graph.name = "g"
    message: Any = model
    for name in path:
        inner = getattr(message, name)
        message = inner.add() if hasattr(inner, "add") else inner
        message.SetInParent()
    message.raw_data = b"\x6a\x00\x70\x01"  # Would refer outside, were it not data.
    if is_external:
        message.data_location = 1
    serialized: bytes = model.SerializeToString()
    return serialized


def messages_of(descriptor: Any) -> list[Any]:
    """The fields of a message that hold messages."""
    return [member for member in descriptor.fields if member.message_type is not None]


def test_the_fields_are_those_of_the_format() -> None:
    """All of a model's messages that can hold a tensor, and no number that the format does not give them."""
    onnx = pytest.importorskip("onnx")
    messages = {onnx.ModelProto.DESCRIPTOR.name: onnx.ModelProto.DESCRIPTOR}
    holders = {"TensorProto"}
    # Each round looks one message further in and one further out.
    for _ in range(20):
        for descriptor in list(messages.values()):
            inner = {m.message_type.name: m.message_type for m in messages_of(descriptor)}
            messages |= inner
            if holders & inner.keys():
                holders.add(descriptor.name)
    expected = {
        name: {
            member.number: member.message_type.name
            for member in messages_of(messages[name])
            if member.message_type.name in holders
        }
        for name in holders
    }
    assert expected == {name: dict(members) for name, members in _HOLDERS.items()}
    tensor = onnx.TensorProto.DESCRIPTOR.fields_by_name
    assert (tensor["external_data"].number, tensor["data_location"].number) == (13, 14)


def test_every_place_of_a_tensor_is_searched() -> None:
    """With the tensor outside it is refused, with the same tensor inside it is not."""
    paths = list(holder_paths())
    assert len(paths) > 100
    assert [p for p in paths if not is_outside(with_tensor(p, is_external=True))] == []
    assert [p for p in paths if said_of(with_tensor(p, is_external=False))] == []


def test_the_demo_model_is_whole() -> None:
    """From bytes, and from the read-only and writable views that engines are given."""
    content = CONVEYOR.read_bytes()
    writable = bytearray(content)
    assert said_of(content) == said_of(memoryview(content)) == said_of(memoryview(writable)) == ""


def test_guarded_memory_can_be_closed_afterwards() -> None:
    """No view of it is kept, whatever was said."""
    for content in (bytearray(MODEL + field(GRAPH, b"")), bytearray(b"no model")):
        view = memoryview(content)
        said_of(view)
        view.release()
        content.clear()
        assert len(content) == 0


def test_a_model_saved_with_external_data_is_refused(tmp_path: Path) -> None:
    """As the onnx package writes it; saved as one file it is whole."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(CONVEYOR)
    file = tmp_path / "split.onnx"
    onnx.save_model(model, file, save_as_external_data=True, location="w.bin", size_threshold=0)
    assert is_outside(file.read_bytes())
    assert "onnx.save_model(..., save_as_external_data=False)" in said_of(file.read_bytes())
    onnx.save_model(onnx.load(file), file, save_as_external_data=False)
    assert said_of(file.read_bytes()) == ""


@pytest.mark.parametrize("branch", ["then_branch", "else_branch"])
def test_one_tensor_in_one_branch_is_enough(branch: str) -> None:
    """All others are in the file."""
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper

    def constant(*, is_external: bool) -> Any:
        tensor = helper.make_tensor("t", 1, [1], [0.5])
        if is_external:
            tensor.ClearField("float_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="w.bin")
        node = helper.make_node("Constant", [], ["out"], value=tensor)
        out = helper.make_tensor_value_info("out", 1, [1])
        return helper.make_graph([node], "branch", [], [out])

    def model(outside: str | None) -> bytes:
        branches = {
            name: constant(is_external=name == outside) for name in ("then_branch", "else_branch")
        }
        node = helper.make_node("If", ["condition"], ["out"], **branches)
        graph = helper.make_graph(
            [node],
            "g",
            [helper.make_tensor_value_info("condition", 9, [])],
            [helper.make_tensor_value_info("out", 1, [1])],
        )
        serialized: bytes = helper.make_model(graph).SerializeToString()
        return serialized

    assert is_outside(model(branch))
    assert said_of(model(None)) == ""


@pytest.mark.parametrize(
    "tensor",
    [
        LOCATION_OUTSIDE,
        b"\x70\x02",
        LOCATION_OUTSIDE + b"\x70\x00",
        b"\x70\x00" + LOCATION_OUTSIDE,
        b"\x70\x81\x00",
        b"\x70\x81\x80\x80\x80\x10",
        b"\xf0\x00\x01",
        b"\x6a\x00",
        b"\xea\x80\x00\x00",
        b"\x6a\x0a\x0a\x08location",
        b"\x70\x00\x6a\x00",
        b"\x4a\x04data" + LOCATION_OUTSIDE,
    ],
)
def test_no_spelling_hides_a_location(tensor: bytes) -> None:
    """Long varints, values beyond the enumeration, fields given twice, and entries that a location denies."""
    assert is_outside(MODEL + field(GRAPH, field(INITIALIZER, tensor)))


def test_a_location_inside_is_taken() -> None:
    """Stated and left out are the same."""
    assert said_of(MODEL + field(GRAPH, field(INITIALIZER, b"\x70\x00"))) == ""
    assert said_of(MODEL + field(GRAPH, field(INITIALIZER, b"\x70\x80\x00"))) == ""


@pytest.mark.parametrize("first", [True, False])
def test_messages_given_twice_merge(*, first: bool) -> None:
    """A reader joins them, so what either says counts: here the graph, and the tensor of an attribute."""
    outside = field(INITIALIZER, LOCATION_OUTSIDE)
    graphs = [field(GRAPH, outside), field(GRAPH, b"")]
    assert is_outside(MODEL + b"".join(graphs if first else reversed(graphs)))
    tensors = [field(TENSOR, LOCATION_OUTSIDE), field(TENSOR, b"\x4a\x01w")]
    attribute = b"".join(tensors if first else reversed(tensors))
    assert is_outside(MODEL + field(GRAPH, field(NODE, field(ATTRIBUTE, attribute))))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a network",
        MODEL,
        b"\x00\x00" + field(GRAPH, b""),
        b"\x80\x80\x80\x80\x80\x01" + field(GRAPH, b""),
        b"\x38\x01",
        b"\x3a\x05abc",
        b"\x3a\x85",
        MODEL + b"\x39\0\0\0\0\0\0\0\0",
        field(GRAPH, b"") + b"\x0b\x0c",
        field(GRAPH, b"") + b"\x0f",
        field(GRAPH, b"") + b"\x08",
        field(GRAPH, b"") + b"\x08" + b"\x80" * 10 + b"\x01",
        field(GRAPH, b"") + b"\x0d\0\0\0",
        field(GRAPH, b"") + b"\x09\0\0\0\0\0\0\0",
        field(GRAPH, field(INITIALIZER, b"\x72\x00")),
        field(GRAPH, field(INITIALIZER, b"\x4a\x05abc") + b"de"),
    ],
)
def test_other_bytes_are_no_onnx(content: bytes) -> None:
    """No graph, a field number of 0, groups, wrong types, and what ends too early in the file or in its message."""
    assert is_no_onnx(content)


def test_a_file_that_is_cut_is_no_onnx() -> None:
    """The last byte is missed as well as half the file."""
    content = CONVEYOR.read_bytes()
    assert [
        is_no_onnx(content[:size]) for size in (1, 100, len(content) // 2, len(content) - 1)
    ] == [True] * 4


def test_nesting_has_an_end() -> None:
    """As far as readers of the format follow it, however deep it goes on."""
    assert said_of(nested(30)) == ""
    assert "its graphs are nested more than" in said_of(nested(40))
    assert "its graphs are nested more than" in said_of(nested(20_000))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_do_not_crash_it(content: bytes) -> None:
    """Only OperatorError escapes, also where a graph comes first."""
    said_of(content)
    said_of(field(GRAPH, b"") + content)
    said_of(b"\x3a" + varint(len(content)) + content)


@given(st.data())
def test_what_a_reader_takes_and_finds_outside_is_refused(data: st.DataObject) -> None:
    """The onnx package's own reader is asked about changed models: it must not know of more than the search."""
    onnx = pytest.importorskip("onnx")
    decode_error = importlib.import_module("google.protobuf.message").DecodeError
    from gateway.sealing.graphs.reading import walk

    paths = [("graph", "initializer"), ("graph", "node", "attribute", "g", "initializer")]
    content = bytearray(
        with_tensor(data.draw(st.sampled_from(paths)), is_external=data.draw(st.booleans()))
    )
    changes = st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255))
    for at, value in data.draw(st.lists(changes, min_size=1, max_size=8)):
        content[at] = value
    try:
        model = onnx.load_model_from_string(bytes(content))
    except decode_error:
        return
    if any(tensor.data_location == 1 for tensor in walk(model, "TensorProto")):
        assert said_of(bytes(content)) != ""
