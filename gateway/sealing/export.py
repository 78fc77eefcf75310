"""From Ultralytics weights to ONNX bytes, where models are sealed.

Rules: Ultralytics comes from import_ultralytics only, inside functions. Plaintext lies in a private folder only, and
nothing else is written. A `.pt` file is a pickle and runs code when it is loaded: export only weights whose origin you
trust, never on the machine that serves.
"""

import shutil
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.errors import Code, OperatorError
from gateway.sealing.private_folder import private_folder, writes_confined_to
from gateway.ultralytics_offline import import_ultralytics

HEADS = ("auto", "nms_free", "dense")

# Weights in half precision grow to twice their size; the export is written, simplified and written again.
_SPACE_FACTOR = 8


@dataclass(frozen=True, slots=True)
class ExportedWeights:
    """A detector as static ONNX (batch 1, f32) and the facts that its weights file states.

    onnx: input `images` float32 (1, 3, H, W), RGB, 0..1. names: in the order of class ids.
    input_size: (height, width), pixels. stride: pixels, the largest of the network.
    is_end_to_end: the head is NMS-free, float32 (1, n, 6); else dense, float32 (1, 4 + classes, n).
    """

    onnx: bytes = field(repr=False)
    task: str
    names: tuple[str, ...]
    input_size: tuple[int, int]
    stride: int
    is_end_to_end: bool


def export_onnx(
    weights_path: Path, *, image_size: tuple[int, int], head: str = "auto"
) -> ExportedWeights:
    """Export a trusted Ultralytics `.pt` file of a detector.

    image_size: (height, width), pixels, multiples of the network's stride.
    head: of HEADS; `nms_free` and `dense` insist on one, `auto` takes the dense head unless the weights have only the
    other, as Ultralytics' own predict does.
    The process's current folder is another meanwhile, so this is for commands.
    Raises OperatorError if the file is missing or no Ultralytics weights, the task is not detect, the network lacks
    the head, the size does not fit, or the `seal` extra is not installed.
    """
    if head not in HEADS:
        raise _unsupported(f"there is no head {head!r}: choose {', '.join(HEADS)}")
    if not weights_path.is_file():
        # Ultralytics would try to download a file of this name.
        raise _unsupported(f"there is no weights file {weights_path}")
    ultralytics = import_ultralytics()
    needed_bytes = _SPACE_FACTOR * weights_path.stat().st_size
    with private_folder(needed_bytes=needed_bytes) as folder, warnings.catch_warnings():
        # The libraries' own deprecations say nothing to whoever seals a model.
        warnings.simplefilter("ignore")
        # The export is written beside the weights.
        private_path = folder / "weights.pt"
        shutil.copyfile(weights_path, private_path)
        try:
            with writes_confined_to(folder):
                return _export(ultralytics.YOLO(str(private_path)), image_size, head)
        except OperatorError:
            raise
        except Exception as exc:
            # The exporters have exceptions of no common class, and a pickle runs code that can raise any.
            raise _unsupported(
                f"{weights_path} cannot be exported ({type(exc).__name__}): is it an Ultralytics .pt file?"
            ) from exc


def _export(model: Any, image_size: tuple[int, int], head: str) -> ExportedWeights:
    if model.task != "detect":
        raise _unsupported(
            f"its task is {model.task}, and only detectors are exported: seal the .pt itself, for the"
            " ultralytics engine"
        )
    is_end_to_end = _is_nms_free(model.model.model[-1], head)
    stride = int(model.model.stride.max())
    if any(side <= 0 or side % stride for side in image_size):
        # Ultralytics would silently round up, and the header would state another size than the network's.
        raise _unsupported(f"image size {image_size}: both sides must be multiples of {stride}")
    path = model.export(
        format="onnx",
        imgsz=image_size,
        batch=1,
        dynamic=False,
        simplify=True,
        device="cpu",
        # In Ultralytics' words False is the NMS-free head, and None the dense one.
        nms=False if is_end_to_end else None,
    )
    return ExportedWeights(
        onnx=Path(path).read_bytes(),
        task=model.task,
        names=tuple(model.names[class_id] for class_id in range(len(model.names))),
        input_size=image_size,
        stride=stride,
        is_end_to_end=is_end_to_end,
    )


def _is_nms_free(network_head: Any, head: str) -> bool:
    """Whether the wanted head is the NMS-free one. Raises OperatorError if the network lacks what is wanted."""
    # Fusing removes the head that is not in use: weights may have the one, the other, or both.
    has_nms_free = getattr(network_head, "one2one_cv2", None) is not None
    has_dense = getattr(network_head, "cv2", None) is not None
    if head == "nms_free" and not has_nms_free:
        raise _unsupported(
            "this network has no NMS-free head (YOLO26 and YOLOv10 have one): leave the head to `auto`"
        )
    if head == "dense" and not has_dense:
        raise _unsupported(
            "this network has lost its dense head when it was fused: take the weights as they were"
            " trained, or leave the head to `auto`"
        )
    return head == "nms_free" or not has_dense


def _unsupported(what: str) -> OperatorError:
    return OperatorError(Code.MODEL_UNSUPPORTED, what)
