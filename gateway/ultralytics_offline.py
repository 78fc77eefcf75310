"""Ultralytics as this project imports it: offline, silent, and without a working torchvision if need be.

Rules: it is imported inside functions only, so that a gateway without the `seal` extra never misses it; it may not
phone home or install packages; whoever needs it gets it here.
"""

import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from gateway.errors import Code, OperatorError

# Read by Ultralytics while it is imported.
_QUIET_AND_OFFLINE = {"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}


def import_ultralytics() -> Any:
    """The Ultralytics package, imported offline, without auto-install, and with a torchvision that imports.

    Raises OperatorError if the `seal` extra is not installed.
    """
    os.environ.update(_QUIET_AND_OFFLINE)
    try:
        import ultralytics
    except ModuleNotFoundError as exc:
        raise OperatorError(
            Code.MODEL_UNSUPPORTED,
            "Ultralytics weights need the library: run `pip install -e '.[seal]'` in the checkout",
        ) from exc
    _make_torchvision_importable()
    return ultralytics


def _make_torchvision_importable() -> None:
    """Put a stand-in where torchvision is absent or built for another torch.

    Ultralytics imports torchvision for `ops.nms`, of which it carries an equal itself, and for the transforms that
    classifiers see images through, which are plain Python. A torchvision built for CUDA beside a CPU-only torch
    raises RuntimeError on import, which would end every prediction; its transforms work all the same.
    """
    try:
        import torchvision  # noqa: F401  (whether it imports is the question)
    except (ImportError, OSError, RuntimeError):
        from ultralytics.utils.nms import TorchNMS

        torchvision_stand_in = _empty_module("torchvision")
        installed = importlib.util.find_spec("torchvision")
        if installed is not None and installed.submodule_search_locations is not None:
            torchvision_stand_in.__path__ = list(installed.submodule_search_locations)
        ops = _empty_module("torchvision.ops")
        ops.nms = TorchNMS.nms  # type: ignore[attr-defined]  # an attribute of a module made here
        torchvision_stand_in.ops = ops  # type: ignore[attr-defined]  # the same
        sys.modules |= {"torchvision": torchvision_stand_in, "torchvision.ops": ops}


def _empty_module(name: str) -> ModuleType:
    module = ModuleType(name)
    # importlib.util.find_spec, which torch calls, raises on a loaded module without one.
    module.__spec__ = ModuleSpec(name, loader=None)
    return module
