"""The whole story in about two minutes: clean traffic, a dirty lens, the drift alarm, clean traffic again.

Starts gateway and monitor in a temporary home as `gateway dev` does, sends rendered frames over TLS, and waits for what
the monitor says, not for time. Writes the report and a picture of a frame with its boxes, prints a timeline, and exits
with 1 if any step did not happen.
"""

import argparse
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

if TYPE_CHECKING:
    from examples.conveyor.traffic import frames
else:
    from traffic import frames

PHASE_SECONDS = 240.0
POLL_SECONDS = 0.5
REPORT_SECONDS = 120.0
START_SECONDS = 90.0
WINDOW_SAMPLES = 100

EXAMPLES = """examples:
  python examples/conveyor/demo.py
  python examples/conveyor/demo.py --out /tmp/demo --json
"""


class StepMissedError(Exception):
    """A step of the story did not happen in its time."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What the monitor exposes: samples in the window, whether the drift alarm is on, the worst feature."""

    window_samples: int
    is_alarm_on: bool
    worst_feature: str
    worst_share: float
    last_tick: float


@dataclass(slots=True)
class Story:
    """The running demo: where things are, how many frames were answered, what happened when."""

    facts: dict[str, Any]
    client: httpx.Client
    console: Console
    started: float
    timeline: list[dict[str, Any]] = field(default_factory=list)
    answered: int = 0
    last_frame: bytes = b""
    last_answer: dict[str, Any] = field(default_factory=dict)

    @property
    def monitor_environment(self) -> dict[str, str]:
        """With these variables the monitor's commands work on the demo's home."""
        return {
            **os.environ,
            "MONITOR_DATABASE_URL": self.facts["database_url"],
            "MONITOR_REPORTS_FOLDER": self.facts["reports_folder"],
            "MONITOR_AUDIT_KEY_FILE": f"{self.facts['home']}/keys/monitor-ledger.key",
        }

    def note(self, what: str) -> None:
        """Add a line to the timeline and show it."""
        seconds = round(time.monotonic() - self.started, 1)
        self.timeline.append({"seconds": seconds, "event": what, "frames": self.answered})
        self.console.print(f"{seconds:6.1f} s  {self.answered:5d} frames  {what}", highlight=False)

    def send(self, frame: bytes) -> None:
        """Send one frame and keep its answer. Raises StepMissedError unless it was answered with 200."""
        response = self.client.post(f"{self.facts['url']}/predict", content=frame)
        if response.status_code != 200:
            raise StepMissedError(
                f"a frame was answered with {response.status_code}: {response.text}"
            )
        self.answered += 1
        self.last_frame, self.last_answer = frame, response.json()

    def watched(self) -> Watched:
        """What the monitor says now."""
        return read_watched(httpx.get(self.facts["monitor_metrics"], timeout=5.0).text)


def read_watched(exposition: str) -> Watched:
    """The numbers that the story waits for, from the monitor's metrics."""
    values: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            # Alarms about the ledgers, and of single clients, stand beside the one that the story waits for.
            if sample.labels.get("slice"):
                continue
            key = next(
                (sample.labels[n] for n in ("feature", "window", "alarm") if n in sample.labels), ""
            )
            values.setdefault(sample.name, {})[key] = sample.value
    thresholds = values.get("monitor_drift_threshold", {})
    shares = [
        (score / thresholds[feature], feature)
        for feature, score in values.get("monitor_drift_score", {}).items()
        if thresholds.get(feature, 0) > 0
    ]
    share, feature = max(shares, default=(0.0, "nothing"))
    return Watched(
        window_samples=int(values.get("monitor_window_samples", {}).get("current", 0)),
        is_alarm_on=values.get("monitor_alarm_active", {}).get("drift") == 1,
        worst_feature=feature,
        worst_share=share,
        last_tick=values.get("monitor_last_tick_timestamp_seconds", {}).get("", 0.0),
    )


def main() -> int:
    """Tell the story; 0 if every step happened."""
    arguments = _parse()
    console = Console(stderr=True, soft_wrap=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="gatewatch-demo-") as home:
            timeline = _play(Path(home), arguments.out, console)
    except StepMissedError as exc:
        console.print(f"the demo failed: {exc}", style="bold red", markup=False)
        return 1
    if arguments.json:
        print(json.dumps({"timeline": timeline, "out": str(arguments.out)}))
    console.print(
        f"every step happened; report and picture are in {arguments.out}", style="bold green"
    )
    return 0


def _play(home: Path, out: Path, console: Console) -> list[dict[str, Any]]:
    started = time.monotonic()
    console.print("starting gateway and monitor in a temporary home")
    with _running(home) as facts, _client(facts) as client:
        story = Story(facts=facts, client=client, console=console, started=started)
        story.note(f"serving on {facts['url']}")
        _until_quiet(story)
        _until_alarm(story, out)
        _write_report(story, out)
        _until_clear(story)
    return story.timeline


def _until_quiet(story: Story) -> None:
    ticks: set[float] = set()
    for watched in _traffic(story, "clean", seed=1):
        if watched.is_alarm_on:
            raise StepMissedError("the alarm rang on clean traffic")
        if watched.window_samples >= WINDOW_SAMPLES:
            ticks.add(watched.last_tick)
        if len(ticks) >= 3:
            story.note(f"clean: the window is full and quiet ({_worst(watched)})")
            return
    raise StepMissedError("the window did not fill with clean traffic")


def _until_alarm(story: Story, out: Path) -> None:
    story.note("the lens gets dirty")
    for watched in _traffic(story, "dirty_lens", seed=2):
        if watched.is_alarm_on:
            story.note(f"DRIFT ALARM ({_worst(watched)}): {_diagnosis(story)}")
            draw_boxes(story.last_frame, story.last_answer, out / "frame.png")
            return
    raise StepMissedError("the alarm did not ring on a dirty lens")


def _diagnosis(story: Story) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "monitor", "status", "--json"],
        env=story.monitor_environment,
        capture_output=True,
        text=True,
        timeout=REPORT_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise StepMissedError(f"no status was told: {done.stderr.strip()[-500:]}")
    (model,) = json.loads(done.stdout)["models"]
    return str(model["alarm"]["diagnosis"])


def _until_clear(story: Story) -> None:
    story.note("the lens is wiped")
    for watched in _traffic(story, "clean", seed=3):
        if not watched.is_alarm_on:
            story.note(f"the alarm has cleared ({_worst(watched)})")
            return
    raise StepMissedError("the alarm did not clear on clean traffic")


def _traffic(story: Story, kind: str, *, seed: int) -> Iterator[Watched]:
    """Send frames of one kind without a break, and yield what the monitor says from time to time."""
    end = time.monotonic() + PHASE_SECONDS
    look_at = 0.0
    for frame in frames(kind, seed):
        story.send(frame)
        now = time.monotonic()
        if now >= look_at:
            yield story.watched()
            look_at = now + POLL_SECONDS
        if now >= end:
            return


def _write_report(story: Story, out: Path) -> None:
    command = [sys.executable, "-m", "monitor", "report", "--json"]
    done = subprocess.run(
        command,
        env=story.monitor_environment,
        capture_output=True,
        text=True,
        timeout=REPORT_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise StepMissedError(f"no report was written: {done.stderr.strip()[-500:]}")
    for name in ("html", "json"):
        source = Path(json.loads(done.stdout)[name])
        shutil.copyfile(source, out / f"report{source.suffix}")
    story.note("report written")


def draw_boxes(frame: bytes, answer: dict[str, Any], file: Path) -> None:
    """Write the frame as a PNG with the answer's boxes, names and confidences."""
    image = cv2.imdecode(np.frombuffer(frame, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise StepMissedError("a frame that the gateway answered does not decode")
    for found in answer["images"][0]["results"]:
        box = found["box"]
        corner, opposite = (int(box["x1"]), int(box["y1"])), (int(box["x2"]), int(box["y2"]))
        cv2.rectangle(image, corner, opposite, (64, 220, 255), 2)
        text = f"{found['name']} {found['confidence']:.2f}"
        place = (corner[0] + 2, max(corner[1] - 5, 12))
        cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.putText(
            image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (64, 220, 255), 1, cv2.LINE_AA
        )
    if not cv2.imwrite(str(file), image):
        raise StepMissedError(f"cannot write {file}")


@contextmanager
def _running(home: Path) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", "gateway", "dev", "--any-ports", "--json", "--home", str(home)]
    with (home / "dev.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        )
        timer = _kill_after(process, START_SECONDS)
        try:
            line = process.stdout.readline() if process.stdout else ""
            timer.cancel()
            if not line:
                raise StepMissedError(f"did not start: {(home / 'dev.log').read_text()[-800:]}")
            yield json.loads(line)
        finally:
            timer.cancel()
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _kill_after(process: "subprocess.Popen[str]", seconds: float) -> threading.Timer:
    timer = threading.Timer(seconds, process.kill)
    timer.daemon = True
    timer.start()
    return timer


@contextmanager
def _client(facts: dict[str, Any]) -> Iterator[httpx.Client]:
    token = Path(facts["token_files"]["client"]).read_text(encoding="ascii")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "image/jpeg"}
    context = ssl.create_default_context(cafile=facts["ca_file"])
    with httpx.Client(verify=context, headers=headers, timeout=30.0) as client:
        yield client


def _worst(watched: Watched) -> str:
    return f"{watched.worst_feature} at {watched.worst_share:.0%} of its threshold"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path("var/demo"), help="folder for report and picture"
    )
    parser.add_argument("--json", action="store_true", help="print the timeline as one JSON line")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
