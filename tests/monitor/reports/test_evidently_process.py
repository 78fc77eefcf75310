"""The drawing process: no network, no heavy import before it is wanted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REFUSED = """
import socket, sys
from monitor.reports.evidently_process import refuse_network
refuse_network()
try:
    {attempt}
except PermissionError as exc:
    sys.exit("needs no network" not in str(exc))
sys.exit(2)
"""


@pytest.mark.parametrize(
    "attempt",
    [
        "socket.create_connection(('127.0.0.1', 9))",
        "socket.getaddrinfo('example.org', 80)",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))",
        "socket.socket().bind(('127.0.0.1', 0))",
        "socket.socket(socket.AF_UNIX).connect('/nowhere')",
        "socket.gethostbyname('example.org')",
    ],
)
def test_every_way_out_is_refused(attempt: str) -> None:
    """Telemetry of any library in that process ends here."""
    command = [sys.executable, "-W", "ignore", "-c", REFUSED.format(attempt=attempt)]
    assert subprocess.run(command, check=False, timeout=60).returncode == 0


def test_a_failure_is_one_line_on_standard_error(tmp_path: Path) -> None:
    """Whatever class it has; the parent shows the last line."""
    job = tmp_path / "job.json"
    job.write_text(json.dumps({"columns": {}, "alpha": 0.1, "metadata": {}}))
    result = subprocess.run(
        [
            *(sys.executable, "-m", "monitor.reports.evidently_process"),
            *(job, tmp_path / "out.html", tmp_path / "drawn.json"),
        ],
        env={**os.environ, "DO_NOT_TRACK": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "Error" in result.stderr
