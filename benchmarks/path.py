"""Images per second through the whole secured path against the bare engine, on this machine, in one run.

r is decode, placing, inference and suppression in a plain loop over as many threads as the gateway has workers. The
secured path is the real process over TLS 1.3 on loopback with token, audit and sampling of every call, driven by a
separate process over 8 keep-alive connections. The two alternate in short rounds, so that both see the same machine.
Prints one JSON line. Example: python benchmarks/path.py --quick
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import re
import ssl
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop
from rich.console import Console

from gateway.commands.seal_order import SealOrder
from gateway.commands.sealing import seal
from gateway.inference.decode import ImageLimits
from gateway.inference.detect import detect_one
from gateway.inference.engine import network_of
from gateway.inference.engines.openvino import OpenVinoEngine, inspect_onnx
from gateway.inference.postprocess import Thresholds
from gateway.sealing.export import export_onnx
from gateway.ultralytics_offline import import_ultralytics

# Benchmarks run by path, which makes their folder the place to import from; type checkers see it from the root.
if TYPE_CHECKING:
    from benchmarks.gateway_process import (
        MODEL_NAME,
        data_folder,
        new_home,
        resident_mb,
        running_gateway,
    )
else:
    from gateway_process import (
        MODEL_NAME,
        data_folder,
        new_home,
        resident_mb,
        running_gateway,
    )

CONNECTIONS = 8
SMALL_SIDE_PIXELS = 192

Counted = tuple[int, float]


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often; seconds a round, rounds of each side."""

    round_seconds: float
    rounds: int


@dataclass(frozen=True, slots=True)
class Measured:
    """Images per second of both sides, medians over rounds; ratio is the median of each pair's."""

    r: float
    secured: float
    ratio: float
    rss_mb: float


def main() -> None:
    """Run the benchmark and print its line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="two short rounds: a check, not a figure"
    )
    arguments = parser.parse_args()
    plan = Plan(1.0, 2) if arguments.quick else Plan(2.0, 20)
    data = data_folder()
    photograph = min((data / "coco50").glob("*.jpg")).read_bytes()
    console = Console(stderr=True)
    with console.status("exporting the small model"):
        side = SMALL_SIDE_PIXELS
        small = export_onnx(data / "yolov8n_coco.pt", image_size=(side, side)).onnx
    large = _compare((data / "yolov8n_coco.onnx").read_bytes(), photograph, plan, console)
    little = _compare(small, photograph, plan, console)
    with console.status("Ultralytics' own predict"):
        ultralytics = _ultralytics_images_per_second(data, plan)
    print(
        json.dumps(
            {
                "r_images_per_s": round(large.r, 2),
                "secured_images_per_s": round(large.secured, 2),
                "ratio": round(large.ratio, 3),
                "small_r_images_per_s": round(little.r, 2),
                "small_secured_images_per_s": round(little.secured, 2),
                "small_ratio": round(little.ratio, 3),
                "ultralytics_predict_images_per_s": round(ultralytics, 2),
                "rss_mb": round(large.rss_mb, 1),
            }
        )
    )


def _compare(onnx: bytes, photograph: bytes, plan: Plan, console: Console) -> Measured:
    workers = int(os.environ.get("GATEWAY_WORKERS") or len(os.sched_getaffinity(0)))
    with (
        _running_gateway(onnx) as (port, ca_file, token, process_id),
        _worker(_plain_loop, onnx, photograph, workers) as plain,
        _worker(_client, port, str(ca_file), token, photograph) as client,
    ):
        _ask(plain, 0.5)
        _ask(client, 0.5)
        pairs = []
        for number in range(plan.rounds):
            with console.status(f"round {number + 1} of {plan.rounds}"):
                pairs.append((_ask(plain, plan.round_seconds), _ask(client, plan.round_seconds)))
        rss_mb = resident_mb(process_id)
    return Measured(
        r=statistics.median(r for r, _ in pairs),
        secured=statistics.median(secured for _, secured in pairs),
        ratio=statistics.median(secured / r for r, secured in pairs),
        rss_mb=rss_mb,
    )


@contextmanager
def _running_gateway(onnx: bytes) -> Iterator[tuple[int, Path, str, int]]:
    with new_home() as home:
        source = home.layout.state / "source.onnx"
        source.write_bytes(onnx)
        order = SealOrder(
            source_file=source,
            name=MODEL_NAME,
            version="1",
            signer_file=home.layout.keys / "signer.key",
            is_parity_skipped=True,
            is_promoted=True,
        )
        seal(home.settings, order, console=Console(quiet=True))
        with running_gateway(home) as served:
            yield served.port, home.layout.ca_file, home.token("client"), served.process_id


@contextmanager
def _worker(target: Callable[..., None], *arguments: Any) -> Iterator[Connection]:
    """A process of its own that answers each number of seconds with what it counted in them."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join(30)


def _ask(worker: Connection, seconds: float) -> float:
    worker.send(seconds)
    count, elapsed = worker.recv()
    return float(count) / float(elapsed)


def _serve_rounds(connection: Connection, threads: int, step: Callable[[int], None]) -> None:
    """Answer rounds: call step(thread) in every thread until the time is over, and count."""
    try:
        while True:
            connection.send(_round(float(connection.recv()), threads, step))
    except EOFError:
        return


def _round(seconds: float, threads: int, step: Callable[[int], None]) -> Counted:
    counts = [0] * threads
    start = time.perf_counter()
    end = start + seconds

    def run(number: int) -> None:
        while time.perf_counter() < end:
            step(number)
            counts[number] += 1

    running = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return sum(counts), time.perf_counter() - start


def _plain_loop(connection: Connection, onnx: bytes, photograph: bytes, workers: int) -> None:
    engine = OpenVinoEngine(network_of(onnx, inspect_onnx(onnx), precision="f32"), workers=workers)
    lanes = [engine.open_lane(engine.input_sizes[0]) for _ in range(workers)]
    limits, thresholds = ImageLimits(), Thresholds()

    def step(number: int) -> None:
        detect_one(lanes[number], photograph, thresholds, limits=limits)

    _serve_rounds(connection, workers, step)


def _client(connection: Connection, port: int, ca_file: str, token: str, photograph: bytes) -> None:
    head = (
        f"POST /predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: image/jpeg\r\nContent-Length: {len(photograph)}\r\n\r\n"
    )
    request = head.encode("ascii") + photograph
    context = ssl.create_default_context(cafile=ca_file)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_drive(connection, port, context, request))


async def _drive(
    connection: Connection, port: int, context: ssl.SSLContext, request: bytes
) -> None:
    """Keep the connections open from round to round, and answer each round with what was answered in it."""
    streams = [
        await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        for _ in range(CONNECTIONS)
    ]
    try:
        while True:
            seconds = float(await asyncio.to_thread(connection.recv))
            start = time.perf_counter()
            end = start + seconds
            counts = await asyncio.gather(
                *(_repeat(reader, writer, request, end) for reader, writer in streams)
            )
            connection.send((sum(counts), time.perf_counter() - start))
    except EOFError:
        return


async def _repeat(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, end: float
) -> int:
    count = 0
    while time.perf_counter() < end:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        match = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        body = await reader.readexactly(int(match[1]) if match else 0)
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the gateway answered {body[:200]!r}")
        count += 1
    return count


def _ultralytics_images_per_second(data: Path, plan: Plan) -> float:
    yolo = import_ultralytics().YOLO(str(data / "yolov8n_coco.pt"))
    photograph = str(min((data / "coco50").glob("*.jpg")))

    def step(_number: int) -> None:
        yolo.predict(photograph, imgsz=640, verbose=False)

    step(0)
    count, elapsed = _round(plan.round_seconds, 1, step)
    return count / elapsed


if __name__ == "__main__":
    main()
