"""What the runner asks of an engine, and what an ONNX file says about itself.

Rules: an engine turns a canvas into the head's raw numbers and nothing else; an open request belongs to one thread at
a time; engines raise GatewayErrors only.
"""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gateway.errors import Code, OperatorError

# A thousand long class names fit; a literal parser must not see more.
_MAX_LITERAL_CHARACTERS = 256 * 1024
_MAX_CLASSES = 10_000
_MAX_SIDE_PIXELS = 8_192
_INTEGER = re.compile(r"[0-9]{1,6}")


class EngineRequest(Protocol):
    """One open place in an engine, bound to the canvas it was opened with."""

    def infer(self) -> NDArray[np.float32]:
        """Run the network over the canvas as it is now.

        Returns float32 (1, 4 + classes, n) or (1, n, 6), valid until the next call. Raises RunnerError.
        """
        ...


class Engine(Protocol):
    """A compiled network."""

    @property
    def input_sizes(self) -> tuple[tuple[int, int], ...]:
        """The canvas sizes (height, width) that it is compiled for, the model's own first."""
        ...

    def open_request(self, pixels: NDArray[np.uint8]) -> EngineRequest:
        """A request that reads this memory at each call: uint8 (H, W, 3), BGR, C-contiguous, H and W an input size."""
        ...


@dataclass(frozen=True, slots=True)
class OnnxFacts:
    """What a detector's ONNX file says about itself.

    class_names: by class id. input_size: (height, width), pixels, what it was exported with. is_dynamic: other sizes
    that are multiples of stride_pixels can be asked for. is_end_to_end: the head needs no suppression.
    output_shape: of the head, None where it depends on the input size.
    """

    task: str
    class_names: tuple[str, ...]
    stride_pixels: int
    input_size: tuple[int, int]
    is_dynamic: bool
    is_end_to_end: bool
    output_shape: tuple[int | None, ...]


def read_facts(
    metadata: Mapping[str, str],
    *,
    input_shape: tuple[int | None, ...],
    output_shape: tuple[int | None, ...],
) -> OnnxFacts:
    """Facts from the metadata that Ultralytics' exporter writes and the graph's own shapes (None is dynamic).

    Class names may be missing: they are then class_0, class_1 and so on, if the head is raw and tells their number.
    Raises OperatorError with MODEL_UNSUPPORTED if this is not a detector, or metadata and graph do not fit together.
    """
    task = metadata.get("task")
    if task is None:
        raise unsupported_model(
            "it has no Ultralytics metadata: export it with `yolo export format=onnx`"
        )
    if task != "detect":
        raise unsupported_model(f"its task is {task[:32]!r}, only 'detect' is served")
    if len(input_shape) != 4 or input_shape[1] != 3 or input_shape[0] not in (1, None):
        raise unsupported_model("its input is not one image of three channels")
    if len(output_shape) != 3 or output_shape[0] not in (1, None):
        raise unsupported_model("its output is not a detection head")
    is_end_to_end = output_shape[2] == 6
    rows = output_shape[1]
    class_count = None if is_end_to_end or rows is None else rows - 4
    return OnnxFacts(
        task=task,
        class_names=_class_names(metadata, class_count),
        stride_pixels=_integer(metadata.get("stride", ""), "stride"),
        input_size=_input_size(metadata, input_shape),
        is_dynamic=input_shape[2] is None or input_shape[3] is None,
        is_end_to_end=is_end_to_end,
        output_shape=output_shape,
    )


def unsupported_model(why: str) -> OperatorError:
    """The error for weights that this gateway cannot serve."""
    return OperatorError(Code.MODEL_UNSUPPORTED, f"the model cannot be served: {why}")


def _class_names(metadata: Mapping[str, str], class_count: int | None) -> tuple[str, ...]:
    text = metadata.get("names")
    if text is None:
        if class_count is None:
            raise unsupported_model(
                "its metadata has no class names and its head does not tell their number"
            )
        return tuple(f"class_{class_id}" for class_id in range(class_count))
    names = _literal(text, "names")
    if not isinstance(names, dict) or not 1 <= len(names) <= _MAX_CLASSES:
        raise unsupported_model("the names in its metadata are not a mapping")
    in_order = tuple(names.get(class_id) for class_id in range(len(names)))
    if class_count is not None and len(names) != class_count:
        raise unsupported_model(f"it has {class_count} classes but {len(names)} names")
    checked = tuple(name for name in in_order if isinstance(name, str) and name)
    if len(checked) != len(in_order):
        raise unsupported_model("the names in its metadata are not texts for 0, 1, 2 and so on")
    return checked


def _input_size(
    metadata: Mapping[str, str], input_shape: tuple[int | None, ...]
) -> tuple[int, int]:
    height, width = input_shape[2:]
    if height is not None and width is not None:
        return height, width
    stated = _literal(metadata.get("imgsz", ""), "imgsz")
    if (
        not isinstance(stated, list)
        or len(stated) != 2
        or not all(type(side) is int and 1 <= side <= _MAX_SIDE_PIXELS for side in stated)
    ):
        raise unsupported_model("the imgsz in its metadata is not two sides in pixels")
    return stated[0], stated[1]


def _integer(text: str, name: str) -> int:
    if not _INTEGER.fullmatch(text) or int(text) < 1:
        raise unsupported_model(f"the {name} in its metadata is not a positive integer")
    return int(text)


def _literal(text: str, name: str) -> object:
    if len(text) > _MAX_LITERAL_CHARACTERS:
        raise unsupported_model(f"the {name} in its metadata is too long")
    try:
        value: object = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as exc:
        raise unsupported_model(f"the {name} in its metadata cannot be read") from exc
    return value
