"""The benchmark of the drift alarm runs and prints its line; figures are for benchmarks, so none is checked here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHMARK = ROOT / "benchmarks" / "drift.py"
DATA = Path(os.environ.get("GATEWATCH_TEST_DATA", ROOT.parent / "shared" / "data"))


@pytest.mark.system
@pytest.mark.needs_seal
def test_the_drift_benchmark_prints_its_line() -> None:
    """Its promises hold in the little that the quick form tries, which is what its exit code says."""
    if not (DATA / "coco50").is_dir():
        pytest.skip(f"no photographs at {DATA}: set GATEWATCH_TEST_DATA")
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--quick", "--data", str(DATA)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    figures = json.loads(done.stdout)
    assert ["200"] == list(figures["false_alarm_10k"])
    assert ["0", "1000"] == list(figures["power_sev3_30"]["200"])
    assert ["gatewatch", "ks_bonferroni", "others"] == list(figures["table"])
    assert "by_reference" in figures["table"]["others"]["evidently"]
    assert ["1500"] == list(figures["tick_ms"])
    assert ["200"] == list(figures["conveyor"]["false_alarm_10k"])
    assert ["0.1"] == list(figures["curve"])
    assert all(figures["odd_inputs"].values())


@pytest.mark.system
def test_without_photographs_it_says_so(tmp_path: Path) -> None:
    """And exits 2, before anything is loaded that takes time."""
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--quick", "--data", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert 2 == done.returncode
    assert "--data" in done.stderr
