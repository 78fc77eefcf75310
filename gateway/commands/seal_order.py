"""What whoever seals a model asks for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import Code, OperatorError
from gateway.inference.labelled import LabelledImage

PRECISIONS = ("f32", "bf16", "int8")
ENGINES = ("openvino", "onnxruntime", "ultralytics")
HEADS = ("auto", "nms_free", "dense")
TASKS = ("detect", "segment", "pose", "obb", "classify")
DEFAULT_IMAGE_SIZE_PIXELS = 640
MAX_IMAGE_SIZE_PIXELS = 8_192
PICKLE_SUFFIX = ".pt"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealOrder:
    """A source, a name, and how it is to be run.

    source_file: an ONNX file or a .pt. image_size_pixels: the side that a .pt is exported for; None is 640. engine:
    None chooses by task. task: None takes what the weights say. head: auto, nms_free or dense. kek_specs: KEKs to wrap
    for; none means those of the configuration. golden_folder, calibration_folder: images, labelled or not.
    """

    source_file: Path
    name: str
    version: str
    signer_file: Path
    image_size_pixels: int | None = None
    is_promoted: bool = False
    precision: str = "f32"
    engine: str | None = None
    task: str | None = None
    head: str = "auto"
    kek_specs: tuple[str, ...] = ()
    golden_folder: Path | None = None
    calibration_folder: Path | None = None
    is_obfuscated: bool = False
    is_decode_reduced: bool = False
    is_loss_accepted: bool = False
    is_parity_skipped: bool = False

    @property
    def is_pickle(self) -> bool:
        """Whether the source is a .pt, by its name."""
        return self.source_file.suffix == PICKLE_SUFFIX


def check_order(order: SealOrder, images: Sequence[LabelledImage]) -> None:
    """Refuse at once what would be refused after minutes.

    images: of the golden and calibration folders. Raises OperatorError naming the option and what it takes.
    """
    _check_choice("precision", order.precision, PRECISIONS)
    _check_choice("head", order.head, HEADS)
    if order.engine is not None:
        _check_choice("engine", order.engine, ENGINES)
    if order.task is not None:
        _check_choice("task", order.task, TASKS)
    side = order.image_size_pixels
    if side is not None and not 1 <= side <= MAX_IMAGE_SIZE_PIXELS:
        raise _unfit(f"--imgsz takes 1 to {MAX_IMAGE_SIZE_PIXELS} pixels, not {side}")
    if not order.is_pickle and (side is not None or order.head != "auto"):
        raise _unfit(
            "an ONNX file has its size and its head already: leave --imgsz and --head out, or seal the .pt"
        )
    if order.engine == "onnxruntime" and order.precision == "bf16":
        raise _unfit("the engine onnxruntime runs f32 and int8: choose openvino for bf16")
    if order.precision == "int8" and not images:
        raise _unfit(
            "int8 needs images of the kind that will be seen: name a folder with --calibration, "
            "a few hundred of them, labelled if possible"
        )
    is_exact = order.precision == "f32" and not order.is_decode_reduced
    if not is_exact and not order.is_loss_accepted and all(i.labels is None for i in images):
        raise OperatorError(
            Code.GATE_FAILED,
            "what this precision or decoding costs cannot be measured: name a folder with labels (YOLO's text form, "
            "or COCO's JSON) with --golden or --calibration, or --accept-loss",
        )


def _check_choice(option: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise _unfit(f"--{option} takes {', '.join(known)}, not {value!r}")


def _unfit(what: str) -> OperatorError:
    return OperatorError(Code.MODEL_UNSUPPORTED, what)
