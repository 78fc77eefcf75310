"""Yesterday's database in the place of today's: the gateway does not serve it, and the monitor says so."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.dev.home import Layout, monitor_environment
from gateway.store.database import open_database
from tests.gateway.audit.witness_world import copy_database
from tests.system.door import environment_of, opened_door, prepared_home

pytestmark = pytest.mark.system


def run(layout: Layout, *command: str) -> "subprocess.CompletedProcess[str]":
    """A command on the home, ended."""
    environment = {**os.environ, **environment_of(layout), **monitor_environment(layout)}
    environment |= {"GATEWAY_JWKS_FILE": str(layout.keys / "jwks.json"), "GATEWAY_PORT": "0"}
    environment |= {"GATEWAY_METRICS_PORT": "0"}
    return subprocess.run(
        [sys.executable, "-m", *command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def seen(layout: Layout, *options: str, exit_code: int = 0) -> dict[str, Any]:
    """What the monitor sees as a witness."""
    done = run(layout, "monitor", "witness", "--json", *options)
    assert exit_code == done.returncode, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def of_gateway(document: dict[str, Any]) -> dict[str, Any]:
    """What is said of the gateway's ledger; the monitor has one too."""
    found: list[dict[str, Any]] = [
        ledger for ledger in document["ledgers"] if ledger["ledger"] == "gateway"
    ]
    return found[0]


def test_an_older_database_is_refused_and_raises_the_alarm(tmp_path: Path) -> None:
    """Each says what it has seen, and how many records there are."""
    layout = prepared_home(tmp_path / "home")
    database = layout.state / "gatewatch.db"
    engine = open_database(layout.database_url)
    older = copy_database(engine, tmp_path / "older.db")
    engine.dispose()
    with opened_door(layout, {"GATEWAY_JWKS_FILE": str(layout.keys / "jwks.json")}) as door:
        assert door.metric("gateway_audit_checkpoint_size") > 0.0
        assert 0.0 == door.metric("gateway_audit_witness_disagreements_total", place="file")
    document = seen(layout)
    ledger = of_gateway(document)
    assert ("clear", []) == (document["alarm"], ledger["disagreements"])
    for name in (database.name, f"{database.name}-wal", f"{database.name}-shm"):
        (layout.state / name).unlink(missing_ok=True)
    shutil.copy(older, database)
    refused = run(layout, "gateway", "serve")
    assert 0 != refused.returncode
    assert "does not go on from what the witness file" in refused.stderr
    assert f"and {ledger['size']} were signed; restore the database" in refused.stderr
    assert "[ledger_broken]" in refused.stderr
    document = seen(layout, "--fail-on-alarm", exit_code=4)
    assert "firing" == document["alarm"]
    assert ["smaller"] == [one["kind"] for one in of_gateway(document)["disagreements"]]
