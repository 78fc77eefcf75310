"""Records are looked at before they are shown; test_query has what is changed in a table."""

from dataclasses import replace

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.audit.entries import audit_record, encode_event
from gateway.audit.found import is_undecodable, read_record, unreadable
from gateway.audit.merkle import hash_leaf
from gateway.errors import LedgerError
from gateway.store.records import AuditRecord
from tests.gateway.audit.stored_events import event


def stored(body: str | None = None) -> AuditRecord:
    """A record as it is written; with another body, hash and all, where one is given."""
    record = audit_record(encode_event(event(0, subject="camera-7")), origin="gateway", position=3)
    if body is None:
        return record
    return replace(record, body=body, leaf_hash=hash_leaf(body.encode()))


def test_a_record_as_it_was_written_is_taken() -> None:
    """With its place, its text and what that says."""
    found = read_record(stored())
    assert ("gateway", 3, stored().body) == (found.origin, found.position, found.body)
    assert ("camera-7", 3) == (found.members["subject"], found.members["format"])
    with pytest.raises(TypeError):
        found.members["subject"] = "camera-8"  # type: ignore[index]  # It cannot be changed.


@pytest.mark.parametrize(
    "body",
    [
        stored().body.replace('"input_bytes":null', '"input_bytes":' + "9" * 5000),
        stored().body.replace("camera-7", "camera-8"),
        stored().body.replace(":", ": "),
        stored().body.replace('"format":3', '"format":4'),
        "{}",
        "",
    ],
)
def test_another_body_is_not_taken_with_its_own_hash_either(body: str) -> None:
    """One that no gateway writes, or that says something else than its copies."""
    with pytest.raises(LedgerError, match="record 3 of gateway was changed or cannot be read"):
        read_record(stored(body))


@pytest.mark.parametrize(
    "record",
    [
        replace(stored(), leaf_hash=b"\x07" * 32),
        replace(stored(), origin="a b"),
        replace(stored(), origin=b"gateway"),  # type: ignore[arg-type]
        replace(stored(), position=-1),
        replace(stored(), recorded_at="2031-05-06T00:00:00.000001Z"),
        replace(stored(), action="models.read"),
        replace(stored(), outcome="answered"),
        replace(stored(), request_id="r"),
        replace(stored(), subject=None),
        replace(stored(), model_name="belt"),
    ],
)
def test_what_stands_beside_the_body_must_agree(record: AuditRecord) -> None:
    """Hash, place and copies."""
    with pytest.raises(LedgerError, match="was changed or cannot be read"):
        read_record(record)


def test_the_message_cannot_drive_a_terminal() -> None:
    """Somebody wrote the name of that ledger."""
    assert "record 0 of \\x1b[2J was changed" in unreadable("\x1b[2J", 0).message
    assert unreadable().message.startswith("a record was changed")


def test_what_is_no_text_is_a_changed_record(sqlite_engine: Engine) -> None:
    """And not a database that fails."""
    with sqlite_engine.connect() as connection, pytest.raises(SQLAlchemyError) as caught:
        connection.exec_driver_sql("SELECT cast(x'ff' AS TEXT)").all()
    assert is_undecodable(caught.value)
    with sqlite_engine.connect() as connection, pytest.raises(SQLAlchemyError) as caught:
        connection.exec_driver_sql("SELECT nothing")
    assert not is_undecodable(caught.value)
