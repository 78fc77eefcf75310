"""What slow and hostile clients get from a real gateway with its default limits, and what a good client notices.

First every way to hold a connection without using it, with the seconds until the gateway closed it. Then 500 such
connections from other addresses, opened again whenever they are closed, while a good client calls /livez and /predict
over TLS; rounds with and without them alternate, so that both see the same machine. Prints one JSON line; exits 1 if a
shape was held for more than 10 s. Example: python benchmarks/edge.py --quick
"""

import argparse
import json
import multiprocessing
import re
import socket
import ssl
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from rich.console import Console

# Benchmarks run by path, which makes their folder the place to import from; type checkers see it from the root.
if TYPE_CHECKING:
    from benchmarks.gateway_process import Home, Served, new_home, resident_mb, running_gateway
    from benchmarks.hostile import Siege, Target, besieging, seconds_until_closed
    from benchmarks.promotion import CONVEYOR, VERSIONS, seal_version
else:
    from gateway_process import Home, Served, new_home, resident_mb, running_gateway
    from hostile import Siege, Target, besieging, seconds_until_closed
    from promotion import CONVEYOR, VERSIONS, seal_version

HOSTILE_CONNECTIONS = 500
MAX_HELD_SECONDS = 10.0
GIVE_UP_SECONDS = 20.0
CLIENT_TIMEOUT_SECONDS = 60.0

Latencies = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Plan:
    """How many hostile connections, and how long and how often the good client asks; seconds a round."""

    hostile_connections: int
    round_seconds: float
    rounds: int


def main() -> None:
    """Run it and print its line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a check, not a figure")
    parser.add_argument(
        "--rounds", type=int, default=8, help="of 10 s, longer than any connection is held"
    )
    arguments = parser.parse_args()
    plan = (
        Plan(50, 1.0, 1) if arguments.quick else Plan(HOSTILE_CONNECTIONS, 10.0, arguments.rounds)
    )
    with new_home() as home:
        seal_version(home, (CONVEYOR / "conveyor.onnx").read_bytes(), VERSIONS[0])
        with running_gateway(home) as served:
            figures = _measure(home, served, plan)
    print(json.dumps(figures))
    shapes = figures["shapes"]
    sys.exit(isinstance(shapes, dict) and max(shapes.values()) > MAX_HELD_SECONDS)


def _measure(home: Home, served: Served, plan: Plan) -> dict[str, object]:
    console = Console(stderr=True)
    authorization = f"Authorization: Bearer {home.token('client')}\r\n".encode("ascii")
    target = Target(served.port, str(home.layout.ca_file), authorization)
    with console.status("every shape, once"):
        shapes = seconds_until_closed(target, give_up_seconds=GIVE_UP_SECONDS)
    with besieging(target) as siege, _good_client(target) as client:
        _ask(client, plan.round_seconds)
        quiet_mb = resident_mb(served.process_id)
        quiet, attacked, opened = _rounds(siege, client, plan, console)
    return {
        "shapes": shapes,
        "hostile_connections": plan.hostile_connections,
        "hostile_opened_per_s": round(opened / (plan.rounds * plan.round_seconds), 1),
        **_figures("", "/predict", quiet, attacked),
        **_figures("livez_", "/livez", quiet, attacked),
        "rss_mb_quiet": round(quiet_mb, 1),
        "rss_mb_attacked": round(resident_mb(served.process_id), 1),
    }


def _rounds(
    siege: Siege, client: Connection, plan: Plan, console: Console
) -> tuple[list[Latencies], list[Latencies], int]:
    quiet, attacked, opened = [], [], 0
    for number in range(plan.rounds):
        with console.status(f"round {number + 1} of {plan.rounds}"):
            quiet.append(_ask(client, plan.round_seconds))
            siege.keep(plan.hostile_connections)
            attacked.append(_ask(client, plan.round_seconds))
            opened += siege.keep(plan.hostile_connections)
            siege.keep(0)
    return quiet, attacked, opened


def _figures(
    prefix: str, path: str, quiet: list[Latencies], attacked: list[Latencies]
) -> dict[str, float]:
    """Medians over rounds of each round's percentile; ratio is the median of each pair's."""
    found: dict[str, float] = {}
    for percent in (50, 99):
        calm = [_percentile(each[path], percent) for each in quiet]
        hard = [_percentile(each[path], percent) for each in attacked]
        found[f"{prefix}p{percent}_ms_quiet"] = round(statistics.median(calm) * 1e3, 2)
        found[f"{prefix}p{percent}_ms_attacked"] = round(statistics.median(hard) * 1e3, 2)
        ratios = [one / other for one, other in zip(hard, calm, strict=True)]
        name = "ratio" if percent == 99 else "p50_ratio"
        found[prefix + name] = round(statistics.median(ratios), 3)
    return found


def _percentile(seconds: list[float], percent: int) -> float:
    return statistics.quantiles(seconds, n=100)[percent - 1]


@contextmanager
def _good_client(target: Target) -> Iterator[Connection]:
    """A process of its own that answers each number of seconds with how long its calls took in them."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    image = CONVEYOR / "frame.jpg"
    process = context.Process(target=_call_rounds, args=(theirs, target, image), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join(30)


def _ask(client: Connection, seconds: float) -> Latencies:
    client.send(seconds)
    answer: Latencies = client.recv()
    return answer


def _call_rounds(control: Connection, target: Target, image: Path) -> None:
    context = ssl.create_default_context(cafile=target.ca_file)
    body = image.read_bytes()
    requests = {
        "/livez": b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "/predict": b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
        + target.authorization
        + b"Content-Length: %d\r\n\r\n" % len(body)
        + body,
    }
    try:
        while True:
            control.send(_one_round(context, target.port, requests, float(control.recv())))
    except EOFError:
        return


def _one_round(
    context: ssl.SSLContext, port: int, requests: dict[str, bytes], seconds: float
) -> Latencies:
    took: Latencies = {path: [] for path in requests}
    raw = socket.create_connection(("127.0.0.1", port), CLIENT_TIMEOUT_SECONDS)
    with context.wrap_socket(raw, server_hostname="localhost") as connection:
        answers = connection.makefile("rb")
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for path, request in requests.items():
                started = time.perf_counter()
                connection.sendall(request)
                _read_answer(answers)
                took[path].append(time.perf_counter() - started)
    return took


def _read_answer(answers: BinaryIO) -> None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = answers.readline()
        if not line:
            sys.exit("the gateway closed a good client's connection")
        head += line
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    answers.read(int(length[1]) if length else 0)
    if not head.startswith(b"HTTP/1.1 200"):
        sys.exit(f"the gateway answered a good client {head[:200]!r}")


if __name__ == "__main__":
    main()
