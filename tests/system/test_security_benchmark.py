"""The benchmark of the rules on suspicious behaviour runs and prints its line; figures are for benchmarks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.system
def test_the_security_benchmark_prints_its_line() -> None:
    """Nothing is found on a benign day, which is no matter of speed."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "security.py"), "--quick"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    figures = json.loads(done.stdout)
    assert 0 == figures.pop("findings")
    assert ["records", "records_per_s", "judged_per_s", "restart_s"] == list(figures)
    assert all(value > 0 for value in figures.values())
