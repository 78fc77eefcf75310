"""Whether a call could be recorded now.

Rules: strangers may ask as often as they like, so one look at the database serves everybody who asks within a second.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.audit.writer import AuditLog
from gateway.errors import AuditUnavailableError
from gateway.store.queries.audit import find_last_position

_KEPT_SECONDS = 1.0


class Readiness:
    """The answer to "can records be written?" of one event loop, looked up at most once a second."""

    def __init__(
        self,
        *,
        engine: Engine,
        audit: AuditLog,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """monotonic: seconds. audit: writes to a ledger in this database."""
        self._engine = engine
        self._audit = audit
        self._clock = clock
        self._monotonic = monotonic
        self._answer = False
        self._looked_at: float | None = None
        self._look: asyncio.Task[bool] | None = None

    async def check(self) -> bool:
        """Whether the ledger can be read and the last record was written, as of a second ago at most."""
        if self._look is None:
            is_fresh = (
                self._looked_at is not None and self._monotonic() - self._looked_at < _KEPT_SECONDS
            )
            if is_fresh:
                return self._answer and not self._audit.is_failing
            self._look = asyncio.create_task(asyncio.to_thread(self._can_record))
            self._look.add_done_callback(self._keep)
        # Shielded: one caller that goes away must not take the answer from the others.
        return await asyncio.shield(self._look)

    def _keep(self, look: asyncio.Task[bool]) -> None:
        self._look = None
        self._looked_at = self._monotonic()
        self._answer = not look.cancelled() and look.exception() is None and look.result()

    def _can_record(self) -> bool:
        try:
            with self._engine.connect() as connection:
                find_last_position(connection, self._audit.origin)
            if self._audit.is_broken:
                return False
            if self._audit.is_failing:
                # No load balancer sends calls here meanwhile, so this is what finds that the database is well again.
                self._audit.append_blocking(self._resumed())
        except (SQLAlchemyError, AuditUnavailableError):
            return False
        return True

    def _resumed(self) -> AuditEvent:
        return AuditEvent(
            action=Action.AUDIT_OUTAGE,
            outcome=Outcome.ANSWERED,
            recorded_at=self._clock(),
            reason="records are written again after a failure",
        )
