"""A ledger that grows on demand, and a witness of C2SP tlog-witness that keeps its state in memory."""

import sqlite3
from pathlib import Path

from sqlalchemy import Engine

from gateway.audit.checkpoints import SignedCheckpoint, checkpoint_text
from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.audit.history import LedgerHistory
from gateway.audit.merkle import LogInvalidError
from gateway.audit.notes import Verifier
from gateway.audit.witnessing import (
    RefusalKind,
    WitnessRefusalError,
    WitnessState,
    authenticate,
    consider,
    parse_add_checkpoint,
)
from gateway.commands.opening import utc_now
from tests.gateway.audit.sample_log import WITNESS
from tests.gateway.ledgers import begin_ledger, open_log

STATUSES = {
    RefusalKind.UNKNOWN_ORIGIN: 404,
    RefusalKind.BAD_SIGNATURE: 403,
    RefusalKind.MALFORMED: 400,
    RefusalKind.CONFLICT: 409,
    RefusalKind.INCONSISTENT: 422,
}


class GrowingLedger:
    """The ledger `gateway` of a database."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.verifier = begin_ledger(engine).verifier
        self.history = LedgerHistory(engine, self.verifier)

    def grow(self, count: int, *, word: str = "request") -> SignedCheckpoint:
        """Add records and sign; word makes them other records than those of another call."""
        log = open_log(self.engine)
        for number in range(count):
            log.append_blocking(event(f"{word}-{number}"))
        signed = log.checkpoint_blocking()
        assert log.close()
        return signed


class FakeWitness:
    """Knows one log; state is what it recorded, requests how often it was asked."""

    def __init__(self, verifier: Verifier) -> None:
        self.logs = {verifier.name: [verifier]}
        self.state: WitnessState | None = None
        self.requests = 0

    def add_checkpoint(self, body: bytes) -> tuple[int, str, bytes]:
        """Status, content type and body of the answer."""
        self.requests += 1
        try:
            request = parse_add_checkpoint(body)
            signed = authenticate(request.note, logs=self.logs)
            self.state = consider(signed.checkpoint, self.state, request.old_size, request.proof)
        except LogInvalidError:
            return 400, "text/plain", b""
        except WitnessRefusalError as refusal:
            if refusal.recorded_size is not None:
                return 409, "text/x.tlog.size", b"%d\n" % refusal.recorded_size
            return STATUSES[refusal.kind], "text/plain", b""
        line = WITNESS.cosign(checkpoint_text(signed.checkpoint), time_seconds=1700000000)
        return 200, "text/plain; charset=utf-8", f"{line}\n".encode()


def event(request_id: str) -> AuditEvent:
    """An answered prediction."""
    return AuditEvent(
        action=Action.PREDICT,
        outcome=Outcome.ANSWERED,
        recorded_at=utc_now(),
        request_id=request_id,
    )


def copy_database(engine: Engine, target: Path) -> Path:
    """A copy of an SQLite database as it is now, whatever is written to it later."""
    connection = sqlite3.connect(str(engine.url.database))
    connection.execute("VACUUM INTO ?", (str(target),))
    connection.close()
    return target
