"""ONNX bytes to a checked graph and back, and what its tensors are.

Rules: whatever leaves `read_model` and `write_model` has passed the ONNX checker and holds all its weights itself.
"""

import importlib
from collections.abc import Iterator
from typing import Any

from gateway.errors import Code, OperatorError

# float32 in onnx.TensorProto.DataType; fixed by the file format.
FLOAT = 1
_EXTERNAL = 1

# The element type and the dimensions, None where they are not fixed or not known.
TensorType = tuple[int, tuple[int | None, ...]]


def import_onnx() -> Any:
    """The onnx package with the parts used here. Raises OperatorError if the `seal` extra is not installed."""
    try:
        import onnx
        import onnx.checker
        import onnx.inliner
        import onnx.shape_inference
    except ModuleNotFoundError as exc:
        raise unusable(
            "changing its graph needs the onnx package: run `pip install -e '.[seal]'` in the checkout"
        ) from exc
    return onnx


def read_model(content: bytes) -> Any:
    """The ModelProto in these bytes.

    Raises OperatorError with MODEL_UNSUPPORTED if they are no valid ONNX model, or its weights lie in other files.
    """
    onnx = import_onnx()
    decode_error = importlib.import_module("google.protobuf.message").DecodeError
    try:
        model = onnx.load_model_from_string(content)
    except decode_error as exc:
        raise unusable("it is not an ONNX file: export it with `yolo export format=onnx`") from exc
    # Before the checker, which would look for the other files.
    if any(part.data_location == _EXTERNAL for part in walk(model, "TensorProto")):
        raise unusable("its weights lie in other files: save it with all data in one file")
    _check(onnx, model)
    return model


def write_model(model: Any) -> bytes:
    """The bytes of a ModelProto, the same for the same model. Raises OperatorError if it is not valid."""
    _check(import_onnx(), model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def walk(message: Any, kind: str | None = None) -> Iterator[Any]:
    """This protobuf message and all within it, outer ones first; of one message type where `kind` names it."""
    if kind is None or message.DESCRIPTOR.name == kind:
        yield message
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            for inner in (value,) if hasattr(value, "DESCRIPTOR") else value:
                yield from walk(inner, kind)


def tensor_types(model: Any) -> dict[str, TensorType]:
    """Element type and dimensions of the main graph's tensors, as far as they can be inferred."""
    inferred = import_onnx().shape_inference.infer_shapes(model).graph
    infos = [*inferred.input, *inferred.value_info, *inferred.output]
    return {
        info.name: (info.type.tensor_type.elem_type, dimensions_of(info))
        for info in infos
        if info.type.HasField("tensor_type") and info.type.tensor_type.HasField("shape")
    }


def dimensions_of(info: Any) -> tuple[int | None, ...]:
    """The dimensions of a ValueInfoProto, None where they are not fixed."""
    return tuple(
        dimension.dim_value if dimension.HasField("dim_value") else None
        for dimension in info.type.tensor_type.shape.dim
    )


def unusable(why: str) -> OperatorError:
    """The error for a model whose graph cannot be changed as wanted."""
    return OperatorError(Code.MODEL_UNSUPPORTED, f"the model's graph cannot be changed: {why}")


def _check(onnx: Any, model: Any) -> None:
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as exc:
        raise unusable(
            f"the ONNX checker refuses it ({str(exc).splitlines()[0][:200]}): export it again"
        ) from exc
