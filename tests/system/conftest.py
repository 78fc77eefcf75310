"""Real processes over real TLS: a development home started once, and what tests need to talk to it."""

import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from gateway.store.database import open_database
from gateway.store.tables import audit_records

START_TIMEOUT_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Running:
    """A running gateway and monitor in a home of their own."""

    facts: dict[str, Any]
    process: "subprocess.Popen[str]"

    @property
    def url(self) -> str:
        """Where the gateway answers."""
        url: str = self.facts["url"]
        return url

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which commands work on this home."""
        home = Path(self.facts["home"])
        return {
            "GATEWAY_DATABASE_URL": self.facts["database_url"],
            "GATEWAY_MODELS_FOLDER": str(home / "models"),
            "GATEWAY_KEKS": f"file:{home / 'keys' / 'kek'}",
            "GATEWAY_TRUSTED_SIGNERS_FOLDER": str(home / "keys" / "signers"),
            "GATEWAY_JWKS_FILE": str(home / "keys" / "jwks.json"),
            "GATEWAY_AUDIT_KEY_FILE": str(home / "keys" / "ledger.key"),
            "GATEWAY_AUDIT_EMERGENCY_FILE": str(home / "emergency.audit"),
            "GATEWAY_AUDIT_WITNESS_FILE": str(home / "witness" / "gateway.checkpoint"),
            "GATEWAY_TLS_CERTIFICATE_FILE": str(home / "certs" / "server.pem"),
            "GATEWAY_TLS_KEY_FILE": str(home / "certs" / "server.key"),
            "MONITOR_DATABASE_URL": self.facts["database_url"],
            "MONITOR_REPORTS_FOLDER": self.facts["reports_folder"],
            "MONITOR_AUDIT_KEY_FILE": str(home / "keys" / "monitor-ledger.key"),
            "MONITOR_WITNESS_FOLDER": str(home / "witness"),
            "MONITOR_WITNESS_KEY_FILE": str(home / "keys" / "witness.key"),
        }

    def token(self, role: str) -> str:
        """A token for one role."""
        return Path(self.facts["token_files"][role]).read_text(encoding="ascii")

    def client(self, role: str | None = "client") -> httpx.Client:
        """A client that trusts the home's CA and sends that role's token, if any."""
        headers = {} if role is None else {"Authorization": f"Bearer {self.token(role)}"}
        context = ssl.create_default_context(cafile=self.facts["ca_file"])
        return httpx.Client(base_url=self.url, verify=context, headers=headers, timeout=60.0)

    def records_of(self, request_id: str) -> list[dict[str, Any]]:
        """The audit records of one request, in order."""
        engine = open_database(self.facts["database_url"])
        query = (
            select(audit_records.c.body)
            .where(audit_records.c.body.contains(request_id))
            .order_by(audit_records.c.position)
        )
        with engine.connect() as connection:
            bodies = [json.loads(body) for body in connection.execute(query).scalars()]
        engine.dispose()
        return bodies

    def child(self, module: str) -> int:
        """The process id of the gateway or monitor that the development command started."""
        listing = subprocess.run(
            ["ps", "--ppid", str(self.process.pid), "-o", "pid=,args="],
            capture_output=True,
            text=True,
            check=True,
        )
        lines = [line for line in listing.stdout.splitlines() if f"-m {module} " in line]
        return int(lines[0].split()[0])


@contextmanager
def started(home: Path, environment: Mapping[str, str] | None = None) -> Iterator[Running]:
    """The development command on a home, ended in order afterwards."""
    command = [sys.executable, "-m", "gateway", "dev", "--any-ports", "--json", "--home", str(home)]
    home.mkdir(parents=True, exist_ok=True)
    with (home / "dev.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    try:
        line = process.stdout.readline() if process.stdout else ""
        assert line, (home / "dev.log").read_text(encoding="utf-8")
        yield Running(json.loads(line), process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(START_TIMEOUT_SECONDS)
        if process.stdout:
            process.stdout.close()


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One home for all tests that only ask; it keeps every image, so that tests can look at them."""
    settings = {
        "GATEWAY_SAMPLE_IMAGE_RATE": "1.0",
        # Many tests are refused on purpose, from one address: the next would be told to slow down.
        "GATEWAY_ADDRESS_FAILURE_RATE": "",
    }
    with started(tmp_path_factory.mktemp("home"), settings) as run:
        yield run


@pytest.fixture(scope="session")
def frame() -> bytes:
    """A frame of the demo's conveyor, as a camera would send it."""
    folder = Path(__file__).resolve().parents[2] / "examples" / "conveyor"
    return (folder / "frame.jpg").read_bytes()
