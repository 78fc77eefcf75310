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
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console

from gateway.commands.db import upgrade
from gateway.commands.keys import create_all
from gateway.commands.opening import utc_now
from gateway.commands.seal_order import SealOrder
from gateway.commands.sealing import seal
from gateway.commands.token import issue
from gateway.dev.certificates import create_certificates
from gateway.dev.home import Layout, gateway_overrides, layout_of
from gateway.dev.plan import free_port
from gateway.inference.decode import ImageLimits
from gateway.inference.detect import detect_one
from gateway.inference.engine import network_of
from gateway.inference.engines.openvino import OpenVinoEngine, inspect_onnx
from gateway.inference.postprocess import Thresholds
from gateway.sealing.export import export_onnx
from gateway.settings import GatewaySettings, read_settings
from gateway.ultralytics_offline import import_ultralytics

CONNECTIONS = 8
SMALL_SIDE_PIXELS = 192
MODEL_NAME = "bench"
ROOT = Path(__file__).resolve().parents[1]

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
    data = Path(os.environ.get("GATEWATCH_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not data.is_dir():
        sys.exit(f"no photographs at {data}: set GATEWATCH_TEST_DATA")
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
        rss_mb = _resident_mb(process_id)
    return Measured(
        r=statistics.median(r for r, _ in pairs),
        secured=statistics.median(secured for _, secured in pairs),
        ratio=statistics.median(secured / r for r, secured in pairs),
        rss_mb=rss_mb,
    )


@contextmanager
def _running_gateway(onnx: bytes) -> Iterator[tuple[int, Path, str, int]]:
    with tempfile.TemporaryDirectory(prefix="gatewatch-bench-") as folder:
        layout = layout_of(Path(folder))
        settings = read_settings(
            {},
            **gateway_overrides(layout),
            model_name=MODEL_NAME,
            port=0,
            metrics_port=free_port(),
        )
        token = _prepare(layout, settings, onnx)
        environment = {
            settings.variable_name(name): str(getattr(settings, name))
            for name in (*gateway_overrides(layout), "model_name", "port", "metrics_port")
        }
        reader, writer = os.pipe()
        command = [sys.executable, "-m", "gateway", "serve", "--ready-descriptor", str(writer)]
        with (Path(folder) / "gateway.log").open("wb") as log:
            process = subprocess.Popen(
                command, env={**os.environ, **environment}, pass_fds=(writer,), stderr=log
            )
        os.close(writer)
        try:
            with os.fdopen(reader) as ready:
                yield int(ready.readline()), layout.ca_file, token, process.pid
        finally:
            process.terminate()
            process.wait(30)


def _prepare(layout: Layout, settings: GatewaySettings, onnx: bytes) -> str:
    create_certificates(layout.certificates, now=utc_now())
    create_all(layout.keys)
    upgrade(settings)
    source = layout.state / "source.onnx"
    source.write_bytes(onnx)
    order = SealOrder(
        source_file=source,
        name=MODEL_NAME,
        version="1",
        signer_file=layout.keys / "signer.key",
        image_size_pixels=None,
        is_promoted=True,
    )
    seal(settings, order, console=Console(quiet=True))
    return issue(
        settings,
        roles=["client"],
        subject="bench",
        lifetime_seconds=3600,
        key_file=layout.keys / "token.key",
    )


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


def _resident_mb(process_id: int) -> float:
    status = Path(f"/proc/{process_id}/status").read_text(encoding="ascii")
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return int(kilobytes) / 1024


if __name__ == "__main__":
    main()
