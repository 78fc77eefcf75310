"""Appending: durable when it returns, refused when that fails, and right again when the database is."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import OperationalError

from gateway.audit.events import AuditEvent
from gateway.audit.verify import verify_ledger
from gateway.audit.writer import AuditLog
from gateway.errors import AuditUnavailableError, SettingsError

ORIGIN = "gatewatch.example/test"
MakeEvent = Callable[..., AuditEvent]
CheckLedger = Callable[[], list[str]]


@pytest.fixture
def audit_log(engine: Engine) -> Iterator[AuditLog]:
    """An open audit log on an empty ledger."""
    opened = AuditLog(engine=engine, origin=ORIGIN)
    yield opened
    assert opened.close()


class Gate:
    """Holds every transaction on an engine at its start until it is opened."""

    def __init__(self, engine: Engine) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()
        event.listen(engine, "begin", self._hold)

    def _hold(self, connection: Connection) -> None:
        self.reached.set()
        assert self.opened.wait(20)


class Fault:
    """Makes one kind of I/O call of an engine fail, before or after it took effect, until it is mended."""

    def __init__(self, engine: Engine, call: str, *, persists: bool) -> None:
        self.is_on = True
        self.struck = 0
        self._call = call
        if call == "commit":
            event.listen(engine, "commit", self._at_commit)
        else:
            moment = "after_cursor_execute" if persists else "before_cursor_execute"
            event.listen(engine, moment, self._at_statement)
        self._persists = persists

    def _at_statement(
        self, _connection: Connection, _cursor: object, statement: str, *_: object
    ) -> None:
        if self.is_on and statement.upper().startswith(self._call.upper()):
            self._strike()

    def _at_commit(self, connection: Connection) -> None:
        if self.is_on:
            if self._persists:
                raw = connection.connection.dbapi_connection
                assert raw is not None
                raw.commit()
            self._strike()

    def _strike(self) -> None:
        self.struck += 1
        raise OperationalError("", {}, OSError("the disk went away"))


def test_positions_count_from_zero(
    audit_log: AuditLog, make_event: MakeEvent, check_ledger: CheckLedger
) -> None:
    """Records stand in the ledger in the order in which they were appended."""

    async def append_three() -> list[int]:
        return [await audit_log.append(make_event(number)) for number in range(3)]

    assert asyncio.run(append_three()) == [0, 1, 2]
    bodies = check_ledger()
    assert ["request-0" in bodies[0], "request-1" in bodies[1], "request-2" in bodies[2]] == (
        [True, True, True]
    )
    assert (audit_log.written, audit_log.failed, audit_log.size) == (3, 0, 3)


def test_append_is_durable_when_it_returns(
    engine: Engine, audit_log: AuditLog, make_event: MakeEvent
) -> None:
    """Another connection sees the record at once."""
    audit_log.append_blocking(make_event())
    assert verify_ledger(engine, ORIGIN).count == 1


def test_waiting_appends_share_one_transaction(
    engine: Engine, audit_log: AuditLog, make_event: MakeEvent, check_ledger: CheckLedger
) -> None:
    """A hundred appends that come while one is written are written together."""
    commits: list[int] = []
    event.listen(engine, "commit", lambda _connection: commits.append(1))

    async def append_many() -> list[int]:
        return await asyncio.gather(*(audit_log.append(make_event(n)) for n in range(101)))

    assert asyncio.run(append_many()) == [*range(101)]
    assert len(commits) <= 3
    assert len(check_ledger()) == 101


def test_several_loops_and_threads_share_one_log(
    audit_log: AuditLog, make_event: MakeEvent, check_ledger: CheckLedger
) -> None:
    """Every waiter gets its own position, on whichever loop it waits."""

    async def append_many() -> list[int]:
        return await asyncio.gather(*(audit_log.append(make_event(n)) for n in range(20)))

    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(asyncio.run, append_many()) for _ in range(2)]
        blocking = [pool.submit(audit_log.append_blocking, make_event(n)) for n in range(10)]
        positions = [p for job in jobs for p in job.result()] + [b.result() for b in blocking]
    assert sorted(positions) == [*range(50)]
    assert len(check_ledger()) == 50


def test_several_processes_can_share_one_ledger(
    engine: Engine, make_event: MakeEvent, check_ledger: CheckLedger
) -> None:
    """Two logs that know nothing of one another write one unbroken chain."""
    logs = [AuditLog(engine=engine, origin=ORIGIN) for _ in range(2)]

    def append_many(audit_log: AuditLog) -> list[int]:
        return [audit_log.append_blocking(make_event(n)) for n in range(25)]

    with ThreadPoolExecutor(2) as pool:
        positions = [p for part in pool.map(append_many, logs) for p in part]
    assert [audit_log.close() for audit_log in logs] == [True, True]
    assert sorted(positions) == [*range(50)]
    assert len(check_ledger()) == 50


@pytest.mark.parametrize("persists", [False, True], ids=["not_persisted", "persisted"])
@pytest.mark.parametrize("call", ["select", "insert", "commit"])
def test_each_failing_call_refuses_and_recovers(
    engine: Engine,
    audit_log: AuditLog,
    make_event: MakeEvent,
    check_ledger: CheckLedger,
    call: str,
    persists: bool,
) -> None:
    """Whichever call fails, and whether or not it took effect, nothing is acknowledged and the chain stays whole."""
    audit_log.append_blocking(make_event(0))
    fault = Fault(engine, call, persists=persists)
    with pytest.raises(AuditUnavailableError):
        audit_log.append_blocking(make_event(1))
    fault.is_on = False
    ambiguous = 1 if call == "commit" and persists else 0
    assert len(check_ledger()) == 1 + ambiguous
    assert audit_log.append_blocking(make_event(2)) == 1 + ambiguous
    bodies = check_ledger()
    assert "request-2" in bodies[-1]
    assert (fault.struck, audit_log.failed) == (1, 1)


def test_failing_begin_refuses_and_recovers(
    engine: Engine, audit_log: AuditLog, make_event: MakeEvent, check_ledger: CheckLedger
) -> None:
    """A transaction that cannot start refuses its batch only."""
    fault = Fault(engine, "", persists=False)

    def strike(_connection: Connection) -> None:
        if fault.is_on:
            raise OperationalError("", {}, OSError("locked"))

    event.listen(engine, "begin", strike)
    with pytest.raises(AuditUnavailableError):
        audit_log.append_blocking(make_event(0))
    fault.is_on = False
    assert audit_log.append_blocking(make_event(1)) == 0
    assert len(check_ledger()) == 1


def test_failure_reaches_every_waiter_of_the_batch(
    engine: Engine, audit_log: AuditLog, make_event: MakeEvent, check_ledger: CheckLedger
) -> None:
    """Nobody of a failed batch goes on."""
    Fault(engine, "insert", persists=False)

    async def append_many() -> list[int | BaseException]:
        appends = (audit_log.append(make_event(n)) for n in range(20))
        return await asyncio.gather(*appends, return_exceptions=True)

    results = asyncio.run(append_many())
    assert {type(result) for result in results} == {AuditUnavailableError}
    assert check_ledger() == []


def test_bug_in_the_writer_refuses_and_the_thread_lives(
    engine: Engine, audit_log: AuditLog, make_event: MakeEvent, caplog: pytest.LogCaptureFixture
) -> None:
    """An unforeseen error is logged and refuses the batch; the next one is written."""
    is_on = True

    def strike(*_: object) -> None:
        if is_on:
            raise ZeroDivisionError

    event.listen(engine, "begin", strike)
    with pytest.raises(AuditUnavailableError):
        audit_log.append_blocking(make_event())
    is_on = False
    assert audit_log.append_blocking(make_event()) == 0
    assert caplog.records[0].message == "audit_writer_failed"


def test_full_disk_refuses_and_recovers(sqlite_engine: Engine, make_event: MakeEvent) -> None:
    """SQLite's own "disk is full" refuses calls until there is room again."""
    audit_log = AuditLog(engine=sqlite_engine, origin=ORIGIN)

    def limit(pages: int) -> None:
        def set_limit(connection: Connection) -> None:
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

        event.listen(sqlite_engine, "begin", set_limit)

    with sqlite_engine.connect() as connection:
        used = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    limit(used + 2)

    def fill() -> None:
        for number in range(1000):
            audit_log.append_blocking(make_event(number))

    with pytest.raises(AuditUnavailableError):
        fill()
    limit(100_000)
    before = verify_ledger(sqlite_engine, ORIGIN).count
    assert audit_log.append_blocking(make_event()) == before
    result = verify_ledger(sqlite_engine, ORIGIN)
    assert (result.count, result.first_bad) == (before + 1, None)
    assert audit_log.close()


def test_killed_connection_refuses_or_recovers(
    postgres_engine: Engine, make_event: MakeEvent
) -> None:
    """A PostgreSQL that dropped our connection is found again by the next batch."""
    audit_log = AuditLog(engine=postgres_engine, origin=ORIGIN)
    audit_log.append_blocking(make_event(0))
    with postgres_engine.connect() as connection:
        kill = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        )
        connection.execute(text(f"{kill} AND datname = current_database()"))
    assert audit_log.append_blocking(make_event(1)) == 1
    assert audit_log.close()


def test_append_gives_up_after_its_timeout(
    engine: Engine, make_event: MakeEvent, check_ledger: CheckLedger
) -> None:
    """A database that hangs refuses the call in time; what was handed over is written in the end."""
    audit_log = AuditLog(engine=engine, origin=ORIGIN, timeout_seconds=0.05)
    gate = Gate(engine)
    with pytest.raises(AuditUnavailableError):
        asyncio.run(audit_log.append(make_event(0)))
    with pytest.raises(AuditUnavailableError):
        audit_log.append_blocking(make_event(1))
    gate.opened.set()
    assert audit_log.close()
    assert len(check_ledger()) == 2


def test_full_queue_refuses_at_once(
    engine: Engine, make_event: MakeEvent, check_ledger: CheckLedger
) -> None:
    """Not more than max_waiting records pile up behind a slow database."""
    audit_log = AuditLog(engine=engine, origin=ORIGIN, max_waiting=2)
    gate = Gate(engine)

    async def fill() -> list[int | BaseException]:
        first = asyncio.create_task(audit_log.append(make_event(0)))
        await asyncio.to_thread(gate.reached.wait, 20)
        waiting = [asyncio.create_task(audit_log.append(make_event(n))) for n in (1, 2)]
        await asyncio.sleep(0)
        assert audit_log.waiting == 2
        with pytest.raises(AuditUnavailableError):
            await audit_log.append(make_event(3))
        gate.opened.set()
        return await asyncio.gather(first, *waiting, return_exceptions=True)

    assert asyncio.run(fill()) == [0, 1, 2]
    assert audit_log.close()
    assert len(check_ledger()) == 3


def test_cancelled_waiter_does_not_disturb_the_others(
    engine: Engine, make_event: MakeEvent, check_ledger: CheckLedger
) -> None:
    """A client that goes away leaves its record and its neighbours untouched."""
    audit_log = AuditLog(engine=engine, origin=ORIGIN)
    gate = Gate(engine)

    async def cancel_one() -> list[int | BaseException]:
        tasks = [asyncio.create_task(audit_log.append(make_event(n))) for n in range(3)]
        await asyncio.to_thread(gate.reached.wait, 20)
        tasks[1].cancel()
        gate.opened.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, second, third = asyncio.run(cancel_one())
    assert (first, third) == (0, 2)
    assert isinstance(second, asyncio.CancelledError)
    assert audit_log.close()
    assert len(check_ledger()) == 3


def test_loop_that_closed_early_does_not_disturb_the_others(
    engine: Engine, make_event: MakeEvent, check_ledger: CheckLedger
) -> None:
    """Waiters of a loop that ended are forgotten; their records stay."""
    audit_log = AuditLog(engine=engine, origin=ORIGIN)
    gate = Gate(engine)

    async def leave() -> None:
        asyncio.create_task(audit_log.append(make_event(0)))  # noqa: RUF006  (left behind on purpose)
        await asyncio.to_thread(gate.reached.wait, 20)

    asyncio.run(leave())
    gate.opened.set()
    assert audit_log.append_blocking(make_event(1)) == 1
    assert audit_log.close()
    assert len(check_ledger()) == 2


def test_close_writes_what_waits_and_refuses_the_rest(
    engine: Engine, make_event: MakeEvent, check_ledger: CheckLedger
) -> None:
    """Nothing handed over before the end is lost at the end."""
    audit_log = AuditLog(engine=engine, origin=ORIGIN)

    async def append_and_close() -> list[int]:
        tasks = [asyncio.create_task(audit_log.append(make_event(n))) for n in range(10)]
        await asyncio.sleep(0)
        assert await asyncio.to_thread(audit_log.close)
        return await asyncio.gather(*tasks)

    assert asyncio.run(append_and_close()) == [*range(10)]
    with pytest.raises(AuditUnavailableError) as caught:
        audit_log.append_blocking(make_event())
    assert caught.value.reason == "the audit log is closed"
    assert len(check_ledger()) == 10


def test_close_says_when_the_database_hangs(engine: Engine, make_event: MakeEvent) -> None:
    """A shutdown is not held up for ever."""
    audit_log = AuditLog(engine=engine, origin=ORIGIN, timeout_seconds=0.05)
    gate = Gate(engine)
    with pytest.raises(AuditUnavailableError):
        audit_log.append_blocking(make_event())
    assert not audit_log.close(timeout_seconds=0.01)
    gate.opened.set()
    assert audit_log.close()


def test_an_outage_logs_one_line_a_second(
    engine: Engine, make_event: MakeEvent, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a traceback, with the cause; and whoever asks learns that records fail until one is written."""
    now = [10.0, 10.9, 11.0]
    audit_log = AuditLog(engine=engine, origin=ORIGIN, monotonic=lambda: now.pop(0))
    assert not audit_log.is_failing
    fault = Fault(engine, "insert", persists=False)
    for number in range(3):
        with pytest.raises(AuditUnavailableError):
            audit_log.append_blocking(make_event(number))
        assert audit_log.is_failing
    failure = "reason=the database failed: OSError: the disk went away"
    assert [record.message for record in caplog.records] == [
        f"audit_write_failed records=1 failed_so_far=1 {failure}",
        f"audit_write_failed records=1 failed_so_far=3 {failure}",
    ]
    assert {record.exc_info for record in caplog.records} == {None}
    fault.is_on = False
    audit_log.append_blocking(make_event(3))
    assert not audit_log.is_failing
    assert audit_log.close()


def test_bad_origin_is_refused(engine: Engine) -> None:
    """A ledger's name is checked before anything is written under it."""
    with pytest.raises(SettingsError):
        AuditLog(engine=engine, origin="two words")
