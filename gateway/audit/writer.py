"""Writing to the ledger: one thread, one transaction for everything that waits.

Rules: an append that returns is durable; one that raises may or may not be. The event loop never waits for the
database. What the ledger holds is read anew in every transaction and never remembered, so that several processes can
share one ledger and a failed commit needs no repair.
"""

import asyncio
import concurrent.futures
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from gateway.audit.chain import Tail, canonical_body, chain_records, checked_origin, genesis_tail
from gateway.audit.events import AuditEvent, printable
from gateway.errors import AuditUnavailableError, Code
from gateway.store.database import HeldConnection
from gateway.store.queries.audit import (
    find_last_position,
    find_record_hash,
    insert_audit_records,
    lock_ledger,
)

log = logging.getLogger(__name__)

# An outage fails many batches a second; one line a second says as much.
_LOG_SECONDS = 1.0
_MAX_CAUSE_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class _Entry:
    recorded_at: datetime
    body: str
    # None for a caller that blocks its own thread.
    loop: asyncio.AbstractEventLoop | None
    future: "asyncio.Future[int] | concurrent.futures.Future[int]"


class AuditLog:
    """Appends to one ledger until it is closed.

    engine: opened by gateway.store.database. origin: the ledger's name; processes that share it share the ledger.
    max_waiting: appends that may wait at once; further ones are refused. timeout_seconds: the longest that an append
    waits. monotonic: seconds. Raises SettingsError if the origin is not a name (see chain.checked_origin).
    """

    def __init__(
        self,
        *,
        engine: Engine,
        origin: str,
        max_waiting: int = 4096,
        timeout_seconds: float = 5.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._held = HeldConnection(engine)
        self._origin = checked_origin(origin)
        self._max_waiting = max_waiting
        self._timeout_seconds = timeout_seconds
        self._changed = threading.Condition()
        self._waiting: list[_Entry] = []
        self._is_closing = False
        self._tail = genesis_tail(origin)
        self._written = 0
        self._failed = 0
        self._is_failing = False
        self._monotonic = monotonic
        self._logged_at: float | None = None
        self._writer = threading.Thread(target=self._run, name="audit-writer", daemon=True)
        self._writer.start()

    @property
    def waiting(self) -> int:
        """Appends that wait for the writer."""
        return len(self._waiting)

    @property
    def written(self) -> int:
        """Records this process made durable."""
        return self._written

    @property
    def failed(self) -> int:
        """Appends this process refused because the database failed."""
        return self._failed

    @property
    def is_failing(self) -> bool:
        """Whether the last records could not be written; False before the first and once some are written again."""
        return self._is_failing

    @property
    def size(self) -> int:
        """Records in the ledger when this process last wrote to it; 0 before that."""
        return self._tail.count

    async def append(self, event: AuditEvent) -> int:
        """Make an event durable; its position in the ledger.

        Raises AuditUnavailableError if that fails, takes longer than timeout_seconds, or too many wait already. The
        record may exist even so. A cancelled append still writes: what was to be recorded did happen.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[int] = loop.create_future()
        self._enqueue(_Entry(event.recorded_at, canonical_body(event), loop, future))
        # A timer of the loop costs a fraction of asyncio.timeout, on a path that every call takes twice.
        timer = loop.call_later(self._timeout_seconds, _give_up, future)
        try:
            return await future
        finally:
            timer.cancel()

    def append_blocking(self, event: AuditEvent) -> int:
        """The same for commands, which have no event loop."""
        future: concurrent.futures.Future[int] = concurrent.futures.Future()
        self._enqueue(_Entry(event.recorded_at, canonical_body(event), None, future))
        try:
            return future.result(self._timeout_seconds)
        except TimeoutError as exc:
            raise _unavailable("the database took too long") from exc

    def close(self, *, timeout_seconds: float = 10.0) -> bool:
        """Refuse new events, write those that wait; False if that is not done within timeout_seconds."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._writer.join(timeout_seconds)
        return not self._writer.is_alive()

    def _enqueue(self, entry: _Entry) -> None:
        # The writer holds this lock only to swap the list, so the event loop never waits for a transaction here.
        with self._changed:
            if self._is_closing:
                raise _unavailable("the audit log is closed")
            if len(self._waiting) >= self._max_waiting:
                raise _unavailable("too many records wait for the database")
            self._waiting.append(entry)
            if len(self._waiting) == 1:
                self._changed.notify()

    def _run(self) -> None:
        while batch := self._next_batch():
            try:
                first = self._write(batch)
            except AuditUnavailableError as exc:
                self._fail(batch, exc)
            except Exception:
                # A bug must not end the thread: every later call would wait for its timeout.
                log.exception("audit_writer_failed")
                self._fail(batch, _unavailable("internal: the audit writer failed"))
            else:
                self._written += len(batch)
                self._is_failing = False
                _settle(batch, [*range(first, first + len(batch))])
        self._held.close()

    def _next_batch(self) -> list[_Entry]:
        # Empty only when closing and nothing waits. There is no timer: while one batch is being written the next
        # collects, so the batches grow with the load by themselves.
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closing)
            batch, self._waiting = self._waiting, []
            return batch

    def _write(self, batch: Sequence[_Entry]) -> int:
        # Killed before the commit: none of the batch exists and nobody was told that it does.
        # Killed after the commit: all of it exists; some callers were not told, and their calls never went on.
        # A commit that reports failure may have persisted. The callers are told that it failed, and the next batch
        # reads the tail from the database, so it goes on from whichever of the two is true.
        entries = [(entry.recorded_at, entry.body) for entry in batch]
        try:
            with self._held.write_transaction() as connection:
                lock_ledger(connection, self._origin)
                tail = self._checked_tail(connection)
                records, new_tail = chain_records(tail, entries, origin=self._origin)
                insert_audit_records(connection, records)
        except SQLAlchemyError as exc:
            raise _unavailable(f"the database failed: {_cause(exc)}") from exc
        self._tail = new_tail
        return tail.count

    def _checked_tail(self, connection: Connection) -> Tail:
        # What this process was told is durable must still be there, also under what others wrote since. Writing on
        # after a cut or a restored backup would hide the loss under good records.
        last = find_last_position(connection, self._origin)
        if last is not None and (type(last[0]), type(last[1])) != (int, bytes):
            # SQLite stores any type in any column; which record it is, verify says.
            raise _unavailable("the ledger's last record cannot be read")
        tail = genesis_tail(self._origin) if last is None else Tail(last[0] + 1, last[1])
        known = self._tail
        if tail.count > known.count > 0:
            is_kept = known.record_hash == find_record_hash(
                connection, self._origin, known.count - 1
            )
        else:
            is_kept = known.count == 0 or tail == known
        if not is_kept:
            raise _unavailable("the ledger lost records that were durable")
        return tail

    def _fail(self, batch: Sequence[_Entry], error: AuditUnavailableError) -> None:
        self._failed += len(batch)
        self._is_failing = True
        now = self._monotonic()
        if self._logged_at is None or now - self._logged_at >= _LOG_SECONDS:
            self._logged_at = now
            log.warning(
                "audit_write_failed records=%d failed_so_far=%d reason=%s",
                len(batch),
                self._failed,
                error.reason,
            )
        _settle(batch, [error] * len(batch))


def _settle(batch: Sequence[_Entry], results: Sequence[int | AuditUnavailableError]) -> None:
    # One wake-up a loop and batch: call_soon_threadsafe writes to a socket, and costs more than all the rest.
    by_loop: dict[
        asyncio.AbstractEventLoop | None, list[tuple[_Entry, int | AuditUnavailableError]]
    ]
    by_loop = {}
    for entry, result in zip(batch, results, strict=True):
        by_loop.setdefault(entry.loop, []).append((entry, result))
    for loop, settled in by_loop.items():
        if loop is None:
            _resolve(settled)
            continue
        try:
            loop.call_soon_threadsafe(_resolve, settled)
        except RuntimeError:
            # The loop is closed: nobody waits there any more.
            log.info("audit_waiters_gone", extra={"records": len(settled)})


def _resolve(settled: Sequence[tuple[_Entry, int | AuditUnavailableError]]) -> None:
    for entry, result in settled:
        # Cancelled and timed-out waiters are done already.
        if entry.future.done():
            continue
        if isinstance(result, int):
            entry.future.set_result(result)
        else:
            entry.future.set_exception(_unavailable(result.reason))


def _give_up(future: asyncio.Future[int]) -> None:
    if not future.done():
        future.set_exception(_unavailable("the database took too long"))


def _cause(exc: SQLAlchemyError) -> str:
    # One line and no statement; a driver's own message may have several.
    orig = exc.orig if isinstance(exc, DBAPIError) else exc
    return printable(f"{type(orig).__name__}: {orig}", max_characters=_MAX_CAUSE_CHARACTERS)


def _unavailable(reason: str) -> AuditUnavailableError:
    message = "the call could not be recorded, so it was not made; try again"
    return AuditUnavailableError(Code.AUDIT_UNAVAILABLE, message, reason=reason)
