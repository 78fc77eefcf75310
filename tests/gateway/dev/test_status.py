"""The line about both processes, from literal expositions."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from gateway.dev.status import Snapshot, read_snapshot, status_line

GATEWAY = """
# TYPE gateway_requests counter
gateway_requests_total{route="/predict",status="200",code="ok"} 40.0
gateway_requests_total{route="/v1/model",status="200",code="ok"} 2.0
gateway_requests_total{route="/predict",status="401",code="authn_invalid"} 3.0
gateway_requests_total{route="unmatched",status="404",code="route_unknown"} 1.0
gateway_requests_total{route="/livez",status="200",code="ok"} 1000.0
gateway_requests_total{route="/readyz",status="503",code="not_ready"} 500.0
# TYPE gateway_samples counter
gateway_samples_total{outcome="kept"} 38.0
gateway_samples_total{outcome="rate"} 4.0
"""
MONITOR = """
# TYPE monitor_window_samples gauge
monitor_window_samples{window="current"} 36.0
monitor_window_samples{window="reference"} 600.0
# TYPE monitor_alarm_active gauge
monitor_alarm_active{alarm="drift"} 1.0
# TYPE monitor_alarm_unknown gauge
monitor_alarm_unknown{alarm="drift"} 0.0
# TYPE monitor_drift_score gauge
monitor_drift_score{feature="brightness"} 0.3
monitor_drift_score{feature="sharpness"} 0.9
monitor_drift_score{feature="unjudged"} 5.0
# TYPE monitor_drift_threshold gauge
monitor_drift_threshold{feature="brightness"} 0.2
monitor_drift_threshold{feature="sharpness"} 0.4
monitor_drift_threshold{feature="unjudged"} 0.0
"""
QUIET = Snapshot(
    answered=42, refused=4, samples=38, window_samples=36, drifting=False, worst_feature="",
    worst_share=0.0,
)  # fmt: skip


@contextmanager
def serving(**expositions: str) -> Iterator[str]:
    """A server on loopback with one path an exposition; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = expositions.get(self.path.removeprefix("/"))
            self.send_response(404 if text is None else 200)
            self.end_headers()
            self.wfile.write((text or "").encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the name is the interface)
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_both_expositions_are_condensed() -> None:
    """Health probes are no calls; only kept samples count; the worst feature is the furthest over its threshold."""
    with serving(gateway=GATEWAY, monitor=MONITOR) as url:
        snapshot = read_snapshot(f"{url}/gateway", f"{url}/monitor")
    assert snapshot == Snapshot(
        answered=42, refused=4, samples=38, window_samples=36, drifting=True,
        worst_feature="sharpness", worst_share=2.25, has_reference=True,
    )  # fmt: skip


def test_an_unknown_alarm_is_read() -> None:
    """It is neither raised nor clear."""
    unknown = "# TYPE monitor_alarm_unknown gauge\nmonitor_alarm_unknown 1.0\n"
    with serving(monitor=unknown) as url:
        snapshot = read_snapshot(f"{url}/gateway", f"{url}/monitor")
    assert (snapshot.is_unknown, snapshot.has_reference) == (True, False)


def test_a_process_that_does_not_answer_is_told_apart() -> None:
    """From one that has nothing to say yet."""
    with serving(monitor=MONITOR) as url:
        snapshot = read_snapshot(f"{url}/gateway", f"{url}/monitor")
    assert (snapshot.answered, snapshot.refused, snapshot.window_samples) == (None, 0, 36)
    with serving(gateway=GATEWAY) as url:
        snapshot = read_snapshot(f"{url}/gateway", f"{url}/monitor")
    assert (snapshot.answered, snapshot.window_samples, snapshot.drifting) == (42, None, False)


def test_a_gateway_without_calls_has_answered_none() -> None:
    """Zero, which is not silence."""
    with serving(gateway="# TYPE gateway_ready gauge\ngateway_ready 1.0\n") as url:
        assert read_snapshot(f"{url}/gateway", f"{url}/monitor").answered == 0


@pytest.mark.parametrize(
    ("now", "before", "line"),
    [
        (QUIET, None, "42 answered (0.0/s), 4 refused | 38 samples | window 36: quiet"),
        (
            QUIET,
            replace(QUIET, answered=37),
            "42 answered (2.5/s), 4 refused | 38 samples | window 36: quiet",
        ),
        (
            replace(QUIET, drifting=True, worst_feature="sharpness", worst_share=2.25),
            replace(QUIET, answered=None),
            "42 answered (0.0/s), 4 refused | 38 samples | "
            "window 36: DRIFT, sharpness at 225% of its threshold; see `monitor status`",
        ),
        (
            replace(QUIET, window_samples=2, is_unknown=True, has_reference=True),
            QUIET,
            "42 answered (0.0/s), 4 refused | 38 samples | waiting for samples (2 of 30)",
        ),
        (
            replace(QUIET, window_samples=2, is_unknown=True),
            QUIET,
            "42 answered (0.0/s), 4 refused | 38 samples | drift unknown",
        ),
        (
            replace(QUIET, worst_feature="sharpness", worst_share=0.5),
            QUIET,
            "42 answered (0.0/s), 4 refused | 38 samples | "
            "window 36: quiet, sharpness at 50% of its threshold",
        ),
        (
            replace(QUIET, answered=None, window_samples=None),
            QUIET,
            "gateway: no answer | 38 samples | monitor: no answer",
        ),
    ],
)
def test_the_line(now: Snapshot, before: Snapshot | None, line: str) -> None:
    """What people read."""
    assert line == status_line(now, before, seconds=2.0, min_window_samples=30)
