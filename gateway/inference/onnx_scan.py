"""Whether an ONNX file holds all its weights itself, read without a library for it.

Rules: no engine sees bytes before this has looked at them, because engines read what a tensor refers to from the
process's current folder, in the clear and unauthenticated. A reader of protobuf joins fields that are given twice and
takes the last of two values, so whatever any of them says counts. What is not understood is refused, and data of
tensors is passed over by its length.
Source: onnx.proto of ONNX 1.23; protobuf's encoding, https://protobuf.dev/programming-guides/encoding/.
"""

from collections.abc import Iterator, Mapping

from gateway.errors import OperatorError
from gateway.inference.engine import unsupported_model

_GRAPH_OF_MODEL = 7
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
# Of the messages that can hold a tensor: numbers of the fields that lead to it, and the message that each holds.
_HOLDERS: Mapping[str, Mapping[int, str]] = {
    "ModelProto": {_GRAPH_OF_MODEL: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "TensorProto": {},
}
# How deep protobuf's own readers follow messages within messages.
_MAX_DEPTH = 100
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_MAX_TAG = 2**32 - 1
_MAX_VARINT_BYTES = 10


def check_self_contained(onnx: bytes | memoryview) -> None:
    """Refuse bytes that are no ONNX model, or one with a tensor whose data is elsewhere.

    Raises OperatorError with MODEL_UNSUPPORTED. Nothing is copied, and no view of the bytes is kept.
    """
    with memoryview(onnx) as given, given.cast("B") as view:
        has_graph = False
        # What is still to be read: the message, where it begins and ends, and how many others it is within.
        left = [("ModelProto", 0, len(view), 1)]
        while left:
            message, start, end, depth = left.pop()
            if depth > _MAX_DEPTH:
                raise unsupported_model(
                    f"its graphs are nested more than {_MAX_DEPTH} messages deep: export it again"
                )
            holders = _HOLDERS[message]
            is_tensor = message == "TensorProto"
            for number, wire_type, value, stop in _fields(view, start, end):
                if is_tensor:
                    _check_tensor_field(number, wire_type, value)
                elif number in holders:
                    if wire_type != _LENGTH:
                        raise _no_onnx()
                    left.append((holders[number], value, stop, depth + 1))
                    has_graph |= message == "ModelProto" and number == _GRAPH_OF_MODEL
        if not has_graph:
            raise _no_onnx()


def _check_tensor_field(number: int, wire_type: int, value: int) -> None:
    # Entries that an inner location makes meaningless are refused too: nothing writes them.
    if number == _EXTERNAL_DATA or (
        number == _DATA_LOCATION and wire_type == _VARINT and value != 0
    ):
        raise unsupported_model(
            "its weights lie in other files: save it as one file, "
            "onnx.save_model(..., save_as_external_data=False)"
        )
    if number == _DATA_LOCATION and wire_type != _VARINT:
        raise _no_onnx()


def _fields(view: memoryview, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Of each field in this part: number, wire type, its value or where its bytes begin, and where it ends."""
    while at < end:
        tag = view[at]
        at += 1
        if tag >= 0x80:
            tag, at = _varint(view, at - 1, end)
        wire_type = tag & 7
        if tag >> 3 == 0 or tag > _MAX_TAG:
            raise _no_onnx()
        if wire_type in (_LENGTH, _VARINT):
            value, at = _varint(view, at, end)
            start = at
            if wire_type == _LENGTH:
                at += value
                value = start
        elif wire_type in (_FIXED32, _FIXED64):
            value = at
            at += 4 if wire_type == _FIXED32 else 8
        else:
            # Groups, which ONNX never had, and types that there are not.
            raise _no_onnx()
        if at > end:
            raise _no_onnx()
        yield tag >> 3, wire_type, value, at


def _varint(view: memoryview, at: int, end: int) -> tuple[int, int]:
    """The number that begins here, and where it ends."""
    value = 0
    for place in range(_MAX_VARINT_BYTES):
        if at + place >= end:
            break
        byte = view[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise _no_onnx()


def _no_onnx() -> OperatorError:
    return unsupported_model("it is not an ONNX file: export it with `yolo export format=onnx`")
