"""The detector in each precision against Ultralytics' own predict: speed, accuracy and cost, in one run.

r_* is decode, preprocess, engine and postprocess in one process with a worker a core; ultralytics is its own predict
with torch on the same photographs. All sides take turns in short rounds, so that all see the same machine; figures are
medians over rounds. Cold start is from the start of `gateway serve` to the first answer over TLS, from a sealed file.
Prints one JSON line. Example: python benchmarks/runner.py --quick
"""

import argparse
import json
import os
import shutil
import ssl
import statistics
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from gateway.commands.opening import open_keks, open_trusted_signers
from gateway.commands.seal_order import SealOrder
from gateway.commands.sealing import seal
from gateway.inference.accuracy import EVALUATION, average_precision
from gateway.inference.decode import ImageLimits
from gateway.inference.engines.opening import open_engine
from gateway.inference.engines.openvino import has_bfloat16
from gateway.inference.labelled import LabelledImage, read_labelled_folder
from gateway.inference.lane_pool import LanePool
from gateway.inference.postprocess import Thresholds
from gateway.models.loading import network_of
from gateway.sealing.files import read_sealed_model
from gateway.sealing.sealed_model import OpenedModel, open_model
from gateway.ultralytics_offline import import_ultralytics

# Benchmarks run by path, which makes their folder the place to import from; type checkers see it from the root.
if TYPE_CHECKING:
    from benchmarks.gateway_process import (
        MODEL_NAME,
        Home,
        data_folder,
        new_home,
        resident_mb,
        running_gateway,
    )
else:
    from gateway_process import (
        MODEL_NAME,
        Home,
        data_folder,
        new_home,
        resident_mb,
        running_gateway,
    )

# bf16 only where the processor has it: a version of that precision is not even sealed elsewhere.
PRECISIONS = ("f32", "bf16", "int8") if has_bfloat16() else ("f32", "int8")
ANSWER_TIMEOUT_SECONDS = 60

Step = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """Seconds a round, rounds of each side, images of the accuracy figures, repetitions of the single figures."""

    round_seconds: float
    rounds: int
    images: int
    repeats: int


@dataclass(frozen=True, slots=True)
class Side:
    """One contestant: what a thread does once, and how many threads it has."""

    step: Step
    threads: int


def main() -> None:
    """Run the benchmark and print its line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="short rounds: a check, not a figure")
    arguments = parser.parse_args()
    plan = Plan(0.3, 1, 4, 1) if arguments.quick else Plan(2.0, 15, 50, 7)
    data = data_folder()
    console = Console(stderr=True)
    with new_home() as home:
        folder = _some_photographs(data / "coco50", home.layout.state / "photographs", plan)
        images = read_labelled_folder(folder)
        photographs = [image.read() for image in images]
        for precision in PRECISIONS:
            _seal(home, data, folder, precision, console)
        figures = _in_process(home, data, images, photographs, plan, console)
        figures |= _opening(home, plan)
        figures |= _serving(home, photographs, plan, console)
    print(json.dumps(figures))


def _some_photographs(folder: Path, copies: Path, plan: Plan) -> Path:
    copies.mkdir()
    for file in sorted(folder.glob("*.jpg"))[: plan.images]:
        shutil.copyfile(file, copies / file.name)
    shutil.copyfile(folder / "instances.json", copies / "instances.json")
    return copies


def _seal(home: Home, data: Path, folder: Path, precision: str, console: Console) -> None:
    order = SealOrder(
        source_file=data / "yolov8n_coco.pt",
        name=MODEL_NAME,
        version=precision,
        signer_file=home.layout.keys / "signer.key",
        precision=precision,
        golden_folder=folder,
        # What is lost is a figure of this benchmark, whatever it is.
        is_loss_accepted=True,
        is_promoted=precision == "f32",
    )
    seal(home.settings, order, console=console)


def _in_process(
    home: Home,
    data: Path,
    images: Sequence[LabelledImage],
    photographs: Sequence[bytes],
    plan: Plan,
    console: Console,
) -> dict[str, Any]:
    workers = len(os.sched_getaffinity(0))
    pools: dict[str, LanePool] = {}
    for precision in PRECISIONS:
        pools[precision] = _pool(_opened(home, precision), "openvino", workers)
    pools["onnxruntime"] = _pool(_opened(home, "f32"), "onnxruntime", workers)
    sides = {name: Side(_detecting(pool, photographs), workers) for name, pool in pools.items()}
    sides["ultralytics"] = Side(_predicting(data, images), 1)
    rates = _rates(sides, plan, console)
    latencies = _latencies(sides, plan, console)
    figures: dict[str, Any] = {f"r_{name}": round(rates[name], 2) for name in PRECISIONS}
    figures |= {"r_onnxruntime": round(rates["onnxruntime"], 2)}
    figures |= {"ultralytics": round(rates["ultralytics"], 2)}
    figures |= {
        f"{name}_over_ultralytics": round(rates[f"{name}/ultralytics"], 2) for name in PRECISIONS
    }
    figures["p50_ms"] = {name: round(milliseconds, 1) for name, milliseconds in latencies.items()}
    figures["map50_95"] = {name: round(_accuracy(pools[name], images), 4) for name in PRECISIONS}
    return figures


def _pool(opened: OpenedModel, engine: str, workers: int) -> LanePool:
    return LanePool(
        open_engine(engine, network_of(opened), workers=workers),
        workers=workers,
        limits=ImageLimits(),
    )


def _opened(home: Home, version: str) -> OpenedModel:
    return _open(home, _read(home, version), version)


def _read(home: Home, version: str) -> bytes:
    return read_sealed_model(
        home.settings.models_folder, name=MODEL_NAME, version=version, max_bytes=1 << 30
    )


def _open(home: Home, sealed: bytes, version: str) -> OpenedModel:
    return open_model(
        sealed,
        name=MODEL_NAME,
        version=version,
        keks=open_keks(home.settings),
        trusted_signers=open_trusted_signers(home.settings),
    )


def _detecting(pool: LanePool, photographs: Sequence[bytes]) -> Step:
    thresholds = Thresholds()

    def step(number: int) -> None:
        pool.detect(photographs[number % len(photographs)], thresholds)

    return step


def _predicting(data: Path, images: Sequence[LabelledImage]) -> Step:
    yolo = import_ultralytics().YOLO(str(data / "yolov8n_coco.pt"))
    paths = [str(image.path) for image in images]

    def step(number: int) -> None:
        yolo.predict(paths[number % len(paths)], imgsz=640, verbose=False)

    return step


def _rates(sides: dict[str, Side], plan: Plan, console: Console) -> dict[str, float]:
    """Images per second of each side, medians over rounds; `NAME/ultralytics` is the median of each round's ratio."""
    for side in sides.values():
        _round(side, 0.2)
    rounds = []
    for number in range(plan.rounds):
        with console.status(f"round {number + 1} of {plan.rounds}"):
            rounds.append({name: _round(side, plan.round_seconds) for name, side in sides.items()})
    medians = {name: statistics.median(one[name] for one in rounds) for name in sides}
    ratios = {
        f"{name}/ultralytics": statistics.median(one[name] / one["ultralytics"] for one in rounds)
        for name in sides
    }
    return medians | ratios


def _round(side: Side, seconds: float) -> float:
    counts = [0] * side.threads
    start = time.perf_counter()
    end = start + seconds

    def run(thread: int) -> None:
        while time.perf_counter() < end:
            # Each thread goes through the photographs from a place of its own.
            side.step(counts[thread] * side.threads + thread)
            counts[thread] += 1

    running = [threading.Thread(target=run, args=(thread,)) for thread in range(side.threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return sum(counts) / (time.perf_counter() - start)


def _latencies(sides: dict[str, Side], plan: Plan, console: Console) -> dict[str, float]:
    """Milliseconds of one image at a time on an otherwise idle machine, medians, the sides taking turns."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    with console.status("latencies"):
        for number in range(plan.images):
            for name, side in sides.items():
                start = time.perf_counter()
                side.step(number)
                taken[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(values) for name, values in taken.items()}


def _accuracy(pool: LanePool, images: Sequence[LabelledImage]) -> float:
    known = [image for image in images if image.labels is not None]
    results = pool.map(lambda image: pool.detect(image.read(), EVALUATION), known)
    return average_precision(
        (result.detections, image.labels.in_pixels(result.image_shape))
        for image, result in zip(known, results, strict=True)
        if image.labels is not None
    ).map50_95


def _opening(home: Home, plan: Plan) -> dict[str, Any]:
    """Milliseconds from the bytes of the sealed f32 file to the checked network."""
    sealed = _read(home, "f32")
    taken = []
    for _ in range(plan.repeats * 3):
        start = time.perf_counter()
        opened = _open(home, sealed, "f32")
        taken.append((time.perf_counter() - start) * 1e3)
        opened.close()
    return {
        "open_ms": round(statistics.median(taken), 1),
        "sealed_mib": round(len(sealed) / 2**20, 2),
    }


def _serving(
    home: Home, photographs: Sequence[bytes], plan: Plan, console: Console
) -> dict[str, Any]:
    starts, resident = [], 0.0
    for number in range(plan.repeats):
        with console.status(f"cold start {number + 1} of {plan.repeats}"), ExitStack() as stack:
            start = time.perf_counter()
            served = stack.enter_context(running_gateway(home))
            ask = stack.enter_context(_asking(home, served.port))
            ask(photographs[0])
            starts.append(time.perf_counter() - start)
            for photograph in photographs:
                ask(photograph)
            resident = max(resident, resident_mb(served.process_id))
    return {"cold_start_s": round(statistics.median(starts), 3), "rss_mb": round(resident, 1)}


@contextmanager
def _asking(home: Home, port: int) -> Iterator[Callable[[bytes], None]]:
    context = ssl.create_default_context(cafile=str(home.layout.ca_file))
    token = home.token("client")

    def ask(photograph: bytes) -> None:
        request = urllib.request.Request(
            f"https://localhost:{port}/predict",
            data=photograph,
            headers={"Authorization": f"Bearer {token}", "Content-Type": "image/jpeg"},
        )
        with urllib.request.urlopen(
            request, context=context, timeout=ANSWER_TIMEOUT_SECONDS
        ) as response:
            response.read()

    yield ask


if __name__ == "__main__":
    main()
