"""The ledger's torture and benchmark in their quick forms: nothing is lost, and each prints its line."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[2]


def run(name: str) -> dict[str, Any]:
    """The line of one in its quick form."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / name), "--quick"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr[-3000:]
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def test_kills_power_cuts_and_failing_storage_lose_nothing() -> None:
    """Every start goes on alone, with everything acknowledged; a disk that lies is found out, so losses would show."""
    figures = run("audit_torture.py")
    assert (0, 0, 0) == tuple(figures[f"kills_{name}"] for name in ("lost", "stuck", "bad"))
    assert figures["kills_acknowledged"] > 0
    assert {"ok"} == set(figures["faults"].values())
    assert {"database_locked", "postgresql_stopped"} <= set(figures["faults"])
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler (cc) for power cuts and full disks; the rest passed")
    assert (0, 0, 0) == tuple(figures[f"power_{name}"] for name in ("lost", "stuck", "bad"))
    assert figures["power_acknowledged"] > 0
    assert figures["power_control_found"] > 0
    assert {"disk_full", "read_only", "broken_disk"} <= set(figures["faults"])


def test_the_audit_benchmark_prints_its_line() -> None:
    """Every figure is there and none is zero."""
    figures = run("audit.py")
    assert ["append_per_s", "p50_ms", "p99_ms", "verify_per_s", "proof_ms", "records"] == list(
        figures
    )
    databases = {"sqlite", "postgresql"}
    assert databases == set(figures["append_per_s"]) == set(figures["p50_ms"])
    assert all({"1", "8"} == set(of_one) for of_one in figures["p99_ms"].values())
    assert all(value > 0 for value in (figures["verify_per_s"], figures["proof_ms"]))
