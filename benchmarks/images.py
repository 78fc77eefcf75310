"""Hostile images against a live gateway: what each is answered, how long that takes, and what memory it leaves behind.

The corpus of the tests is posted over TLS 1.3 on loopback, one image after the other, to a real gateway process with
token, audit and sampling; then large honest images, which may take longer. Times are the median of the rounds, memory
is what the process holds a second after the last answer against before the first. Prints one JSON line; exits 1 if an
answer is not the one that the corpus defines. Example: python benchmarks/images.py --quick
"""

import argparse
import json
import ssl
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from tests.gateway.inference.hostile_images import HONEST, HOSTILE, TAKEN, Case

# Benchmarks run by path, which makes their folder the place to import from; type checkers see it from the root.
if TYPE_CHECKING:
    from benchmarks.gateway_process import Home, Served, new_home, resident_mb, running_gateway
    from benchmarks.promotion import CONVEYOR, VERSIONS, seal_version
else:
    from gateway_process import Home, Served, new_home, resident_mb, running_gateway
    from promotion import CONVEYOR, VERSIONS, seal_version

SETTLE_SECONDS = 1.0
WARM_UP_FRAMES = 20


@dataclass(slots=True)
class Posted:
    """What became of the images: seconds of each round by name, of processors too; answers not as defined."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    cpu_seconds: dict[str, list[float]] = field(default_factory=dict)
    answered: int = 0
    server_errors: int = 0
    wrong: list[str] = field(default_factory=list)
    rss_growth_mb: float = 0.0
    peak_growth_mb: float | None = None


def slowest(seconds: Mapping[str, list[float]]) -> tuple[str, float]:
    """Name and milliseconds of the image that took longest, by the medians of the rounds."""
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    name = max(medians, key=medians.__getitem__)
    return name, round(medians[name] * 1e3, 1)


def main() -> None:
    """Run it and print its line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one round: a check, not a figure")
    parser.add_argument("--verbose", action="store_true", help="each image's time on stderr")
    arguments = parser.parse_args()
    rounds = 1 if arguments.quick else 5
    honest = {name: Case(make, *TAKEN) for name, make in HONEST.items()}
    with new_home() as home:
        seal_version(home, (CONVEYOR / "conveyor.onnx").read_bytes(), VERSIONS[0])
        with running_gateway(home) as served, _client(home, served) as client:
            frame = (CONVEYOR / "frame.jpg").read_bytes()
            for _ in range(WARM_UP_FRAMES):
                client.post("/predict", content=frame).raise_for_status()
            hostile = post_all(client, served, HOSTILE, rounds)
            large = post_all(client, served, honest, min(rounds, 2))
    if arguments.verbose:
        _print_times(hostile, large)
    print(json.dumps(figures(hostile, large)))
    sys.exit(1 if hostile.wrong or large.wrong else 0)


def post_all(
    client: httpx.Client, served: Served, cases: Mapping[str, Case], rounds: int
) -> Posted:
    """Post each image in each round, one at a time."""
    bodies = {name: case.make() for name, case in cases.items()}
    posted = Posted()
    before = resident_mb(served.process_id)
    has_peak = _reset_peak(served.process_id)
    for _ in range(rounds):
        for name, case in cases.items():
            started, used = time.perf_counter(), cpu_seconds(served.process_id)
            answer = client.post("/predict", content=bodies[name])
            posted.seconds.setdefault(name, []).append(time.perf_counter() - started)
            used = cpu_seconds(served.process_id) - used
            posted.cpu_seconds.setdefault(name, []).append(used)
            _note(posted, name, case, answer)
    if has_peak:
        posted.peak_growth_mb = round(_peak_mb(served.process_id) - before, 1)
    time.sleep(SETTLE_SECONDS)
    posted.rss_growth_mb = resident_mb(served.process_id) - before
    return posted


def figures(hostile: Posted, large: Posted) -> dict[str, Any]:
    """The line."""
    slowest_name, slowest_ms = slowest(hostile.seconds)
    return {
        "images": len(hostile.seconds),
        "answered": hostile.answered,
        "server_errors": hostile.server_errors,
        "slowest_ms": slowest_ms,
        "slowest_name": slowest_name,
        "slowest_cpu_ms": slowest(hostile.cpu_seconds)[1],
        "rss_growth_mb": round(hostile.rss_growth_mb, 1),
        "rss_peak_growth_mb": hostile.peak_growth_mb,
        "honest_images": len(large.seconds),
        "honest_slowest_ms": slowest(large.seconds)[1],
        "honest_slowest_cpu_ms": slowest(large.cpu_seconds)[1],
        "honest_rss_growth_mb": round(large.rss_growth_mb, 1),
        "honest_rss_peak_growth_mb": large.peak_growth_mb,
        "wrong": [*hostile.wrong, *large.wrong][:5],
    }


def _note(posted: Posted, name: str, case: Case, answer: httpx.Response) -> None:
    posted.answered += 1
    posted.server_errors += answer.status_code >= 500
    code = None if answer.status_code == 200 else answer.json()["code"]
    if (answer.status_code, code) != (case.status, case.code):
        posted.wrong.append(f"{name}: {answer.status_code} {code}")


def _print_times(*sides: Posted) -> None:
    for posted in sides:
        for name, seconds in posted.seconds.items():
            times = [statistics.median(seconds), statistics.median(posted.cpu_seconds[name])]
            print(
                "{:8.1f} ms {:8.1f} ms cpu".format(*(1e3 * t for t in times)), name, file=sys.stderr
            )


def cpu_seconds(process_id: int) -> float:
    """Processor time of all threads that a process has, seconds: what a busy machine makes of it tells little."""
    total = 0
    for thread in Path(f"/proc/{process_id}/task").iterdir():
        try:
            total += int((thread / "schedstat").read_text(encoding="ascii").split()[0])
        except FileNotFoundError:
            continue  # it ended meanwhile
    return total / 1e9


def _reset_peak(process_id: int) -> bool:
    # 5 sets the peak of the resident set to what it is now (proc(5)); of this process only root may.
    try:
        Path(f"/proc/{process_id}/clear_refs").write_text("5", encoding="ascii")
    except PermissionError:
        return False
    return True


def _peak_mb(process_id: int) -> float:
    status = Path(f"/proc/{process_id}/status").read_text(encoding="ascii")
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kilobytes) / 1024


def _client(home: Home, served: Served) -> httpx.Client:
    return httpx.Client(
        base_url=f"https://127.0.0.1:{served.port}",
        verify=ssl.create_default_context(cafile=str(home.layout.ca_file)),
        headers={"Authorization": f"Bearer {home.token('client')}"},
        timeout=60.0,
    )


if __name__ == "__main__":
    main()
