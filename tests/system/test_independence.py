"""Either process can die without the other; what was there before is there after."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.audit.keys import load_ledger_signer
from gateway.audit.verify import verify_ledger
from gateway.store.database import open_database
from tests.system.conftest import Running, started

pytestmark = pytest.mark.system


def last_tick(running: Running) -> float:
    """When the monitor last looked, as it says itself."""
    text = httpx.get(running.facts["monitor_metrics"], timeout=10.0).text
    values = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "monitor_last_tick_timestamp_seconds"
    ]
    return values[0] if values else 0.0


def wait_for_later_tick(running: Running, before: float) -> float:
    """The first tick after `before`; fails after a minute without one."""
    end = time.monotonic() + 60
    while (tick := last_tick(running)) <= before:
        assert time.monotonic() < end, "the monitor stopped ticking"
        time.sleep(0.2)  # polling a process that offers nothing to wait on
    return tick


def served_alone(running: Running) -> "subprocess.Popen[bytes]":
    """A monitor of our own on the home's database, in place of the one that was killed."""
    port = running.facts["monitor_metrics"].rsplit(":", 1)[1].split("/")[0]
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "monitor", "run", "--ready-descriptor", str(writer)]
    extra = {"MONITOR_METRICS_PORT": port, "MONITOR_TICK_SECONDS": "1"}
    process = subprocess.Popen(
        command, env={**os.environ, **running.environment, **extra}, pass_fds=(writer,)
    )
    os.close(writer)
    with os.fdopen(reader, "rb") as ready:
        assert ready.readline()
    return process


def test_gateway_and_monitor_live_apart(tmp_path: Path, frame: bytes) -> None:
    """kill -9 of the monitor leaves the gateway answering, kill -9 of the gateway leaves a monitor ticking.

    A home that is started again serves with the same keys, and its ledger goes on where it ended.
    """
    home = tmp_path / "home"
    with started(home) as running, running.client() as client:
        assert 200 == client.post("/predict", content=frame).status_code
        os.kill(running.child("monitor"), signal.SIGKILL)
        assert 200 == client.post("/predict", content=frame).status_code
        monitor = served_alone(running)
        try:
            tick = wait_for_later_tick(running, 0.0)
            os.kill(running.child("gateway"), signal.SIGKILL)
            assert 1 == running.process.wait(60)
            wait_for_later_tick(running, tick)
        finally:
            monitor.terminate()
            assert 0 == monitor.wait(60)
    kek = (home / "keys" / "kek").read_bytes()
    with started(home) as running, running.client() as client:
        assert kek == (home / "keys" / "kek").read_bytes()
        assert 200 == client.post("/predict", content=frame).status_code
    engine = open_database(f"sqlite:///{home / 'gatewatch.db'}")
    signer = load_ledger_signer(home / "keys" / "ledger.key", origin="gateway")
    result = verify_ledger(engine, "gateway", verifiers=[signer.verifier])
    engine.dispose()
    assert result.first_bad is None
    assert result.count >= 10
