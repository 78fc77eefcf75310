"""The demo is a promise: drift arrives, rings, clears, and leaves something to look at."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

DEMO = Path(__file__).resolve().parents[2] / "examples" / "conveyor" / "demo.py"


@pytest.mark.timeout(600)
def test_the_demo_tells_its_whole_story(tmp_path: Path) -> None:
    """Every step in its order, and a report and a picture that are not empty."""
    done = subprocess.run(
        [sys.executable, str(DEMO), "--out", str(tmp_path), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    events = [step["event"] for step in json.loads(done.stdout)["timeline"]]
    order = ["serving", "clean: the window is full", "the lens gets dirty", "DRIFT ALARM"]
    order += ["report written", "the lens is wiped", "the alarm has cleared"]
    assert len(order) == len(events)
    for expected, event in zip(order, events, strict=True):
        assert event.startswith(expected)
    assert b"\x89PNG" == (tmp_path / "frame.png").read_bytes()[:4]
    assert (tmp_path / "report.html").stat().st_size > 100_000
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
