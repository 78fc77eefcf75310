"""Reading ledgers for a serving process: searches and proofs in threads, and a checkpoint where a proof wants one.

Rules: the event loop never waits for the database; auditors who search do not take the threads that calls need; nothing
is recorded here, which is the pipeline's.
"""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.audit.found import FoundRecord, is_undecodable, unreadable
from gateway.audit.proving import find_record, make_proof, newest_note
from gateway.audit.query import Forms, LedgerQuery, Page, read_page
from gateway.audit.writer import AuditLog
from gateway.errors import AuditUnavailableError, Code, OverloadedError, ServiceError

# After this a page ends with what was found, and its cursor goes on.
PAGE_SECONDS = 2.0
# At a time; what comes while as many wait again is refused.
_MAX_SEARCHES = 2
_MAX_WAITING = 8


Answer = TypeVar("Answer")


class LedgerReader:
    """Reads every ledger of one database; audit: the one that this process writes."""

    def __init__(
        self,
        *,
        engine: Engine,
        audit: AuditLog,
        forms: Forms,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """forms: in which forms a value may stand in records (gateway.audit.pseudonyms)."""
        self.forms = forms
        self._engine = engine
        self._audit = audit
        self._monotonic = monotonic
        self._searches = asyncio.Semaphore(_MAX_SEARCHES)
        self._waiting = 0

    @property
    def origin(self) -> str:
        """The ledger that this process writes."""
        return self._audit.origin

    async def page(self, query: LedgerQuery) -> Page:
        """One page of records.

        Raises LedgerError, AuditUnavailableError if the database fails, OverloadedError if too many search already.
        """
        if self._waiting >= _MAX_WAITING:
            message = "too many searches of the ledger wait already: come back later"
            raise OverloadedError(message, retry_after_seconds=int(2 * PAGE_SECONDS))
        self._waiting += 1
        try:
            async with self._searches:
                ends_at = self._monotonic() + PAGE_SECONDS
                return await self._ask(
                    lambda connection: read_page(
                        connection, query, is_out_of_time=lambda: self._monotonic() >= ends_at
                    )
                )
        finally:
            self._waiting -= 1

    async def record(self, origin: str, index: int) -> FoundRecord | None:
        """The record at an index; None if there is none. Raises LedgerError, AuditUnavailableError."""
        return await self._ask(lambda connection: find_record(connection, origin, index))

    async def newest_note(self, origin: str) -> bytes | None:
        """The newest signed checkpoint of a ledger; None if there is no such ledger.

        Raises LedgerError if it cannot be read, AuditUnavailableError.
        """
        stored = await self._ask(lambda connection: newest_note(connection, origin))
        return None if stored is None else stored.note.encode()

    async def prove(self, record: FoundRecord) -> bytes:
        """The proof file of a record.

        Raises LedgerError if it cannot be proved, AuditUnavailableError, ServiceError (NOT_READY) while it is in
        another process's ledger and no checkpoint covers it.
        """
        proof = await self._ask(lambda connection: make_proof(connection, record))
        if proof is None and record.origin == self.origin:
            await self._audit.checkpoint()
            proof = await self._ask(lambda connection: make_proof(connection, record))
        if proof is None:
            message = "no signed checkpoint covers the record yet: ask again in a moment"
            raise ServiceError(Code.NOT_READY, message, reason="not covered")
        return proof

    async def _ask(self, question: Callable[[Connection], Answer]) -> Answer:
        def ask() -> Answer:
            with self._engine.connect() as connection:
                return question(connection)

        try:
            return await asyncio.to_thread(ask)
        except SQLAlchemyError as exc:
            if is_undecodable(exc):
                raise unreadable() from exc
            message = "the ledger cannot be read at this moment; try again"
            raise AuditUnavailableError(
                Code.AUDIT_UNAVAILABLE, message, reason=type(exc).__name__
            ) from exc
