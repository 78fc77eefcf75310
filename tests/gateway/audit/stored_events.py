"""Ledgers that hold given events, written at once and signed."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine

from gateway.audit.entries import encode_event
from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.audit.signing import CheckpointSigner
from gateway.audit.tail import extend_tail, follow_tail
from gateway.store.database import write_transaction
from tests.gateway.ledgers import begin_ledger

MOMENT = datetime(2031, 5, 6, tzinfo=UTC)


def event(second: float = 0, **members: Any) -> AuditEvent:
    """An admitted prediction so many seconds after MOMENT, but for these members."""
    plain = AuditEvent(
        action=Action.PREDICT,
        outcome=Outcome.ADMITTED,
        recorded_at=MOMENT + timedelta(seconds=second),
    )
    return replace(plain, **members)


def store_events(
    engine: Engine, events: Sequence[AuditEvent], origin: str = "gateway", *, is_signed: bool = True
) -> None:
    """Add events to a ledger, which is begun if it is not there."""
    signer = CheckpointSigner(begin_ledger(engine, origin))
    with write_transaction(engine) as connection:
        tail = follow_tail(connection, origin, None)
        tail = extend_tail(connection, origin, tail, [*map(encode_event, events)])
        if is_signed:
            signer.sign(connection, tail)
