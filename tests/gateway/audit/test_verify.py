"""Verifying a ledger where it is stored, whatever was done to the table."""

from collections.abc import Callable

import pytest
from sqlalchemy import Connection, Engine, delete, event, text, update
from sqlalchemy.exc import OperationalError

from gateway.audit.chain import FaultKind, genesis_tail
from gateway.audit.events import AuditEvent
from gateway.audit.verify import verify_ledger
from gateway.audit.writer import AuditLog
from gateway.errors import AuditUnavailableError
from gateway.store.tables import audit_records

ORIGIN = "gatewatch.example/test"
MakeEvent = Callable[..., AuditEvent]


@pytest.fixture
def ledger(engine: Engine, make_event: MakeEvent) -> Engine:
    """A database whose ledger has ten records."""
    audit_log = AuditLog(engine=engine, origin=ORIGIN)
    for number in range(10):
        audit_log.append_blocking(make_event(number))
    assert audit_log.close()
    return engine


def fault_after(engine: Engine, *statements: str, page_records: int = 4) -> tuple[int, FaultKind]:
    """Runs the statements as an intruder would and gives place and kind of the first fault."""
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    fault = verify_ledger(engine, ORIGIN, page_records=page_records).first_bad
    assert fault is not None
    return fault.position, fault.kind


def test_good_ledger_verifies(ledger: Engine) -> None:
    """All records are counted and the last hash is the stored one."""
    result = verify_ledger(ledger, ORIGIN)
    assert (result.origin, result.count, result.first_bad) == (ORIGIN, 10, None)
    with ledger.connect() as connection:
        statement = text("SELECT record_hash FROM audit_records WHERE position = 9")
        assert bytes(connection.execute(statement).scalar_one()) == result.last_hash


def test_empty_ledger_verifies(engine: Engine) -> None:
    """Nothing written is nothing wrong."""
    result = verify_ledger(engine, ORIGIN)
    assert (result.count, result.first_bad) == (0, None)
    assert result.last_hash == genesis_tail(ORIGIN).record_hash


@pytest.mark.parametrize(("page_records", "seen"), [(4, [4, 8, 10]), (5, [5, 10, 10]), (100, [10])])
def test_pages_report_progress(ledger: Engine, page_records: int, seen: list[int]) -> None:
    """After each page the caller learns how far it is."""
    progress: list[int] = []
    result = verify_ledger(ledger, ORIGIN, page_records=page_records, on_progress=progress.append)
    assert result.count == 10
    assert progress == seen


def test_edited_body_is_located(ledger: Engine) -> None:
    """An edit is found at its record, in a later page too."""
    edit = "UPDATE audit_records SET body = replace(body, 'admitted', 'refused') WHERE position=6"
    assert fault_after(ledger, edit) == (6, FaultKind.CHANGED)


def test_deleted_record_is_located(ledger: Engine) -> None:
    """A gap between two pages is found too."""
    assert fault_after(ledger, "DELETE FROM audit_records WHERE position=4") == (
        4,
        FaultKind.MISSING,
    )


def test_record_before_the_first_is_located(ledger: Engine) -> None:
    """A record hidden at a negative position is seen."""
    hide = "UPDATE audit_records SET position = -5 WHERE position = 9"
    assert fault_after(ledger, hide) == (0, FaultKind.REORDERED)


def test_exchanged_records_are_located(ledger: Engine) -> None:
    """Two records that changed places are named as such."""
    moves = ["99 WHERE position=5", "5 WHERE position=6", "6 WHERE position=99"]
    statements = [f"UPDATE audit_records SET position = {move}" for move in moves]
    assert fault_after(ledger, *statements) == (5, FaultKind.REORDERED)


def test_moved_time_is_located(ledger: Engine) -> None:
    """The time column cannot be shifted against the body."""
    with ledger.begin() as connection:
        moved = update(audit_records).where(audit_records.c.position == 3)
        later = text("SELECT recorded_at FROM audit_records WHERE position = 7")
        connection.execute(
            moved.values(recorded_at=later.columns(audit_records.c.recorded_at).scalar_subquery())
        )
    fault = verify_ledger(ledger, ORIGIN).first_bad
    assert fault is not None
    assert (fault.position, fault.kind) == (3, FaultKind.CHANGED)


def test_ledger_copied_under_another_name_is_refused(ledger: Engine) -> None:
    """The name is part of the chain."""
    with ledger.begin() as connection:
        connection.execute(update(audit_records).values(origin="other"))
    fault = verify_ledger(ledger, "other").first_bad
    assert fault is not None
    assert (fault.position, fault.kind) == (0, FaultKind.CHANGED)


def test_cut_tail_is_not_seen(ledger: Engine) -> None:
    """What a chain alone cannot show, said as a test: a shorter ledger is a good ledger."""
    with ledger.begin() as connection:
        connection.execute(delete(audit_records).where(audit_records.c.position >= 7))
    result = verify_ledger(ledger, ORIGIN)
    assert (result.count, result.first_bad) == (7, None)


@pytest.mark.parametrize(
    "change",
    [
        "body = CAST(body AS BLOB)",
        "body = CAST(X'FFFE' AS TEXT)",
        "record_hash = 'text'",
        "recorded_at = 'yesterday'",
        "recorded_at = 17",
    ],
)
def test_unreadable_record_is_located(
    sqlite_engine: Engine, make_event: MakeEvent, change: str
) -> None:
    """SQLite stores any type in any column; the record it happened to is named, not a stack trace."""
    audit_log = AuditLog(engine=sqlite_engine, origin=ORIGIN)
    for number in range(10):
        audit_log.append_blocking(make_event(number))
    assert audit_log.close()
    statement = f"UPDATE audit_records SET {change} WHERE position = 5"
    assert fault_after(sqlite_engine, statement) == (5, FaultKind.UNREADABLE)


def test_database_that_fails_is_not_a_bad_record(ledger: Engine) -> None:
    """A ledger that cannot be read is neither good nor bad."""

    def refuse(connection: Connection, *_: object) -> None:
        raise OperationalError("", {}, OSError("no disk"))

    event.listen(ledger, "before_cursor_execute", refuse)
    with pytest.raises(AuditUnavailableError):
        verify_ledger(ledger, ORIGIN)
