"""What an Ultralytics `.pt` file says about its network, for the header of a file that seals it as it is.

Rules: a `.pt` is a pickle and runs code as it is read, so this belongs to the command that seals, run by somebody who
trusts the file's origin, and to nothing else.
"""

from dataclasses import dataclass
from typing import Any

from gateway.errors import Code, OperatorError
from gateway.ultralytics_offline import load_network

TASKS = ("detect", "segment", "pose", "obb", "classify")

_MIN_STRIDE_PIXELS = 32
_MAX_SIDE_PIXELS = 8_192
_DEFAULT_SIDE_PIXELS = 640
_DEFAULT_CLASSIFIER_SIDE_PIXELS = 224


@dataclass(frozen=True, slots=True)
class WeightsFacts:
    """What a `.pt` file says about its network.

    names: in the order of class ids. input_size: (height, width) that it was trained for, pixels, multiples of
    stride. stride: pixels, what sides must be multiples of.
    """

    task: str
    names: tuple[str, ...]
    stride: int
    input_size: tuple[int, int]


def read_pt_facts(weights: bytes) -> WeightsFacts:
    """Load a trusted Ultralytics `.pt` file and read its facts.

    Raises OperatorError if it is none, its task is none of TASKS, its names are no texts for 0, 1, 2 and so on, or
    the `seal` extra is not installed.
    """
    network = load_network(weights)
    try:
        return _facts_of(network)
    except (AttributeError, TypeError, ValueError, LookupError, OverflowError) as exc:
        raise _unsupported(
            f"it does not say what Ultralytics' own weights say ({type(exc).__name__}): take a .pt as it was trained"
        ) from exc


def _facts_of(network: Any) -> WeightsFacts:
    task = str(network.task)
    if task not in TASKS:
        raise _unsupported(f"its task is {task[:32]!r}, there are {', '.join(TASKS)}")
    # Sides that Ultralytics takes as they are: it rounds up to the stride, and to 32 where that is less.
    stride = max(int(network.stride.max()), _MIN_STRIDE_PIXELS)
    return WeightsFacts(
        task=task,
        names=_names(network.names),
        stride=stride,
        input_size=_input_size(network.args.get("imgsz"), task, stride),
    )


def _names(stated: Any) -> tuple[str, ...]:
    by_id = dict(enumerate(stated)) if isinstance(stated, list | tuple) else stated
    in_order = tuple(by_id.get(class_id) for class_id in range(len(by_id)))
    checked = tuple(name for name in in_order if isinstance(name, str) and name)
    if not checked or len(checked) != len(in_order):
        raise _unsupported("its class names are not texts for 0, 1, 2 and so on")
    return checked


def _input_size(stated: Any, task: str, stride: int) -> tuple[int, int]:
    sides = stated if isinstance(stated, list | tuple) else [stated, stated]
    if len(sides) != 2 or not all(
        type(side) is int and 1 <= side <= _MAX_SIDE_PIXELS for side in sides
    ):
        side = _DEFAULT_CLASSIFIER_SIDE_PIXELS if task == "classify" else _DEFAULT_SIDE_PIXELS
        sides = [side, side]
    height, width = (-(-side // stride) * stride for side in sides)
    return height, width


def _unsupported(why: str) -> OperatorError:
    return OperatorError(Code.MODEL_UNSUPPORTED, f"the weights cannot be sealed: {why}")
