"""What the tests of the ledger share: events, an open log, and a check of what is stored."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.audit.verify import verify_ledger
from gateway.audit.writer import AuditLog
from tests.gateway.ledgers import checked_bodies, open_log, signer_of

ORIGIN = "gatewatch.example/test"


@pytest.fixture
def make_event() -> Callable[..., AuditEvent]:
    """Builds an event whose request id is request-<number>."""

    def make(number: int = 0) -> AuditEvent:
        return AuditEvent(
            action=Action.PREDICT,
            outcome=Outcome.ADMITTED,
            recorded_at=datetime(2031, 5, 6, tzinfo=UTC) + timedelta(seconds=number),
            request_id=f"request-{number}",
        )

    return make


@pytest.fixture
def audit_log(engine: Engine) -> Iterator[AuditLog]:
    """An open log on an empty ledger, which signs only when it is asked to and at its end."""
    opened = open_log(engine, ORIGIN, checkpoint_seconds=60)
    yield opened
    assert opened.close()


@pytest.fixture
def check_ledger(engine: Engine) -> Callable[[], list[str]]:
    """Verifies everything from stored bytes, by the book and as the command does; the bodies in order."""

    def check() -> list[str]:
        bodies = checked_bodies(engine, ORIGIN)
        result = verify_ledger(engine, ORIGIN, verifiers=[signer_of(ORIGIN).verifier], workers=1)
        assert result.first_bad is None
        assert len(bodies) == result.count
        return bodies

    return check
