"""The listener of a running gateway: clients that hold connections, and certificates that change under load."""

import json
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from gateway.dev.certificates import create_certificates
from tests.system.door import Door, opened_door, prepared_home

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[2]
WAIT_SECONDS = 30.0
SHAPES = {
    "no_client_hello",
    "idle_after_handshake",
    "partial_header",
    "dripped_header",
    "no_body",
    "dripped_body",
    "unread_response",
    "many_idle",
}


def test_every_way_to_hold_a_connection_ends_within_ten_seconds() -> None:
    """With the default limits, and a good client is served meanwhile."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "edge.py"), "--quick"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    figures = json.loads(done.stdout)
    assert set(figures["shapes"]) == SHAPES
    assert {name: s for name, s in figures["shapes"].items() if s > 10} == {}
    assert 0 == done.returncode
    assert figures["p99_ms_attacked"] > 0


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A gateway with one home for these tests."""
    layout = prepared_home(tmp_path_factory.mktemp("edge"))
    with opened_door(layout, {"GATEWAY_JWKS_FILE": str(layout.keys / "jwks.json")}) as opened:
        yield opened


def replace_certificate(door: Door) -> None:
    """Put a new development set in the place of the old one, file by file."""
    folder = door.layout.certificates
    fresh = folder / "fresh"
    create_certificates(fresh, now=datetime.now(UTC))
    for name in ("server.key", "server.pem", "ca.pem"):
        (fresh / name).replace(folder / name)
    fresh.rmdir()


def wait_for_reload(door: Door, count: int) -> None:
    """Wait until the gateway has taken its certificate anew so many times."""
    deadline = time.monotonic() + WAIT_SECONDS
    while door.metric("gateway_tls_reloads_total", outcome="loaded") < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def calling(door: Door) -> Iterator[list[int]]:
    """Calls without pause over a connection that is kept, and over new ones that check nothing; their statuses."""
    statuses: list[int] = []
    is_over = threading.Event()
    careless = ssl.create_default_context()
    careless.check_hostname = False
    careless.verify_mode = ssl.CERT_NONE

    def call(*, is_kept: bool) -> None:
        while not is_over.is_set():
            with httpx.Client(base_url=door.url, verify=careless, timeout=WAIT_SECONDS) as client:
                while not is_over.is_set():
                    statuses.append(client.get("/livez").status_code)
                    if not is_kept:
                        break

    threads = [threading.Thread(target=call, kwargs={"is_kept": kept}) for kept in (True, False)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def test_a_new_certificate_is_served_without_a_dropped_call(door: Door) -> None:
    """By signal and by the change of its files alone; the process lives on."""
    with calling(door) as statuses:
        for round_number in range(1, 5):
            replace_certificate(door)
            if round_number % 2:
                door.process.send_signal(signal.SIGHUP)
            wait_for_reload(door, round_number)
            with door.client() as client:  # trusts the new CA alone
                assert 200 == client.get("/livez").status_code
    assert {200} == set(statuses)
    assert door.process.poll() is None
    assert 0 == door.metric("gateway_tls_reloads_total", outcome="failed")
    assert door.metric("gateway_tls_certificate_expiry_timestamp_seconds") > time.time()


def test_a_broken_certificate_leaves_the_old_one(door: Door) -> None:
    """It is counted, and calls go on."""
    file = door.layout.certificates / "server.pem"
    good = file.read_bytes()
    file.write_bytes(b"broken")
    try:
        door.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + WAIT_SECONDS
        while not door.metric("gateway_tls_reloads_total", outcome="failed"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with door.client() as client:
            assert 200 == client.get("/livez").status_code
    finally:
        file.write_bytes(good)
