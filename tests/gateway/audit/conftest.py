"""What the tests of the ledger share: events, and an independent check of what is stored."""

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.audit.verify import verify_ledger
from gateway.store.queries.audit import load_audit_records

ORIGIN = "gatewatch.example/test"


@pytest.fixture
def make_event() -> Callable[..., AuditEvent]:
    """Builds an event whose request id is request-<number>."""

    def make(number: int = 0) -> AuditEvent:
        plain = AuditEvent(
            action=Action.PREDICT,
            outcome=Outcome.ADMITTED,
            recorded_at=datetime(2031, 5, 6, tzinfo=UTC) + timedelta(seconds=number),
        )
        return dataclasses.replace(plain, request_id=f"request-{number}")

    return make


@pytest.fixture
def check_ledger(engine: Engine) -> Callable[[], list[str]]:
    """Verifies everything from stored bytes; the bodies in order."""

    def check() -> list[str]:
        result = verify_ledger(engine, ORIGIN)
        assert result.first_bad is None
        with engine.connect() as connection:
            records = load_audit_records(connection, ORIGIN, limit=100_000)
        assert result.count == len(records)
        return [record.body for record in records]

    return check
