"""Readiness: what cannot be recorded is not asked for, and asking costs one look a second."""

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event, text

from gateway.audit.events import AuditEvent
from gateway.audit.readiness import Readiness
from gateway.audit.writer import AuditLog
from gateway.errors import AuditUnavailableError
from gateway.store.tables import audit_records
from tests.gateway.audit.conftest import ORIGIN
from tests.gateway.audit.tampering import copied, cut, put_back
from tests.gateway.ledgers import open_log

MakeEvent = Callable[..., AuditEvent]


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def readiness_of(engine: Engine, audit_log: AuditLog, monotonic: Clock) -> Readiness:
    """The readiness of one ledger."""
    return Readiness(
        engine=engine,
        audit=audit_log,
        clock=lambda: datetime(2031, 5, 6, tzinfo=UTC),
        monotonic=monotonic,
    )


def test_a_ledger_that_can_be_written_is_ready(engine: Engine, audit_log: AuditLog) -> None:
    """Before the first record too."""
    assert asyncio.run(readiness_of(engine, audit_log, Clock()).check())


def test_without_its_table_it_is_not_ready(engine: Engine, audit_log: AuditLog) -> None:
    """A database that answers is not enough."""
    audit_records.drop(engine)
    assert not asyncio.run(readiness_of(engine, audit_log, Clock()).check())


def test_with_its_file_deleted_it_is_not_ready(sqlite_engine: Engine, tmp_path: Path) -> None:
    """A pooled connection still reads the file that lost its name."""
    audit_log = open_log(sqlite_engine, ORIGIN)
    (tmp_path / "gatewatch.db").unlink()
    assert not asyncio.run(readiness_of(sqlite_engine, audit_log, Clock()).check())
    assert audit_log.close()


def test_after_a_failed_record_it_is_not_ready_until_one_is_written(
    sqlite_engine: Engine,
    make_event: MakeEvent,
) -> None:
    """Reading still works; the check itself finds the end of the outage, once, and leaves a record of it."""
    audit_log = open_log(sqlite_engine, ORIGIN)
    clock = Clock()

    async def live() -> list[bool]:
        readiness = readiness_of(sqlite_engine, audit_log, clock)
        answers = [await readiness.check()]
        with sqlite_engine.begin() as connection:
            connection.execute(
                text("CREATE TRIGGER t BEFORE INSERT ON audit_records "
                     "BEGIN SELECT RAISE(FAIL, 'no'); END")
            )  # fmt: skip
        with pytest.raises(AuditUnavailableError):
            await audit_log.append(make_event())
        answers.append(await readiness.check())
        clock.seconds = 2
        answers.append(await readiness.check())
        with sqlite_engine.begin() as connection:
            connection.execute(text("DROP TRIGGER t"))
        for seconds in (4, 6):
            clock.seconds = seconds
            answers.append(await readiness.check())
        return answers

    assert asyncio.run(live()) == [True, False, False, True, True]
    with sqlite_engine.connect() as connection:
        (body,) = connection.execute(text("SELECT body FROM audit_records")).scalars()
    assert '"reason":"records are written again after a failure"' in body
    assert audit_log.close()


def test_a_ledger_that_was_cut_is_not_ready_until_it_is_back(
    engine: Engine, audit_log: AuditLog, make_event: MakeEvent
) -> None:
    """Nothing is written to find that out: the log looks by itself."""
    clock = Clock()
    audit_log.append_blocking(make_event())
    whole = copied(engine)

    async def live() -> list[bool]:
        readiness = readiness_of(engine, audit_log, clock)
        with engine.begin() as connection:
            cut(connection, 0)
        with pytest.raises(AuditUnavailableError):
            await audit_log.append(make_event())
        answers = [await readiness.check()]
        put_back(engine, whole)
        await audit_log.checkpoint()
        clock.seconds = 2
        answers.append(await readiness.check())
        return answers

    assert asyncio.run(live()) == [False, True]


def test_everybody_who_asks_shares_one_look(engine: Engine, audit_log: AuditLog) -> None:
    """While it runs and for a second after; one who goes away does not end it."""
    looks: list[int] = []
    may_end = threading.Event()

    def hold(_connection: Connection) -> None:
        looks.append(1)
        assert may_end.wait(20)

    event.listen(engine, "begin", hold)
    clock = Clock()

    async def ask() -> list[bool]:
        readiness = readiness_of(engine, audit_log, clock)
        waiting = [asyncio.create_task(readiness.check()) for _ in range(50)]
        await asyncio.sleep(0)
        waiting.pop().cancel()
        may_end.set()
        answers = await asyncio.gather(*waiting)
        clock.seconds = 0.9
        answers.append(await readiness.check())
        assert len(looks) == 1
        clock.seconds = 1.0
        answers.append(await readiness.check())
        return answers

    assert asyncio.run(ask()) == [True] * 51
    assert len(looks) == 2
