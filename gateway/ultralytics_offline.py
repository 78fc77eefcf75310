"""Ultralytics as this project imports it: offline, silent, and without a working torchvision if need be.

Rules: it is imported inside functions only, so that a gateway without the `seal` extra never misses it; it may not
phone home or install packages; whoever needs it, a network out of a `.pt`, or its Results as Detections, gets them
here.
"""

import importlib.util
import io
import os
import sys
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.errors import Code, OperatorError
from gateway.store.records import ClassRanking, Detections

# Read by Ultralytics while it is imported.
_QUIET_AND_OFFLINE = {
    "YOLO_OFFLINE": "1",
    "YOLO_AUTOINSTALL": "false",
    "YOLO_VERBOSE": "false",
    # Read by ONNX Runtime, which else keeps an id of this machine in the home folder and reports to its maker.
    "ORT_DISABLE_TELEMETRY": "1",
}

# Where pickles of earlier releases look for their classes. Source: Ultralytics 8.4 nn/tasks.py, torch_safe_load.
_MOVED_MODULES = {
    "ultralytics.yolo.utils": "ultralytics.utils",
    "ultralytics.yolo.v8": "ultralytics.models.yolo",
    "ultralytics.yolo.data": "ultralytics.data",
}
_MOVED_CLASSES = {
    "ultralytics.nn.modules.block.Silence": "torch.nn.Identity",
    "ultralytics.nn.tasks.YOLOv10DetectionModel": "ultralytics.nn.tasks.DetectionModel",
    "ultralytics.utils.loss.v10DetectLoss": "ultralytics.utils.loss.E2EDetectLoss",
    "pathlib.WindowsPath": "pathlib.PosixPath",
}


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


def load_network(weights: bytes | memoryview) -> Any:
    """The network in the bytes of an Ultralytics `.pt` file: a torch module, float32, to evaluate, on the CPU.

    A `.pt` is a pickle and runs code as it is loaded. Only bytes that were authenticated as a sealed model, or whose
    origin whoever seals them trusts, may come here. Nothing is written to disk.
    The training arguments of the file become its `args`, its task its `task`.
    Raises OperatorError if this is no Ultralytics `.pt` file or the `seal` extra is not installed.
    Source: Ultralytics 8.4 nn/tasks.py, load_checkpoint, which takes nothing but the path of a file.
    """
    import_ultralytics()
    with warnings.catch_warnings():
        # The libraries' own deprecations say nothing to whoever serves a model.
        warnings.simplefilter("ignore")
        try:
            return _prepare(_unpickle(weights))
        except Exception as exc:
            # A pickle runs code, whose exceptions can be of any class.
            raise OperatorError(
                Code.MODEL_UNSUPPORTED,
                f"the weights cannot be loaded ({type(exc).__name__}): are they an Ultralytics .pt file?",
            ) from exc


def to_detections(result: Any, task: str) -> Detections:
    """One of Ultralytics' Results of this task, copied into numbers of the original image."""
    result = result.cpu()
    if result.probs is not None:
        return _ranked(result.probs)
    if result.obb is not None:
        return _oriented(result.obb, result.orig_shape)
    boxes = result.boxes.data.numpy()
    # Ultralytics has no masks where there are no boxes.
    outlines = () if result.masks is None else result.masks.xy
    return Detections(
        boxes[:, :4].copy(),
        boxes[:, 4].copy(),
        boxes[:, 5].astype(np.int64),
        polygons=tuple(_polygon(points) for points in outlines) if task == "segment" else None,
        keypoints=None if result.keypoints is None else result.keypoints.data.numpy().copy(),
    )


def _unpickle(weights: bytes | memoryview) -> Any:
    import torch
    from ultralytics.nn.tasks import temporary_modules

    with temporary_modules(modules=_MOVED_MODULES, attributes=_MOVED_CLASSES):
        return torch.load(io.BytesIO(weights), map_location="cpu", weights_only=False)


def _prepare(content: Any) -> Any:
    import torch
    from ultralytics.nn.tasks import guess_model_task
    from ultralytics.utils import DEFAULT_CFG_DICT

    if content.get("modelopt"):
        raise ValueError("trained for quantisation, which only Ultralytics' own loader restores")
    network = content.get("ema") or content["model"]
    if not isinstance(network, torch.nn.Module):
        raise TypeError("no network")
    network = network.float().eval()
    network.args = DEFAULT_CFG_DICT | content.get("train_args", {})
    network.task = getattr(network, "task", None) or guess_model_task(network)
    for module in network.modules():
        if hasattr(module, "inplace"):
            module.inplace = True
        elif isinstance(module, torch.nn.Upsample) and not hasattr(
            module, "recompute_scale_factor"
        ):
            module.recompute_scale_factor = None
    return network


def _polygon(points: Any) -> NDArray[np.float32]:
    polygon: NDArray[np.float32] = np.asarray(points, np.float32).reshape(-1, 2)
    return polygon


def _oriented(obb: Any, image_shape: tuple[int, int]) -> Detections:
    height, width = image_shape
    corners: NDArray[np.float32] = obb.xyxyxyxy.numpy().reshape(-1, 4, 2).copy()
    envelope = np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1)
    boxes = np.clip(envelope, 0, np.array((width, height) * 2, np.float32))
    return Detections(
        boxes, obb.conf.numpy().copy(), obb.cls.numpy().astype(np.int64), corners=corners
    )


def _ranked(probs: Any) -> Detections:
    top = probs.top5
    return Detections(
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.float32),
        np.zeros(0, np.int64),
        ranking=ClassRanking(np.array(top, np.int64), probs.data[top].numpy().copy()),
    )


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
