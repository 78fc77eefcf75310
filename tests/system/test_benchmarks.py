"""The benchmarks run and print their line; figures are for benchmarks, so none is checked here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.system, pytest.mark.needs_seal]

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.usefixtures("ultralytics")
def test_the_path_benchmark_prints_its_line(test_data: Path) -> None:
    """Every figure is there and none is zero."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "path.py"), "--quick"],
        env={**os.environ, "GATEWATCH_TEST_DATA": str(test_data)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    figures = json.loads(done.stdout)
    sides = ["r_images_per_s", "secured_images_per_s", "ratio"]
    expected = [*sides, *(f"small_{name}" for name in sides)]
    assert [*expected, "ultralytics_predict_images_per_s", "rss_mb"] == list(figures)
    assert all(value > 0 for value in figures.values())
