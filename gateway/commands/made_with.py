"""What decides a detector's numbers beside its weights: libraries, processor, preprocessing. Sealed with each model.

Rules: names and values are short plain text; what is not installed is absent; nothing heavy is imported to find out.
"""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gateway.inference.preprocess import PREPROCESSING

# By the name that is recorded: the distributions that may provide it.
_LIBRARIES = {
    "gatewatch": ("gatewatch",),
    "numpy": ("numpy",),
    "opencv": ("opencv-python-headless", "opencv-python"),
    "openvino": ("openvino",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "torch": ("torch",),
    "ultralytics": ("ultralytics-opencv-headless", "ultralytics"),
    "nncf": ("nncf",),
}
# What engines choose their kernels by, in the words of /proc/cpuinfo.
_PROCESSOR_FEATURES = (
    "avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "bf16", "i8mm", "sve",
)  # fmt: skip
_CPUINFO = Path("/proc/cpuinfo")


def facts_of_machine(*, engine: str, cpuinfo: Path = _CPUINFO) -> dict[str, str]:
    """What is here now, in the form that sealed headers record; engine is the one that runs the model."""
    libraries = {name: _version(names) for name, names in _LIBRARIES.items()}
    return {
        **{name: found for name, found in libraries.items() if found is not None},
        "engine": engine,
        "machine": platform.machine(),
        "processor": " ".join(_processor_features(cpuinfo)) or "unknown",
        "preprocessing": PREPROCESSING,
    }


def _version(distributions: tuple[str, ...]) -> str | None:
    for distribution in distributions:
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return None


def _processor_features(cpuinfo: Path) -> list[str]:
    try:
        lines = cpuinfo.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
    said = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    flags = set(said.partition(":")[2].split())
    return [feature for feature in _PROCESSOR_FEATURES if feature in flags]
