"""A small ledger with checkpoints at chosen sizes, and what an intruder does to it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, text

from gateway.audit.checkpoints import SignedCheckpoint, open_checkpoint
from gateway.audit.entries import Entry, encode_event
from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.audit.signing import CheckpointSigner
from gateway.audit.tail import extend_tail, follow_tail
from gateway.store.database import write_transaction
from gateway.store.queries.audit_trees import load_checkpoints
from tests.gateway.ledgers import begin_ledger, signer_of

ORIGIN = "gatewatch.example/test"

Statement = str | tuple[str, Mapping[str, object]]
_PLAIN = AuditEvent(
    action=Action.PREDICT,
    outcome=Outcome.ADMITTED,
    recorded_at=datetime(2031, 5, 6, tzinfo=UTC),
    subject="conveyor-7",
    model_name="belt",
)


def entry(number: int) -> Entry:
    """The number-th record's content."""
    recorded_at = _PLAIN.recorded_at + timedelta(seconds=number)
    return encode_event(replace(_PLAIN, recorded_at=recorded_at, request_id=f"request-{number}"))


def write_ledger(engine: Engine, *steps: int, unsigned: int = 0, origin: str = ORIGIN) -> None:
    """Append records in steps, each signed at its end, and some that are not."""
    signer = CheckpointSigner(begin_ledger(engine, origin))
    for step, is_signed in (*((step, True) for step in steps), (unsigned, False)):
        with write_transaction(engine) as connection:
            tail = follow_tail(connection, origin, None)
            new = [entry(number) for number in range(tail.size, tail.size + step)]
            if new:
                tail = extend_tail(connection, origin, tail, new)
            if is_signed:
                signer.sign(connection, tail)


def newest_checkpoint(engine: Engine, *, up_to_size: int | None = None) -> SignedCheckpoint:
    """The newest checkpoint, or that of up to a size, as a witness would keep it."""
    with engine.connect() as connection:
        every = load_checkpoints(connection, ORIGIN, limit=10_000)
    stored = [each for each in every if up_to_size is None or each.size <= up_to_size][-1]
    verifiers = [signer_of(ORIGIN).verifier]
    return open_checkpoint(stored.note.encode(), origin=ORIGIN, verifiers=verifiers)


def run(engine: Engine, *statements: Statement) -> None:
    """Run statements as somebody who can write to the database."""
    with write_transaction(engine) as connection:
        for statement in statements:
            if isinstance(statement, str):
                connection.execute(text(statement))
            else:
                connection.execute(text(statement[0]), dict(statement[1]))


def exchange(first: int, other: int) -> Sequence[str]:
    """Statements that let two records change places."""
    moves = ((first, -1), (other, first), (-1, other))
    return [
        f"UPDATE audit_records SET position = {new} WHERE position = {old}" for old, new in moves
    ]
