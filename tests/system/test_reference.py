"""The reference that the demo ships is what the gateway measures today, with the model that it ships."""

import json
import subprocess
import sys
from base64 import b64decode
from pathlib import Path

import pytest

from gateway.store.embeddings import unpack_embedding

pytestmark = pytest.mark.system

CONVEYOR = Path(__file__).resolve().parents[2] / "examples" / "conveyor"
FRAMES = 5


def test_the_shipped_reference_is_up_to_date(tmp_path: Path) -> None:
    """The first frames, measured anew, give the shipped numbers; processors differ in the last digits only."""
    out = tmp_path / "reference.jsonl"
    command = [sys.executable, str(CONVEYOR / "reference.py"), "--count", str(FRAMES)]
    subprocess.run([*command, "--out", str(out)], check=True, capture_output=True)
    shipped = (CONVEYOR / "reference.jsonl").read_text(encoding="utf-8").splitlines()[:FRAMES]
    measured = out.read_text(encoding="utf-8").splitlines()
    assert FRAMES == len(measured)
    for expected, actual in zip(map(json.loads, shipped), map(json.loads, measured), strict=True):
        counts = [line["features"].pop("candidate_count") for line in (expected, actual)]
        # A place whose confidence is within the last digits of the threshold counts on one processor only.
        assert abs(counts[0] - counts[1]) <= 2
        assert expected["features"] == pytest.approx(actual["features"], rel=1e-3, abs=1e-3)
        first, second = (
            unpack_embedding(b64decode(line["embedding"])) for line in (expected, actual)
        )
        assert abs(first - second).max() <= abs(first).max() / 50
        assert len(expected["detections"]) == len(actual["detections"])
