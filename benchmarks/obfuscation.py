"""What obfuscation costs and changes: output bits, speed, and the names that are left, on this machine.

A COCO yolov8n with its feature output runs beside its obfuscated twin, on photographs and seeded variants of them, in
OpenVINO (f32 and bfloat16) and ONNX Runtime, each on one thread and in turn, so that both see the same machine.
Prints one JSON line; slowdown is the median ratio of the pairs' processor times in the engine that loses most.
Example: python benchmarks/obfuscation.py --quick
"""

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import openvino
from numpy.typing import NDArray
from rich.console import Console

from gateway.sealing.graphs.names import names_in, names_left
from gateway.sealing.graphs.obfuscate import obfuscate
from gateway.sealing.graphs.pooled import add_pooled_output

SIDE_PIXELS = 640
SEED = 20
ROOT = Path(__file__).resolve().parents[1]

Image = NDArray[np.float32]
Network = Callable[[Image], list[NDArray[np.float32]]]


@dataclass(frozen=True, slots=True)
class Plan:
    """How many photographs, and how many seeded variants of each beside itself."""

    photographs: int
    variants: int


@dataclass(frozen=True, slots=True)
class Compared:
    """One engine over all images: bits that differ, and the median of the pairs' ratios of processor time."""

    images: int
    differing_bits: int
    slowdown: float


def main() -> None:
    """Run the benchmark and print its line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="three photographs: a check, not a figure"
    )
    plan = Plan(3, 1) if parser.parse_args().quick else Plan(50, 3)
    data = Path(os.environ.get("GATEWATCH_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not data.is_dir():
        sys.exit(f"no photographs at {data}: set GATEWATCH_TEST_DATA")
    original = add_pooled_output((data / "yolov8n_coco.onnx").read_bytes())
    obfuscated = obfuscate(original, rng=random.Random(SEED))
    compared = {
        name: _compare(open_network(original), open_network(obfuscated), data, plan, name)
        for name, open_network in _engines().items()
    }
    print(json.dumps(_line(compared, len(names_left(names_in(original), obfuscated)))))


def _line(compared: Mapping[str, Compared], left: int) -> dict[str, object]:
    return {
        "images": min(engine.images for engine in compared.values()),
        "differing_bits": sum(engine.differing_bits for engine in compared.values()),
        "slowdown": round(max(engine.slowdown for engine in compared.values()), 4),
        "names_left": left,
        "slowdown_by_engine": {
            name: round(engine.slowdown, 4) for name, engine in compared.items()
        },
    }


def _engines() -> dict[str, Callable[[bytes], Network]]:
    return {
        "openvino_f32": lambda content: _open_openvino(content, "f32"),
        "openvino_bf16": lambda content: _open_openvino(content, "bf16"),
        "onnxruntime": _open_onnxruntime,
    }


def _open_openvino(content: bytes, precision: str) -> Network:
    core = openvino.Core()
    options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1}
    request = core.compile_model(core.read_model(content), "CPU", options).create_infer_request()

    def run(image: Image) -> list[NDArray[np.float32]]:
        return list(request.infer([image], share_inputs=True, share_outputs=True).values())

    return run


def _open_onnxruntime(content: bytes) -> Network:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(image: Image) -> list[NDArray[np.float32]]:
        return list(session.run(None, {name: image}))

    return run


def _compare(original: Network, obfuscated: Network, data: Path, plan: Plan, name: str) -> Compared:
    count = differing = 0
    ratios = []
    with Console(stderr=True).status(name) as status:
        for count, image in enumerate(_images(data, plan), start=1):
            # Who goes first alternates: the second finds the image in the cache.
            order = (original, obfuscated) if count % 2 else (obfuscated, original)
            taken = {network: _timed(network, image) for network in order}
            (before, outputs), (after, others) = taken[original], taken[obfuscated]
            pairs = zip(outputs, others, strict=True)
            differing += sum(_differing_bits(left, right) for left, right in pairs)
            ratios.append(after / before)
            status.update(f"{name}: {count} images")
    return Compared(count, differing, statistics.median(ratios))


def _timed(network: Network, image: Image) -> tuple[float, list[NDArray[np.float32]]]:
    # On one thread this is the wall clock's time without what other processes take.
    start = time.process_time()
    outputs = network(image)
    return time.process_time() - start, outputs


def _differing_bits(left: NDArray[Any], right: NDArray[Any]) -> int:
    if (left.shape, left.dtype) != (right.shape, right.dtype):
        raise RuntimeError(f"outputs of {left.shape} and {right.shape} cannot be compared")
    return int(np.bitwise_count(left.view(np.uint32) ^ right.view(np.uint32)).sum())


def _images(data: Path, plan: Plan) -> Iterator[Image]:
    """The photographs, each followed by its variants: crops, flips and other light, drawn from the seed."""
    rng = np.random.default_rng(SEED)
    for path in sorted((data / "coco50").glob("*.jpg"))[: plan.photographs]:
        photograph = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if photograph is None:
            raise RuntimeError(f"{path} is no photograph")
        yield _as_input(photograph)
        for _ in range(plan.variants):
            yield _as_input(_variant(photograph, rng))


def _variant(photograph: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    height, width = (int(side * rng.uniform(0.5, 0.9)) for side in photograph.shape[:2])
    top = int(rng.integers(0, photograph.shape[0] - height))
    left = int(rng.integers(0, photograph.shape[1] - width))
    cropped = photograph[top : top + height, left : left + width]
    flipped = cropped[:, ::-1] if rng.random() < 0.5 else cropped
    return cv2.convertScaleAbs(np.ascontiguousarray(flipped), alpha=rng.uniform(0.6, 1.4))


def _as_input(picture: NDArray[Any]) -> Image:
    """float32 (1, 3, SIDE_PIXELS, SIDE_PIXELS), RGB, 0..1; stretched, which changes no bit of the comparison."""
    resized = cv2.resize(picture, (SIDE_PIXELS, SIDE_PIXELS))
    planar = resized[:, :, ::-1].transpose(2, 0, 1)[np.newaxis]
    return np.ascontiguousarray(planar, np.float32) / np.float32(255)


if __name__ == "__main__":
    main()
