"""From Ultralytics weights to ONNX bytes, where models are sealed; the one home of torch and Ultralytics.

Rules: torch and Ultralytics are imported inside functions only, so a gateway without the `seal` extra never misses
them; they may not phone home or install packages. A `.pt` file is a pickle and runs code when it is loaded: export
only weights whose origin you trust, never on the machine that serves.
"""

import os
import pickle
import shutil
import sys
import tempfile
import warnings
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from gateway.errors import Code, OperatorError

# Read by Ultralytics while it is imported.
_QUIET_AND_OFFLINE = {"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}

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


def import_ultralytics() -> Any:
    """The Ultralytics package, imported offline, without auto-install, and with a torchvision that imports.

    Everything that needs Ultralytics gets it here. Raises OperatorError if the `seal` extra is not installed.
    """
    os.environ.update(_QUIET_AND_OFFLINE)
    try:
        import ultralytics
    except ModuleNotFoundError as exc:
        raise _unsupported(
            "exporting weights needs Ultralytics: run `pip install -e '.[seal]'` in the checkout"
        ) from exc
    _make_torchvision_importable()
    return ultralytics


def _make_torchvision_importable() -> None:
    """Put a stand-in where torchvision is absent or built for another torch.

    Ultralytics imports torchvision for one function, `ops.nms`, and carries an equal one itself. A torchvision
    built for CUDA beside a CPU-only torch raises RuntimeError on import, which would end every prediction.
    """
    try:
        import torchvision  # noqa: F401  (whether it imports is the question)
    except (ImportError, OSError, RuntimeError):
        from ultralytics.utils.nms import TorchNMS

        torchvision_stand_in = _empty_module("torchvision")
        ops = _empty_module("torchvision.ops")
        ops.nms = TorchNMS.nms  # type: ignore[attr-defined]  # an attribute of a module made here
        torchvision_stand_in.ops = ops  # type: ignore[attr-defined]  # the same
        sys.modules |= {"torchvision": torchvision_stand_in, "torchvision.ops": ops}


def _empty_module(name: str) -> ModuleType:
    module = ModuleType(name)
    # importlib.util.find_spec, which torch calls, raises on a loaded module without one.
    module.__spec__ = ModuleSpec(name, loader=None)
    return module


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
