"""What the runner asks of an engine, what an engine is told, and what an ONNX file says about itself.

Rules: an engine is told every fact about its network and reads none from the network's own metadata, which a sealed
one does not have; a lane belongs to one thread at a time; engines raise GatewayErrors only.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gateway.errors import Code, OperatorError
from gateway.inference.postprocess import Thresholds
from gateway.store.records import Detections

# A thousand long class names fit; a literal parser must not see more.
_MAX_LITERAL_CHARACTERS = 256 * 1024
_MAX_CLASSES = 10_000
_MAX_SIDE_PIXELS = 8_192
_MAX_TOLD_CHARACTERS = 300
_INTEGER = re.compile(r"[0-9]{1,6}")


@dataclass(frozen=True, slots=True)
class Network:
    """Weights and all that an engine needs to know of them; the facts come from a sealed header.

    weights: an ONNX file, or a .pt for the ultralytics engine. An ONNX graph has one input, float32 (1, 3, H, W) RGB
    0..1; its first output is the head and its second, if there is one, the pooled feature, float32 (1, C).
    input_size: (height, width), pixels. is_dynamic: other sizes that are multiples of stride_pixels can be asked for.
    precision: f32, bf16 or int8. is_decode_reduced: large JPEGs may be decoded at 1/2, 1/4 or 1/8 of their size.
    """

    weights: bytes | memoryview = field(repr=False)
    task: str
    class_names: tuple[str, ...]
    input_size: tuple[int, int]
    is_dynamic: bool
    stride_pixels: int
    precision: str
    is_decode_reduced: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """What a lane found in one image, and where its time went.

    embedding: the pooled feature, float32 (C,), the receiver's own; None if the network has none.
    """

    detections: Detections
    embedding: NDArray[np.float32] | None
    preprocess_milliseconds: float
    inference_milliseconds: float
    postprocess_milliseconds: float


class Lane(Protocol):
    """One open place in an engine, for one thread at a time."""

    @property
    def decode_covers(self) -> tuple[int, int] | None:
        """The canvas (height, width) that a reduced decode still has to cover; None asks for every pixel."""
        ...

    def find(
        self,
        image: NDArray[np.uint8],
        thresholds: Thresholds,
        *,
        image_shape: tuple[int, int],
    ) -> Found:
        """What the network sees in an image: uint8 (h, w, 3), BGR.

        image_shape: (height, width) of the image as it was sent, of which h and w may be a fraction; boxes are in its
        pixels. Raises RunnerError.
        """
        ...

    def warm_up(self) -> None:
        """Run the network once, on whatever is there. Raises RunnerError."""
        ...


class Engine(Protocol):
    """A compiled network."""

    @property
    def name(self) -> str:
        """The engine's name as it stands in sealed headers."""
        ...

    @property
    def precision(self) -> str:
        """The precision that it runs in: f32, bf16 or int8."""
        ...

    @property
    def task(self) -> str:
        """What the network finds: detect, or another of Ultralytics' tasks."""
        ...

    @property
    def versions(self) -> Mapping[str, str]:
        """The libraries that make the numbers, by name, as answers state them."""
        ...

    @property
    def input_sizes(self) -> tuple[tuple[int, int], ...]:
        """The canvas sizes (height, width) that it is compiled for, the network's own first."""
        ...

    def open_lane(self, size: tuple[int, int]) -> Lane:
        """A lane for one of the input sizes."""
        ...


def chosen_sizes(
    network: Network, input_sizes: Sequence[tuple[int, int]]
) -> tuple[tuple[int, int], ...]:
    """The sizes (height, width) to compile for, each once, in order; none means the network's own.

    Raises OperatorError with MODEL_UNSUPPORTED if the network cannot take one of them.
    """
    sizes = tuple(dict.fromkeys(input_sizes)) or (network.input_size,)
    for height, width in sizes:
        if not network.is_dynamic and (height, width) != network.input_size:
            own_height, own_width = network.input_size
            raise unsupported_model(
                f"it is fixed to {own_height}x{own_width} pixels, not {height}x{width}"
            )
        if (
            height < 1
            or width < 1
            or height % network.stride_pixels
            or width % network.stride_pixels
        ):
            raise unsupported_model(
                f"{height}x{width} is not a multiple of its stride of {network.stride_pixels} pixels"
            )
    return sizes


def check_outputs(network: Network, shapes: Sequence[tuple[int | None, ...]]) -> None:
    """Refuse a network whose outputs, head first, are not those of a detector with its class names.

    Raises OperatorError with MODEL_UNSUPPORTED.
    """
    head = shapes[0]
    if len(head) != 3 or head[0] != 1 or None in head:
        raise unsupported_model("its head is not one table of boxes for one input size")
    rows = head[1] or 0
    if head[2] != 6 and rows - 4 != len(network.class_names):
        raise unsupported_model(
            f"its head has {rows - 4} classes and its header {len(network.class_names)} names"
        )
    if len(shapes) > 1 and (len(shapes[1]) != 2 or shapes[1][0] != 1 or shapes[1][1] is None):
        raise unsupported_model("its second output is not one row of features")


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


def network_of(onnx: bytes, facts: OnnxFacts, *, precision: str) -> Network:
    """An ONNX file that is not sealed yet, as an engine wants it."""
    return Network(
        weights=onnx,
        task=facts.task,
        class_names=facts.class_names,
        input_size=facts.input_size,
        is_dynamic=facts.is_dynamic,
        stride_pixels=facts.stride_pixels,
        precision=precision,
    )


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


def unsupported_model(why: str, *, reason: str = "") -> OperatorError:
    """The error for weights that this gateway cannot serve. reason: a library's own words, for log and ledger."""
    message = f"the model cannot be served: {why}"
    return OperatorError(Code.MODEL_UNSUPPORTED, message, reason=reason)


def one_line(library_text: str) -> str:
    """A library's words as log and ledger take them: one line of at most 300 printable characters."""
    line = " ".join(library_text.split())[:_MAX_TOLD_CHARACTERS]
    return "".join(character if character.isprintable() else "?" for character in line)


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
