"""A process that is killed at any moment loses no acknowledged record and leaves a ledger that verifies."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.gateway.ledgers import checked_bodies

ORIGIN = "gatewatch.example/kill"
ROOT = Path(__file__).resolve().parents[2]

# Appends from several tasks for ever, and writes a line for each record that was acknowledged.
CHILD = """
import asyncio, os, sys
from datetime import UTC, datetime
from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.store.database import open_database
from tests.gateway.ledgers import open_log

audit_log = open_log(open_database(sys.argv[1]), sys.argv[2])

async def append_for_ever(name):
    number = 0
    while True:
        request_id = f"{sys.argv[3]}-{name}-{number}"
        event = AuditEvent(action=Action.PREDICT, outcome=Outcome.ADMITTED,
                           recorded_at=datetime.now(UTC), request_id=request_id)
        position = await audit_log.append(event)
        os.write(1, f"{position} {request_id}\\n".encode())
        number += 1

async def main():
    await asyncio.gather(*(append_for_ever(name) for name in range(8)))

asyncio.run(main())
"""


@pytest.mark.system
def test_kill_loses_no_acknowledged_record(sqlite_engine: Engine) -> None:
    """Killed six times at random moments, each time under load, the ledger holds every acknowledged record."""
    rng = random.Random(20310506)
    acknowledged: dict[int, str] = {}
    for run in range(6):
        command = [sys.executable, "-c", CHILD, str(sqlite_engine.url), ORIGIN, str(run)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
            assert child.stdout is not None
            # The moment of the kill is counted in records, not seconds: it always falls into the load.
            lines = [child.stdout.readline() for _ in range(rng.randint(1, 400))]
            child.send_signal(signal.SIGKILL)
            rest = child.stdout.read()
        # The very last line may be torn by the kill; a torn line acknowledges nothing.
        text = "".join(lines) + rest
        for line in text[: text.rfind("\n")].split("\n"):
            position, request_id = line.split(" ")
            assert int(position) not in acknowledged
            acknowledged[int(position)] = request_id
    assert len(acknowledged) >= 6
    bodies = checked_bodies(sqlite_engine, ORIGIN)
    for place, expected in acknowledged.items():
        assert f'"request_id":"{expected}"' in bodies[place]
