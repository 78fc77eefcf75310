"""Appending: durable when it returns, together with whatever waits, and in time or not at all."""

import asyncio
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import Connection, Engine, event, text

from gateway.audit.events import AuditEvent, Outcome
from gateway.audit.writer import AuditLog
from gateway.errors import AuditUnavailableError
from tests.gateway.audit.conftest import ORIGIN
from tests.gateway.audit.faults import FakeOutages, Fault, Gate
from tests.gateway.ledgers import checked_bodies, open_log

MakeEvent = Callable[..., AuditEvent]
CheckLedger = Callable[[], list[str]]


def told(bodies: list[str]) -> list[tuple[str, str, str | None]]:
    """Request, outcome and code of each record."""
    parsed = map(json.loads, bodies)
    return [(body["request_id"], body["outcome"], body["code"]) for body in parsed]


def test_positions_count_from_zero(
    audit_log: AuditLog, make_event: MakeEvent, check_ledger: CheckLedger
) -> None:
    """Records stand in the ledger in the order in which they were appended."""

    async def append_three() -> list[int]:
        return [await audit_log.append(make_event(number)) for number in range(3)]

    assert asyncio.run(append_three()) == [0, 1, 2]
    assert [name for name, _, _ in told(check_ledger())] == ["request-0", "request-1", "request-2"]
    assert (audit_log.written, audit_log.failed, audit_log.size) == (3, 0, 3)


def test_append_is_durable_when_it_returns(
    engine: Engine, audit_log: AuditLog, make_event: MakeEvent
) -> None:
    """Another connection sees the record at once."""
    audit_log.append_blocking(make_event())
    assert len(checked_bodies(engine, ORIGIN)) == 1


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


def test_events_are_prepared_before_they_are_stored(
    engine: Engine, make_event: MakeEvent, check_ledger: CheckLedger
) -> None:
    """Once each."""
    log = open_log(engine, ORIGIN, prepare=lambda e: replace(e, request_id=f"<{e.request_id}>"))
    log.append_blocking(make_event(0))
    asyncio.run(log.append(make_event(1)))
    assert log.close()
    assert [name for name, _, _ in told(check_ledger())] == ["<request-0>", "<request-1>"]


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
    """Two logs that know nothing of one another write and sign one unbroken ledger."""
    logs = [open_log(engine, ORIGIN, checkpoint_seconds=0.01) for _ in range(2)]

    def append_many(log: AuditLog) -> list[int]:
        return [log.append_blocking(make_event(n)) for n in range(25)]

    with ThreadPoolExecutor(2) as pool:
        positions = [p for part in pool.map(append_many, logs) for p in part]
    assert [log.close() for log in logs] == [True, True]
    assert sorted(positions) == [*range(50)]
    assert len(check_ledger()) == 50


def test_killed_connection_refuses_or_recovers(
    postgres_engine: Engine, make_event: MakeEvent
) -> None:
    """A PostgreSQL that dropped our connection is found again by the next batch."""
    log = open_log(postgres_engine, ORIGIN)
    log.append_blocking(make_event(0))
    with postgres_engine.connect() as connection:
        kill = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        )
        connection.execute(text(f"{kill} AND datname = current_database()"))
    assert log.append_blocking(make_event(1)) == 1
    assert log.close()


@pytest.mark.parametrize("outcome", [Outcome.ADMITTED, Outcome.ANSWERED])
@pytest.mark.parametrize("is_blocking", [False, True], ids=["on a loop", "blocking"])
def test_a_refusal_follows_what_was_begun_and_took_too_long(
    engine: Engine,
    make_event: MakeEvent,
    check_ledger: CheckLedger,
    outcome: Outcome,
    is_blocking: bool,
) -> None:
    """The caller was told that nothing is recorded, so the record must not stand there alone."""
    log = open_log(engine, ORIGIN, timeout_seconds=0.05)
    gate = Gate(engine)
    late = replace(make_event(0), outcome=outcome)
    with pytest.raises(AuditUnavailableError) as caught:
        log.append_blocking(late) if is_blocking else asyncio.run(log.append(late))
    assert caught.value.reason == "the database took too long"
    gate.opened.set()
    assert log.close()
    assert told(check_ledger()) == [
        ("request-0", outcome.value, None),
        ("request-0", "failed", "audit_unavailable"),
    ]


def test_no_refusal_follows_what_was_refused_anyway(
    engine: Engine, make_event: MakeEvent, check_ledger: CheckLedger
) -> None:
    """Nothing was to follow it."""
    log = open_log(engine, ORIGIN, timeout_seconds=0.05)
    gate = Gate(engine)
    with pytest.raises(AuditUnavailableError):
        log.append_blocking(replace(make_event(0), outcome=Outcome.REFUSED))
    gate.opened.set()
    assert log.close()
    assert told(check_ledger()) == [("request-0", "refused", None)]


def test_what_was_given_up_before_it_was_begun_is_not_written(
    engine: Engine, make_event: MakeEvent, check_ledger: CheckLedger
) -> None:
    """It was no call; that it was refused is remembered as an outage."""
    outages = FakeOutages()
    log = open_log(engine, ORIGIN, timeout_seconds=0.05, outages=outages)
    gate = Gate(engine)

    async def give_up_two() -> list[int | BaseException]:
        first = asyncio.create_task(log.append(make_event(0)))
        await asyncio.to_thread(gate.reached.wait, 20)
        others = [log.append(make_event(1)), asyncio.to_thread(log.append_blocking, make_event(2))]
        return await asyncio.gather(first, *others, return_exceptions=True)

    assert {type(told) for told in asyncio.run(give_up_two())} == {AuditUnavailableError}
    gate.opened.set()
    assert log.close()
    assert [name for name, _, _ in told(check_ledger())] == ["request-0", "request-0"]
    assert ("the database took too long", 2) in outages.noted
    assert (log.written, log.failed) == (1, 2)


def test_a_refusal_that_could_not_be_written_is_written_later(
    engine: Engine, make_event: MakeEvent, check_ledger: CheckLedger
) -> None:
    """With the next record, behind whatever failed meanwhile."""
    log = open_log(engine, ORIGIN, timeout_seconds=0.05, checkpoint_seconds=60)
    fault = Fault(engine, "begin")
    fault.mend()

    def break_next(_connection: Connection) -> None:
        fault.is_on = True

    event.listen(engine, "commit", break_next)
    gate = Gate(engine)
    with pytest.raises(AuditUnavailableError):
        log.append_blocking(make_event(0))
    gate.opened.set()
    with pytest.raises(AuditUnavailableError):
        log.append_blocking(make_event(1))
    event.remove(engine, "commit", break_next)
    fault.mend()
    log._timeout_seconds = 20
    assert log.append_blocking(make_event(2)) == 2
    assert log.close()
    assert told(check_ledger()) == [
        ("request-0", "admitted", None),
        ("request-0", "failed", "audit_unavailable"),
        ("request-2", "admitted", None),
    ]


def test_a_commit_in_time_is_never_taken_back(
    engine: Engine, audit_log: AuditLog, make_event: MakeEvent, check_ledger: CheckLedger
) -> None:
    """A loop that was busy when its record became durable, and past the timeout, still gets the position."""
    is_durable = threading.Event()

    async def append() -> int:
        appending = asyncio.create_task(audit_log.append(make_event(0)))
        await asyncio.sleep(0)
        # The loop stands still past the timeout, and the timer is the first thing that it does.
        assert is_durable.wait(20)
        while audit_log.written == 0:
            pass
        audit_log._timeout_seconds = 0
        return await appending

    event.listen(engine, "commit", lambda _connection: is_durable.set())
    assert asyncio.run(append()) == 0
    assert told(check_ledger()) == [("request-0", "admitted", None)]


def test_full_queue_refuses_at_once(
    engine: Engine, make_event: MakeEvent, check_ledger: CheckLedger
) -> None:
    """Not more than max_waiting records pile up behind a slow database; who was turned away is remembered."""
    outages = FakeOutages()
    log = open_log(engine, ORIGIN, max_waiting=2, outages=outages)
    gate = Gate(engine)

    async def fill() -> list[int | BaseException]:
        first = asyncio.create_task(log.append(make_event(0)))
        await asyncio.to_thread(gate.reached.wait, 20)
        waiting = [asyncio.create_task(log.append(make_event(n))) for n in (1, 2)]
        await asyncio.sleep(0)
        assert log.waiting == 2
        with pytest.raises(AuditUnavailableError):
            await log.append(make_event(3))
        gate.opened.set()
        return await asyncio.gather(first, *waiting, return_exceptions=True)

    assert asyncio.run(fill()) == [0, 1, 2]
    assert log.close()
    assert len(check_ledger()) == 3
    assert outages.noted == [("too many records wait for the database", 1)]
    assert log.failed == 1
    assert not log.is_failing


def test_cancelled_waiter_does_not_disturb_the_others(
    engine: Engine, make_event: MakeEvent, check_ledger: CheckLedger
) -> None:
    """A client that goes away leaves its record and its neighbours untouched, and no refusal follows."""
    log = open_log(engine, ORIGIN)
    gate = Gate(engine)

    async def cancel_one() -> list[int | BaseException]:
        tasks = [asyncio.create_task(log.append(make_event(n))) for n in range(3)]
        await asyncio.to_thread(gate.reached.wait, 20)
        tasks[1].cancel()
        gate.opened.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, second, third = asyncio.run(cancel_one())
    assert (first, third) == (0, 2)
    assert isinstance(second, asyncio.CancelledError)
    assert log.close()
    assert len(check_ledger()) == 3


def test_loop_that_closed_early_does_not_disturb_the_others(
    engine: Engine, make_event: MakeEvent, check_ledger: CheckLedger
) -> None:
    """Waiters of a loop that ended are forgotten; their records stay."""
    log = open_log(engine, ORIGIN)
    gate = Gate(engine)

    async def leave() -> None:
        asyncio.create_task(log.append(make_event(0)))  # noqa: RUF006  (left behind on purpose)
        await asyncio.to_thread(gate.reached.wait, 20)

    asyncio.run(leave())
    gate.opened.set()
    assert log.append_blocking(make_event(1)) == 1
    assert log.close()
    assert len(check_ledger()) == 2


def test_close_writes_what_waits_and_refuses_the_rest(
    engine: Engine, make_event: MakeEvent, check_ledger: CheckLedger
) -> None:
    """Nothing handed over before the end is lost at the end."""
    outages = FakeOutages()
    log = open_log(engine, ORIGIN, outages=outages)

    async def append_and_close() -> list[int]:
        tasks = [asyncio.create_task(log.append(make_event(n))) for n in range(10)]
        await asyncio.sleep(0)
        assert await asyncio.to_thread(log.close)
        return await asyncio.gather(*tasks)

    assert asyncio.run(append_and_close()) == [*range(10)]
    with pytest.raises(AuditUnavailableError) as caught:
        log.append_blocking(make_event())
    assert caught.value.reason == "the audit log is closed"
    with pytest.raises(AuditUnavailableError) as caught:
        log.checkpoint_blocking()
    assert caught.value.reason == "the audit log is closed"
    assert outages.is_closed
    assert len(check_ledger()) == 10


def test_close_says_when_the_database_hangs(engine: Engine, make_event: MakeEvent) -> None:
    """A shutdown is not held up for ever."""
    log = open_log(engine, ORIGIN, timeout_seconds=0.05)
    gate = Gate(engine)
    with pytest.raises(AuditUnavailableError):
        log.append_blocking(make_event())
    assert not log.close(timeout_seconds=0.01)
    gate.opened.set()
    assert log.close()


def test_an_outage_is_recorded_with_the_first_record_after_it(
    engine: Engine, make_event: MakeEvent, check_ledger: CheckLedger
) -> None:
    """Before it, prepared like every other, and forgotten once it is durable."""
    outages = FakeOutages([make_event(77)])
    log = open_log(
        engine, ORIGIN, outages=outages, prepare=lambda e: replace(e, address="prepared")
    )
    fault = Fault(engine, "commit")
    with pytest.raises(AuditUnavailableError):
        log.append_blocking(make_event(0))
    assert outages.settled == 0
    fault.mend()
    assert log.append_blocking(make_event(1)) == 1
    assert log.append_blocking(make_event(2)) == 2
    assert log.close()
    bodies = check_ledger()
    assert [name for name, _, _ in told(bodies)] == ["request-77", "request-1", "request-2"]
    assert {json.loads(body)["address"] for body in bodies} == {"prepared"}
    assert (outages.settled, [n for _, n in outages.noted]) == (1, [1])


def test_a_fault_in_remembering_outages_changes_nothing(
    engine: Engine, make_event: MakeEvent, check_ledger: CheckLedger
) -> None:
    """Callers get their answers, and records are written."""

    class Failing(FakeOutages):
        def note(self, *, reason: str, refused: int) -> None:
            raise ZeroDivisionError

        def pending(self) -> list[AuditEvent]:
            raise ZeroDivisionError

        def settle(self) -> None:
            raise ZeroDivisionError

    log = open_log(engine, ORIGIN, outages=Failing())
    fault = Fault(engine, "begin")
    with pytest.raises(AuditUnavailableError):
        log.append_blocking(make_event(0))
    fault.mend()
    assert log.append_blocking(make_event(1)) == 0
    assert log.close()
    assert len(check_ledger()) == 1


def test_bug_in_the_writer_refuses_and_the_thread_lives(
    engine: Engine, audit_log: AuditLog, make_event: MakeEvent, caplog: pytest.LogCaptureFixture
) -> None:
    """An unforeseen error is logged and refuses the batch; the next one is written."""
    is_on = True

    def strike(_connection: Connection) -> None:
        if is_on:
            raise ZeroDivisionError

    event.listen(engine, "begin", strike)
    with pytest.raises(AuditUnavailableError):
        audit_log.append_blocking(make_event())
    is_on = False
    assert audit_log.append_blocking(make_event()) == 0
    assert caplog.records[0].message == "audit_writer_failed"


def test_an_outage_logs_one_line_a_second(
    engine: Engine, make_event: MakeEvent, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a traceback, with the cause; and whoever asks learns that records fail until one is written."""
    seconds = [10.0]
    log = open_log(engine, ORIGIN, monotonic=lambda: seconds[0])
    assert not log.is_failing
    fault = Fault(engine, "insert records")
    for now in (10.0, 10.9, 11.0):
        seconds[0] = now
        with pytest.raises(AuditUnavailableError):
            log.append_blocking(make_event())
        assert log.is_failing
    failure = "reason=the database failed: OSError: the disk went away"
    assert [record.message for record in caplog.records] == [
        f"audit_write_failed records=1 failed_so_far=1 {failure}",
        f"audit_write_failed records=1 failed_so_far=3 {failure}",
    ]
    assert all(record.exc_info is None for record in caplog.records)
    fault.mend()
    log.append_blocking(make_event(9))
    assert not log.is_failing
    assert log.close()
