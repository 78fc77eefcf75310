"""The corpus of hostile images against a running gateway: answered as defined, and nothing of them stays."""

import statistics
import time
from pathlib import Path

import pytest

from tests.gateway.inference.hostile_images import HOSTILE
from tests.system.conftest import Running

pytestmark = pytest.mark.system

MAX_GROWTH_MB = 64
# Each passes the same door as a frame, so frames of the same machine at the same time are what they are held against.
# Measured: the slowest takes six times as long as a frame of the demo.
MAX_TIMES_A_FRAME = 60


def resident_mb(process_id: int) -> float:
    """What a process holds in memory, MiB."""
    status = Path(f"/proc/{process_id}/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if "VmRSS" in line)) / 1024


def test_hostile_images_are_answered_and_leave_nothing(running: Running, frame: bytes) -> None:
    """Every image gets its status and code, none a server error; memory and the next good frame are as before."""
    gateway = running.child("gateway")
    bodies = {name: case.make() for name, case in HOSTILE.items()}
    seconds: dict[str, float] = {}
    answers: dict[str, tuple[int, str | None]] = {}
    with running.client() as client:
        frames = []
        for _ in range(9):
            started = time.perf_counter()
            assert 200 == client.post("/predict", content=frame).status_code
            frames.append(time.perf_counter() - started)
        before_mb = resident_mb(gateway)
        for name, body in bodies.items():
            started = time.perf_counter()
            response = client.post("/predict", content=body)
            seconds[name] = time.perf_counter() - started
            code = None if response.status_code == 200 else response.json()["code"]
            answers[name] = (response.status_code, code)
        assert 200 == client.post("/predict", content=frame).status_code
    growth_mb = resident_mb(gateway) - before_mb
    assert {name: (case.status, case.code) for name, case in HOSTILE.items()} == answers
    assert MAX_GROWTH_MB > growth_mb
    slowest = max(seconds, key=seconds.__getitem__)
    assert MAX_TIMES_A_FRAME * statistics.median(frames) > seconds[slowest], slowest


def test_a_refused_image_is_on_record_with_its_reason(running: Running) -> None:
    """Which bomb it was is for whoever reads the ledger, not for who sent it."""
    with running.client() as client:
        response = client.post("/predict", content=HOSTILE["webp of 65536 code groups"].make())
    assert 415 == response.status_code
    assert "groups" not in response.text
    last = running.records_of(response.headers["x-request-id"])[-1]
    assert ("refused", "image_unsupported: groups") == (last["outcome"], last["reason"])
