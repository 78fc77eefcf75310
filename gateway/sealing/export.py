"""From Ultralytics weights to ONNX bytes, where models are sealed.

Rules: Ultralytics comes from import_ultralytics only, inside functions. A `.pt` file is a pickle and runs code when it
is loaded: export only weights whose origin you trust, never on the machine that serves.
"""

import pickle
import shutil
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.errors import Code, OperatorError
from gateway.ultralytics_offline import import_ultralytics

# What unpickling and tracing somebody's file raises in practice; all of it means that the file is not usable.
_UNUSABLE = (
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ImportError,
    EOFError,
    AssertionError,
    pickle.UnpicklingError,
)


@dataclass(frozen=True, slots=True)
class ExportedWeights:
    """A network as static ONNX (batch 1, f32) and the facts that its weights file states.

    onnx: input `images` float32 (1, 3, H, W), RGB, 0..1. names: in the order of class ids.
    input_size: (height, width), pixels. stride: pixels, the largest of the network.
    """

    onnx: bytes = field(repr=False)
    task: str
    names: tuple[str, ...]
    input_size: tuple[int, int]
    stride: int


def export_onnx(weights_path: Path, *, image_size: tuple[int, int]) -> ExportedWeights:
    """Export a trusted Ultralytics `.pt` file.

    image_size: (height, width), pixels, multiples of the network's stride.
    Raises OperatorError if the file is missing or no Ultralytics weights, the size does not fit, or the `seal`
    extra is not installed.
    """
    if not weights_path.is_file():
        # Ultralytics would try to download a file of this name.
        raise _unsupported(f"there is no weights file {weights_path}")
    ultralytics = import_ultralytics()
    # The export is written beside the weights, so both live in a folder that only this user can enter.
    with (
        tempfile.TemporaryDirectory(prefix="gatewatch-export-") as folder,
        warnings.catch_warnings(),
    ):
        # The libraries' own deprecations say nothing to whoever seals a model.
        warnings.simplefilter("ignore")
        private_path = Path(folder) / "weights.pt"
        shutil.copyfile(weights_path, private_path)
        try:
            return _export(ultralytics.YOLO(str(private_path)), image_size)
        except _UNUSABLE as exc:
            raise _unsupported(
                f"{weights_path} cannot be exported ({type(exc).__name__}): is it an Ultralytics .pt file?"
            ) from exc


def _export(model: Any, image_size: tuple[int, int]) -> ExportedWeights:
    stride = int(model.model.stride.max())
    if any(side <= 0 or side % stride for side in image_size):
        # Ultralytics would silently round up, and the header would state another size than the network's.
        raise _unsupported(f"image size {image_size}: both sides must be multiples of {stride}")
    path = model.export(
        format="onnx", imgsz=image_size, batch=1, dynamic=False, simplify=True, device="cpu"
    )
    return ExportedWeights(
        onnx=Path(path).read_bytes(),
        task=model.task,
        names=tuple(model.names[class_id] for class_id in range(len(model.names))),
        input_size=image_size,
        stride=stride,
    )


def _unsupported(what: str) -> OperatorError:
    return OperatorError(Code.MODEL_UNSUPPORTED, what)
