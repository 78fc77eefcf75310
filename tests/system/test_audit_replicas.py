"""Gateways of one PostgreSQL database, each a process: every ledger is whole, whoever writes beside it."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import Engine

from gateway.audit.verify import verify_ledger
from gateway.store.queries.audit_search import RecordSearch, search_records
from tests.gateway.ledgers import begin_ledger, checked_bodies, signed_sizes, signer_of

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[2]
TASKS, EACH = 8, 40

# Appends from several tasks, signing all the while, once the line to begin has come; then ends in order.
CHILD = """
import asyncio, sys
from datetime import UTC, datetime
from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.store.database import open_database
from tests.gateway.ledgers import open_log

url, origin, name, tasks, each = sys.argv[1:]
audit_log = open_log(open_database(url), origin, checkpoint_seconds=0.05, timeout_seconds=60)

async def append_some(task):
    for number in range(int(each)):
        await audit_log.append(
            AuditEvent(action=Action.PREDICT, outcome=Outcome.ADMITTED,
                       recorded_at=datetime.now(UTC), request_id=f"{name}-{task}-{number}"))

async def main():
    await asyncio.gather(*(append_some(task) for task in range(int(tasks))))

print("ready", flush=True)
sys.stdin.readline()
asyncio.run(main())
assert audit_log.close()
"""


def run_together(url: str, origins: Sequence[str]) -> None:
    """One process an origin, all writing at the same time."""
    processes = []
    for number, origin in enumerate(origins):
        arguments = [url, origin, f"p{number}", str(TASKS), str(EACH)]
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        processes.append(process)
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=100)
        assert process.returncode == 0


def require_whole(engine: Engine, origin: str, *, count: int) -> None:
    """By the book and as the command does, with checkpoints on the way and at the end."""
    assert count == len(checked_bodies(engine, origin))
    result = verify_ledger(engine, origin, verifiers=[signer_of(origin).verifier])
    assert (result.first_bad, result.count) == (None, count)
    sizes = signed_sizes(engine, origin)
    assert sizes[-1] == count
    assert len(sizes) > 2


def test_each_replica_has_a_ledger_that_is_whole(postgres_engine: Engine) -> None:
    """Written at the same time; a query reads them as one, in time order."""
    url = postgres_engine.url.render_as_string(hide_password=False)
    run_together(url, ["replica/1", "replica/2"])
    for origin in ("replica/1", "replica/2"):
        require_whole(postgres_engine, origin, count=TASKS * EACH)
    with postgres_engine.connect() as connection:
        search = RecordSearch(is_newest_first=False)
        found = search_records(connection, search, None, limit=9999)
    assert len(found) == 2 * TASKS * EACH
    times = [record.recorded_at for record in found]
    assert sorted(times) == times
    assert {record.origin for record in found} == {"replica/1", "replica/2"}


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_processes_of_one_ledger_leave_it_whole(kind: str, request: pytest.FixtureRequest) -> None:
    """A gateway and commands of its host write to the same one."""
    engine: Engine = request.getfixturevalue(f"{kind}_engine")
    begin_ledger(engine, "shared")
    url = engine.url.render_as_string(hide_password=False)
    run_together(url, ["shared", "shared"])
    require_whole(engine, "shared", count=2 * TASKS * EACH)
