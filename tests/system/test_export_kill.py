"""An export that is killed at any moment, and one that follows: nothing is left out, and it ends when it is told to."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from gateway.audit.entries import encode_event
from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.audit.keys import load_ledger_signer
from gateway.audit.signing import CheckpointSigner
from gateway.audit.tail import extend_tail, follow_tail
from gateway.commands.db import upgrade
from gateway.commands.keys import create_all
from gateway.commands.opening import opened_store, utc_now
from gateway.dev.home import gateway_overrides, layout_of
from gateway.settings import GatewaySettings, read_settings
from gateway.store.database import write_transaction
from tests.gateway.ledgers import begin_home

pytestmark = pytest.mark.system

RECORDS = 12_000
ADDED = 50


def overrides_below(home: Path) -> dict[str, Any]:
    """Settings that keep everything in one folder."""
    own = {"model_name": "belt", "audit_witness_file": ""}
    return {**gateway_overrides(layout_of(home)), **own}


@pytest.fixture
def settings(tmp_path: Path) -> GatewaySettings:
    """A home with a ledger, which no witness adds to."""
    found = read_settings({}, **overrides_below(tmp_path))
    create_all(tmp_path / "keys")
    upgrade(found)
    begin_home(found)
    return found


@pytest.fixture
def store(settings: GatewaySettings) -> Iterator[Engine]:
    """Its database."""
    with opened_store(settings) as engine:
        yield engine


def add(engine: Engine, settings: GatewaySettings, count: int) -> None:
    """Add records as the gateway of the home would, and sign them."""
    signer = load_ledger_signer(settings.audit_key_file, origin="gateway")
    event = AuditEvent(action=Action.PREDICT, outcome=Outcome.ANSWERED, recorded_at=utc_now())
    with write_transaction(engine) as connection:
        tail = follow_tail(connection, "gateway", None)
        tail = extend_tail(connection, "gateway", tail, [encode_event(event)] * count)
        CheckpointSigner(signer).sign(connection, tail)


@contextmanager
def exporting(
    home: Path, *arguments: str, stdout: int | None = None
) -> "Iterator[subprocess.Popen[bytes]]":
    """The command in a home, ended afterwards."""
    settings = overrides_below(home).items()
    environment = {f"GATEWAY_{name.upper()}": str(value) for name, value in settings}
    command = [sys.executable, "-m", "gateway", "audit", "export", "--format", "jsonl", *arguments]
    with subprocess.Popen(command, env={**os.environ, **environment}, stdout=stdout) as process:
        try:
            yield process
        finally:
            process.kill()


def test_killed_exports_leave_nothing_out(
    settings: GatewaySettings, store: Engine, tmp_path: Path
) -> None:
    """Killed five times while lines go out, then left alone: every record is in the file, in whole lines."""
    rng = random.Random(20310506)
    add(store, settings, RECORDS)
    output, cursor = tmp_path / "siem.jsonl", tmp_path / "siem.cursor"
    arguments = ("--output", str(output), "--cursor", str(cursor))
    for _ in range(5):
        size = output.stat().st_size if output.exists() else 0
        with exporting(tmp_path, *arguments) as process:
            # The moment of the kill is counted in bytes, not seconds: it always falls into the writing.
            until = size + rng.randrange(1_000_000)
            while process.poll() is None:
                if output.exists() and output.stat().st_size > until:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
    with exporting(tmp_path, *arguments) as process:
        assert 0 == process.wait()
    positions = [json.loads(line)["position"] for line in output.read_bytes().splitlines()]
    last = json.loads(cursor.read_bytes())["ledgers"]["gateway"]["position"]
    assert last > RECORDS
    assert {*range(last + 1)} == {*positions}
    # What is repeated is what the kills fell into, a page each at most.
    assert len(positions) - (last + 1) <= 5 * 1024


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_following_export_ends_when_told(
    settings: GatewaySettings, store: Engine, tmp_path: Path, number: signal.Signals
) -> None:
    """It sees what is added, and ends with status 0; its end is in the ledger."""
    arguments = ("--follow", "--poll-seconds", "0.05")
    with exporting(tmp_path, *arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert "audit.export" == first["action"]
        add(store, settings, ADDED)
        lines = [json.loads(process.stdout.readline()) for _ in range(ADDED)]
        assert {"predict"} == {
            line["action"] for line in lines if line["action"] != "audit.witness"
        }
        process.send_signal(number)
        rest = process.stdout.read()
        assert 0 == process.wait()
    assert rest == b"" or rest.endswith(b"\n")


def test_a_reader_that_leaves_ends_it_quietly(
    settings: GatewaySettings, store: Engine, tmp_path: Path
) -> None:
    """As `head` does; status 0."""
    add(store, settings, RECORDS)
    with exporting(tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b'{"origin":"gateway","position":0,')
        process.stdout.close()
        assert 0 == process.wait()
