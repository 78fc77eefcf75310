"""Two monitors as real processes over one database: one judges, and when it is killed the other does."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from monitor.jobs.lease import MIN_LEASE_SECONDS

pytestmark = pytest.mark.system

DEADLINE_SECONDS = 60.0


class Running:
    """A monitor that runs."""

    def __init__(self, process: "subprocess.Popen[bytes]", url: str) -> None:
        self.process = process
        self._url = url

    def metric(self, name: str) -> float:
        """What it says now."""
        with urllib.request.urlopen(self._url, timeout=10) as response:
            lines = response.read().decode().splitlines()
        return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


@contextmanager
def running(environment: dict[str, str]) -> Iterator[Running]:
    """A monitor that serves its metrics."""
    read_end, write_end = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "monitor", "run", "--ready-descriptor", str(write_end)],
        env=environment,
        pass_fds=(write_end,),
        stderr=subprocess.DEVNULL,
    )
    os.close(write_end)
    try:
        with os.fdopen(read_end) as ready:
            port = ready.readline().strip()
        assert port
        yield Running(process, f"http://127.0.0.1:{port}/metrics")
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def environment(engine: Engine, tmp_path: Path) -> dict[str, str]:
    """Over the test's database, with a ledger, and ports that are free."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MONITOR_")}
    variables = {
        **kept,
        "MONITOR_DATABASE_URL": engine.url.render_as_string(hide_password=False),
        "MONITOR_METRICS_PORT": "0",
        "MONITOR_TICK_SECONDS": "0.2",
        "MONITOR_AUDIT_KEY_FILE": str(tmp_path / "monitor-ledger.key"),
        "MONITOR_WITNESS_FOLDER": str(tmp_path / "witness"),
    }
    command = [sys.executable, "-m", "monitor", "ledger", "create"]
    subprocess.run(command, env=variables, check=True, timeout=60, capture_output=True)
    return variables


def test_a_killed_holder_is_followed_within_the_lease_time(
    engine: Engine, environment: dict[str, str]
) -> None:
    """Not before: it may only be slow. A stopped one is followed at once."""
    with running(environment) as first:
        _until(lambda: first.metric("monitor_lease_held") == 1.0)
        with running(environment) as second:
            _until(lambda: second.metric("monitor_last_tick_timestamp_seconds") > 0.0)
            assert 0.0 == second.metric("monitor_lease_held")
            first.process.kill()
            first.process.wait()
            left = _left_seconds(engine)
            assert MIN_LEASE_SECONDS >= left > 0
            assert 0.0 == second.metric("monitor_lease_held")
            _move_on(engine, left)
            _until(lambda: second.metric("monitor_lease_held") == 1.0)
            with running(environment) as third:
                _until(lambda: third.metric("monitor_last_tick_timestamp_seconds") > 0.0)
                assert 0.0 == third.metric("monitor_lease_held")
                second.process.send_signal(signal.SIGTERM)
                assert 0 == second.process.wait(timeout=DEADLINE_SECONDS)
                _until(lambda: third.metric("monitor_lease_held") == 1.0)


def _left_seconds(engine: Engine) -> float:
    with engine.connect() as connection:
        ends = connection.execute(text("SELECT expires_at_seconds FROM leases")).scalar_one()
    return float(ends) - time.time()


def _move_on(engine: Engine, seconds: float) -> None:
    """As if so much time had gone by."""
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE leases SET expires_at_seconds = expires_at_seconds - :seconds"),
            {"seconds": seconds},
        )


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
