"""The benchmark of exports runs and prints its line; figures are for benchmarks, so none is checked here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.system
def test_the_export_benchmark_prints_its_line() -> None:
    """For both formats; every figure is there and none is zero."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "export.py"), "--quick"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    figures = json.loads(done.stdout)
    assert 20_000 == figures.pop("records")
    assert ["ocsf", "jsonl"] == list(figures)
    for of_format in figures.values():
        assert ["records_per_s", "peak_rss_mb", "peak_rss_mb_at_tenth"] == list(of_format)
        assert all(value > 0 for value in of_format.values())
