"""The same two processes on a real PostgreSQL."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import func, select

from gateway.audit.keys import load_ledger_signer
from gateway.audit.verify import verify_ledger
from gateway.dev.plan import free_port
from gateway.store.database import open_database
from gateway.store.tables import samples
from tests.system.conftest import Running, started

pytestmark = pytest.mark.system


@contextmanager
def serving(environment: dict[str, str]) -> Iterator[int]:
    """A gateway with this environment; yields its port."""
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "serve", "--ready-descriptor", str(writer)],
        env={**os.environ, **environment, "GATEWAY_PORT": "0"},
        pass_fds=(writer,),
    )
    os.close(writer)
    try:
        with os.fdopen(reader) as ready:
            line = ready.readline()
        assert line
        yield int(line)
    finally:
        process.terminate()
        assert 0 == process.wait(60)


def run(environment: dict[str, str], *command: str) -> str:
    """A command of one of the two packages; its standard output."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


def test_both_processes_work_on_postgresql(
    running: Running, postgres_url: str, frame: bytes, tmp_path: Path
) -> None:
    """Migrate, seal, serve, sample, make a reference, judge and verify, all on one PostgreSQL."""
    home = Path(running.facts["home"])
    environment = running.environment | {
        "GATEWAY_DATABASE_URL": postgres_url,
        "MONITOR_DATABASE_URL": postgres_url,
        "GATEWAY_MODELS_FOLDER": str(tmp_path / "models"),
        "GATEWAY_AUDIT_EMERGENCY_FILE": str(tmp_path / "emergency.audit"),
        "GATEWAY_AUDIT_WITNESS_FILE": str(tmp_path / "gateway.checkpoint"),
        "GATEWAY_METRICS_PORT": str(free_port()),
    }
    conveyor = Path(__file__).resolve().parents[2] / "examples" / "conveyor"
    run(environment, "gateway", "db", "upgrade")
    run(environment, "gateway", "audit", "create")
    signer = str(home / "keys" / "signer.key")
    seal = [
        "gateway",
        "seal",
        str(conveyor / "conveyor.onnx"),
        "--name",
        "conveyor",
        "--version",
        "1",
    ]
    run(environment, *seal, "--signer", signer, "--promote")
    run(environment, "monitor", "ledger", "create")
    run(environment, "monitor", "reference", "--from", "dataset", str(conveyor / "reference.jsonl"))
    with serving(environment) as port, running.client() as client:
        for _ in range(40):
            answer = client.post(f"https://127.0.0.1:{port}/predict", content=frame)
            assert 200 == answer.status_code
    ticked = json.loads(run(environment, "monitor", "tick", "--json"))
    assert "judged" == ticked["models"][0]["outcome"]
    assert 40 == ticked["models"][0]["window_samples"]
    engine = open_database(postgres_url)
    with engine.connect() as connection:
        assert 40 == connection.execute(select(func.count()).select_from(samples)).scalar_one()
    verifier = load_ledger_signer(home / "keys" / "ledger.key", origin="gateway").verifier
    result = verify_ledger(engine, "gateway", verifiers=[verifier])
    engine.dispose()
    assert result.first_bad is None
    # Of the beginning and of the witness file, of sealing and promoting, of start and stop, two of each call.
    assert 2 + 3 + 3 + 5 + 1 + 80 == result.count


def test_the_development_command_starts_twice(tmp_path: Path, frame: bytes) -> None:
    """A path with a space and a percent sign is as good as any, and a second start keeps the keys."""
    home = tmp_path / "my home 100%"
    with started(home) as first, first.client() as client:
        assert 200 == client.post("/predict", content=frame).status_code
    key = (home / "keys" / "kek").read_bytes()
    with started(home) as second, second.client() as client:
        assert 200 == client.post("/predict", content=frame).status_code
    assert key == (home / "keys" / "kek").read_bytes()
