"""Tampering with ledgers in its quick form: every kind is seen and named, and what cannot be seen is not claimed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[2]


def test_every_tamper_is_seen_and_named() -> None:
    """Ten of each kind; good ledgers are called good."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "tamper.py"), "--quick"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr[-3000:]
    figures = json.loads(done.stdout)
    assert (19, {10}) == (len(figures["tampers"]), set(figures["tampers"].values()))
    assert (190, 0, 0) == tuple(figures[name] for name in ("tried", "undetected", "misnamed"))
    assert 0 == figures["false_alarms"]
    assert {"unsigned_rewritten": 0, "put_back_without_witness": 0} == {
        name: counts["seen"] for name, counts in figures["unseen"].items()
    }
