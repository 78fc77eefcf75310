"""The fault table of the ledger's I/O: each step of a batch and of a signature fails, without and with its effect.

After each fault the whole ledger is verified from stored bytes, callers were told the truth, and what follows works.
"""

import asyncio
import json
from collections.abc import Callable

import pytest
from sqlalchemy import Connection, Engine, event

from gateway.audit.events import AuditEvent
from gateway.audit.writer import AuditLog
from gateway.errors import AuditUnavailableError
from gateway.store.database import open_database, write_transaction
from tests.gateway.audit.conftest import ORIGIN
from tests.gateway.audit.faults import FakeOutages, Fault
from tests.gateway.ledgers import checked_bodies, open_log, signed_sizes

MakeEvent = Callable[..., AuditEvent]
CheckLedger = Callable[[], list[str]]

FULL_NODE = 256
both = pytest.mark.parametrize("persists", [False, True], ids=["not persisted", "persisted"])


def fill(log: AuditLog, make_event: MakeEvent, count: int) -> None:
    """Append this many records at once."""

    async def append_many() -> None:
        await asyncio.gather(*(log.append(make_event(1000 + n)) for n in range(count)))

    asyncio.run(append_many())


def skip_without(step: str, engine: Engine) -> None:
    """SQLite's lock is taken by BEGIN."""
    if step == "lock" and engine.dialect.name == "sqlite":
        pytest.skip("SQLite takes its lock where a transaction begins")


@both
@pytest.mark.parametrize(
    "step", ["begin", "lock", "read tail", "insert records", "insert nodes", "commit"]
)
def test_each_step_of_a_batch(
    engine: Engine,
    audit_log: AuditLog,
    make_event: MakeEvent,
    check_ledger: CheckLedger,
    step: str,
    persists: bool,
) -> None:
    """Nothing is acknowledged; only a commit can leave the record there, and then its refusal follows."""
    skip_without(step, engine)
    # The record that fails is the one that makes a node full.
    fill(audit_log, make_event, FULL_NODE - 1)
    fault = Fault(engine, step, persists=persists)
    with pytest.raises(AuditUnavailableError) as caught:
        audit_log.append_blocking(make_event(1))
    assert caught.value.reason == "the database failed: OSError: the disk went away"
    fault.mend()
    is_there = step == "commit" and persists
    assert len(check_ledger()) == FULL_NODE - 1 + is_there
    assert audit_log.append_blocking(make_event(2)) == FULL_NODE - 1 + 2 * is_there
    said = [(json.loads(b)["request_id"], json.loads(b)["outcome"]) for b in check_ledger()[255:]]
    refused = [("request-1", "admitted"), ("request-1", "failed")] if is_there else []
    assert said == [*refused, ("request-2", "admitted")]
    assert (fault.struck, audit_log.failed) == (1, 1)
    assert audit_log.close()
    assert signed_sizes(engine, ORIGIN) == [0, len(check_ledger())]


@both
@pytest.mark.parametrize(
    "step",
    ["begin", "lock", "read tail", "read checkpoint", "read proof", "insert checkpoint", "commit"],
)
def test_each_step_of_a_signature(
    engine: Engine,
    audit_log: AuditLog,
    make_event: MakeEvent,
    check_ledger: CheckLedger,
    step: str,
    persists: bool,
) -> None:
    """Nothing is handed on that may not be durable; records are written meanwhile; the next one covers them all."""
    skip_without(step, engine)
    fill(audit_log, make_event, 3)
    assert audit_log.checkpoint_blocking().checkpoint.size == 3
    fill(audit_log, make_event, 2)
    fault = Fault(engine, step, persists=persists)
    with pytest.raises(AuditUnavailableError):
        audit_log.checkpoint_blocking()
    fault.mend()
    is_there = step == "commit" and persists
    assert (audit_log.signed_size, audit_log.is_broken) == (3, False)
    assert signed_sizes(engine, ORIGIN) == ([0, 3, 5] if is_there else [0, 3])
    fill(audit_log, make_event, 2)
    assert audit_log.checkpoint_blocking().checkpoint.size == 7
    assert len(check_ledger()) == 7
    assert fault.struck == 1


@both
def test_each_step_of_a_checkpoint_that_is_stored_already(
    engine: Engine, audit_log: AuditLog, make_event: MakeEvent, persists: bool
) -> None:
    """Where the same tree is asked for again after a commit in doubt, there is one checkpoint of it."""
    fill(audit_log, make_event, 3)
    fault = Fault(engine, "commit", persists=persists)
    with pytest.raises(AuditUnavailableError):
        audit_log.checkpoint_blocking()
    fault.mend()
    assert audit_log.checkpoint_blocking().checkpoint.size == 3
    assert signed_sizes(engine, ORIGIN) == [0, 3]


@pytest.mark.parametrize("times", [1, 3])
def test_refusals_follow_every_batch_that_persisted_in_doubt(
    engine: Engine,
    audit_log: AuditLog,
    make_event: MakeEvent,
    check_ledger: CheckLedger,
    times: int,
) -> None:
    """Each once, also where the commit that brings them is in doubt itself."""
    fault = Fault(engine, "commit", persists=True)
    for number in range(times):
        with pytest.raises(AuditUnavailableError):
            audit_log.append_blocking(make_event(number))
    fault.mend()
    audit_log.append_blocking(make_event(9))
    said = [(json.loads(b)["request_id"], json.loads(b)["outcome"]) for b in check_ledger()]
    refused = [(f"request-{n}", o) for n in range(times) for o in ("admitted", "failed")]
    assert sorted([*refused, ("request-9", "admitted")]) == sorted(said)


def test_a_refusal_in_doubt_is_written_at_the_end(
    engine: Engine, audit_log: AuditLog, make_event: MakeEvent, check_ledger: CheckLedger
) -> None:
    """No further record has to come."""
    fault = Fault(engine, "commit", persists=True)
    with pytest.raises(AuditUnavailableError):
        audit_log.append_blocking(make_event(0))
    fault.mend()
    assert audit_log.close()
    assert ["admitted", "failed"] == [json.loads(body)["outcome"] for body in check_ledger()]
    assert signed_sizes(engine, ORIGIN) == [0, 2]


def test_a_place_that_another_process_took_is_no_doubt(
    engine: Engine, audit_log: AuditLog, make_event: MakeEvent, check_ledger: CheckLedger
) -> None:
    """A record of somebody else at the position of a batch that did not persist gets no refusal of ours."""
    fault = Fault(engine, "commit")
    with pytest.raises(AuditUnavailableError):
        audit_log.append_blocking(make_event(0))
    fault.mend()
    other = open_log(engine, ORIGIN)
    other.append_blocking(make_event(7))
    assert other.close()
    assert audit_log.append_blocking(make_event(1)) == 1
    assert len(check_ledger()) == 2


def test_failure_reaches_every_waiter_of_the_batch(
    engine: Engine, audit_log: AuditLog, make_event: MakeEvent, check_ledger: CheckLedger
) -> None:
    """Nobody of a failed batch goes on."""
    Fault(engine, "insert records")

    async def append_many() -> list[int | BaseException]:
        appends = (audit_log.append(make_event(n)) for n in range(20))
        return await asyncio.gather(*appends, return_exceptions=True)

    results = asyncio.run(append_many())
    assert {type(result) for result in results} == {AuditUnavailableError}
    assert check_ledger() == []


def test_full_disk_refuses_says_so_and_recovers(
    sqlite_engine: Engine, make_event: MakeEvent
) -> None:
    """SQLite's own "disk is full" refuses calls until there is room again."""
    outages = FakeOutages()
    log = open_log(sqlite_engine, ORIGIN, outages=outages)
    log.append_blocking(make_event())

    def limit(pages: int) -> None:
        def set_limit(connection: Connection) -> None:
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

        event.listen(sqlite_engine, "begin", set_limit)

    with sqlite_engine.connect() as connection:
        used = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    limit(used + 2)

    def fill_up() -> None:
        for number in range(1000):
            log.append_blocking(make_event(number))

    with pytest.raises(AuditUnavailableError):
        fill_up()
    assert outages.noted[0] == (
        "the database failed: OperationalError: database or disk is full", 1,
    )  # fmt: skip
    limit(100_000)
    before = len(checked_bodies(sqlite_engine, ORIGIN))
    assert log.append_blocking(make_event()) == before
    assert log.close()
    assert len(checked_bodies(sqlite_engine, ORIGIN)) == before + 1


def test_a_locked_database_refuses_says_so_and_recovers(
    sqlite_engine: Engine, make_event: MakeEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process that holds SQLite's lock for longer than anybody waits."""
    monkeypatch.setattr("gateway.store.database.BUSY_TIMEOUT_SECONDS", 0.05)
    engine = open_database(str(sqlite_engine.url))
    outages = FakeOutages()
    log = open_log(engine, ORIGIN, outages=outages)
    with write_transaction(sqlite_engine), pytest.raises(AuditUnavailableError):
        log.append_blocking(make_event(0))
    assert outages.noted == [("the database failed: OperationalError: database is locked", 1)]
    assert log.append_blocking(make_event(1)) == 0
    assert log.close()
    engine.dispose()
