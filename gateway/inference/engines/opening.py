"""Engines by the name that stands in a sealed header; only the one that is asked for is imported."""

import os
from collections.abc import Sequence
from importlib import import_module

from gateway.errors import Code, OperatorError
from gateway.inference.engine import Engine, Network, one_line, unsupported_model

# Name: module, class, extra of the package that installs its library.
_ENGINES = {
    "openvino": ("openvino", "OpenVinoEngine", None),
    "onnxruntime": ("onnxruntime", "OnnxRuntimeEngine", "onnxruntime"),
    "ultralytics": ("ultralytics", "UltralyticsEngine", "seal"),
}
# Read by ONNX Runtime when it is loaded: else it keeps an id of this machine in the home folder and reports home.
_SILENT = {"ORT_DISABLE_TELEMETRY": "1"}


def open_engine(
    name: str,
    network: Network,
    *,
    workers: int,
    input_sizes: Sequence[tuple[int, int]] = (),
) -> Engine:
    """The engine of that name with the network compiled in it.

    workers: how many images run at a time, >= 1. input_sizes: (height, width), the first is the default; none means
    the network's own. Raises OperatorError with MODEL_UNSUPPORTED if the engine is unknown, its library is not
    installed or does not load, or network, sizes and machine do not fit.
    """
    if name not in _ENGINES:
        known = ", ".join(_ENGINES)
        raise unsupported_model(f"it is sealed for the engine {name[:32]!r}, there are {known}")
    if name != "ultralytics" and network.task != "detect":
        raise unsupported_model(
            f"the engine {name} runs detectors only, not {network.task[:32]!r}: seal its .pt, which Ultralytics runs"
        )
    module_name, class_name, extra = _ENGINES[name]
    os.environ.update(_SILENT)
    try:
        module = import_module(f"gateway.inference.engines.{module_name}")
    except ImportError as exc:
        raise _not_loaded(name, extra, exc) from exc
    engine: Engine = getattr(module, class_name)(network, workers=workers, input_sizes=input_sizes)
    return engine


def _not_loaded(name: str, extra: str | None, exc: ImportError) -> OperatorError:
    cause = f"the model is sealed for the engine {name}, whose library "
    fix = f"pip install 'gatewatch[{extra}]'" if extra else "install gatewatch again"
    if isinstance(exc, ModuleNotFoundError):
        return OperatorError(Code.MODEL_UNSUPPORTED, f"{cause}{exc.name} is not installed: {fix}")
    # It may lack a library of the system, or be built for another processor or interpreter.
    return OperatorError(
        Code.MODEL_UNSUPPORTED,
        f"{cause}is installed but does not load; the log has its words. Mend what it lacks, or {fix}",
        reason=f"model_unsupported: {name}: {one_line(str(exc))}",
    )
