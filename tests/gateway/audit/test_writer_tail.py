"""Appending to a ledger that is not what it was: records that were durable must still be there."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, delete, text

from gateway.audit.events import AuditEvent
from gateway.audit.verify import verify_ledger
from gateway.audit.writer import AuditLog
from gateway.errors import AuditUnavailableError
from gateway.store.tables import audit_records

ORIGIN = "gatewatch.example/test"
MakeEvent = Callable[..., AuditEvent]


@pytest.fixture
def audit_log(engine: Engine) -> Iterator[AuditLog]:
    """An open audit log on an empty ledger."""
    opened = AuditLog(engine=engine, origin=ORIGIN)
    yield opened
    assert opened.close()


@pytest.mark.parametrize("kept", [0, 2])
def test_ledger_that_lost_records_is_not_written_on(
    engine: Engine, audit_log: AuditLog, make_event: MakeEvent, kept: int
) -> None:
    """After a cut or a restored backup, good records must not grow over the loss."""
    for number in range(3):
        audit_log.append_blocking(make_event(number))
    with engine.begin() as connection:
        connection.execute(delete(audit_records).where(audit_records.c.position >= kept))
    with pytest.raises(AuditUnavailableError) as caught:
        audit_log.append_blocking(make_event(3))
    assert caught.value.reason == "the ledger lost records that were durable"
    assert verify_ledger(engine, ORIGIN).count == kept


def test_ledger_whose_tail_was_replaced_is_not_written_on(
    engine: Engine, audit_log: AuditLog, make_event: MakeEvent
) -> None:
    """The same number of records with another last hash is another ledger."""
    audit_log.append_blocking(make_event(0))
    with engine.begin() as connection:
        connection.execute(delete(audit_records))
    other = AuditLog(engine=engine, origin=ORIGIN)
    other.append_blocking(make_event(7))
    assert other.close()
    with pytest.raises(AuditUnavailableError):
        audit_log.append_blocking(make_event(1))


def test_a_cut_is_seen_under_what_others_wrote(
    engine: Engine, audit_log: AuditLog, make_event: MakeEvent
) -> None:
    """Somebody who cuts the ledger and fills it up again does not get a good record on top."""
    for number in range(3):
        audit_log.append_blocking(make_event(number))
    with engine.begin() as connection:
        connection.execute(delete(audit_records).where(audit_records.c.position >= 1))
    other = AuditLog(engine=engine, origin=ORIGIN)
    for number in range(10, 15):
        other.append_blocking(make_event(number))
    assert other.close()
    with pytest.raises(AuditUnavailableError) as caught:
        audit_log.append_blocking(make_event(3))
    assert caught.value.reason == "the ledger lost records that were durable"
    assert verify_ledger(engine, ORIGIN).count == 6


def test_a_last_record_of_a_wrong_type_refuses(
    sqlite_engine: Engine, make_event: MakeEvent
) -> None:
    """With a reason that says where to look, not as a bug."""
    audit_log = AuditLog(engine=sqlite_engine, origin=ORIGIN)
    for number in range(2):
        audit_log.append_blocking(make_event(number))
    with sqlite_engine.begin() as connection:
        connection.execute(text("UPDATE audit_records SET position = 'abc' WHERE position = 1"))
    with pytest.raises(AuditUnavailableError) as caught:
        audit_log.append_blocking(make_event(2))
    assert caught.value.reason == "the ledger's last record cannot be read"
    assert audit_log.close()


def test_ledger_whose_file_was_deleted_is_not_written_on(
    sqlite_engine: Engine, tmp_path: Path, make_event: MakeEvent
) -> None:
    """A record in a file without a name would be acknowledged and lost."""
    audit_log = AuditLog(engine=sqlite_engine, origin=ORIGIN)
    audit_log.append_blocking(make_event(0))
    (tmp_path / "gatewatch.db").unlink()
    for number in (1, 2):
        with pytest.raises(AuditUnavailableError):
            audit_log.append_blocking(make_event(number))
    assert audit_log.close()
