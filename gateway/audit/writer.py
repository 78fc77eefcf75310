"""Writing to the ledger: one thread, one transaction for everything that waits, and a signed checkpoint soon after.

Rules: an append that returns is durable; one that raises is not, or its caller's refusal follows it as a record. The
event loop never waits for the database. A failed commit needs no repair: the next transaction reads where the ledger
stands. A ledger that does not go on from what was signed is not written to.
"""

import asyncio
import concurrent.futures
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from gateway.audit.checkpoints import SignedCheckpoint
from gateway.audit.entries import encode_event
from gateway.audit.events import AuditEvent, printable
from gateway.audit.merkle import LogInvalidError
from gateway.audit.signing import CheckpointSigner
from gateway.audit.tail import Tail, extend_tail, follow_tail
from gateway.audit.waiting import Waiting, give_up, settle, took_too_long, unavailable
from gateway.errors import AuditUnavailableError
from gateway.store.database import HeldConnection
from gateway.store.queries.audit import lock_ledger

log = logging.getLogger(__name__)

# An outage fails many batches a second; one line a second says as much.
_LOG_SECONDS = 1.0
_MAX_CAUSE_CHARACTERS = 300
# At ten thousand records a second, the bound of what is durable and not yet signed.
_CHECKPOINT_RECORDS = 10_000


class Outages(Protocol):
    """What remembers, outside of the database, that nothing could be recorded (gateway.audit.emergency)."""

    def note(self, *, reason: str, refused: int) -> None:
        """Remember durably that this many more appends were refused."""

    def pending(self) -> Sequence[AuditEvent]:
        """What is remembered and not yet in the ledger, as events."""

    def settle(self) -> None:
        """Forget what the last pending() gave: it is durable in the ledger now."""


class AuditLog:
    """Appends to one ledger until it is closed.

    engine: opened by gateway.store.database. signer: its origin is the ledger's name; processes that share it share
    the ledger. checkpoint_seconds: the longest that a durable record is not covered by a signed checkpoint.
    on_checkpoint: called in the writer's thread with each checkpoint once it is durable; must not block.
    prepare: what is done to each event before it is stored (pseudonyms). max_waiting: appends that may wait at once;
    further ones are refused. timeout_seconds: the longest that an append waits. monotonic: seconds.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        signer: CheckpointSigner,
        checkpoint_seconds: float = 1.0,
        on_checkpoint: Callable[[SignedCheckpoint], None] = lambda _signed: None,
        prepare: Callable[[AuditEvent], AuditEvent] = lambda event: event,
        outages: Outages | None = None,
        max_waiting: int = 4096,
        timeout_seconds: float = 5.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._held = HeldConnection(engine)
        self._signer = signer
        self._checkpoint_seconds = checkpoint_seconds
        self._on_checkpoint = on_checkpoint
        self._prepare = prepare
        self._outages = outages
        self._max_waiting = max_waiting
        self._timeout_seconds = timeout_seconds
        self._changed = threading.Condition()
        self._waiting: list[Waiting] = []
        self._wanted: list[concurrent.futures.Future[SignedCheckpoint]] = []
        self._is_closing = False
        self._tail: Tail | None = None
        self._signed: SignedCheckpoint | None = None
        self._sign_at: float | None = None
        self._broken: str | None = None
        self._written = 0
        self._failed = 0
        self._is_failing = False
        self._monotonic = monotonic
        self._logged_at: float | None = None
        self._writer = threading.Thread(target=self._run, name="audit-writer", daemon=True)
        self._writer.start()

    @property
    def origin(self) -> str:
        """The ledger's name."""
        return self._signer.origin

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
    def is_broken(self) -> bool:
        """Whether the ledger did not go on from what was signed when that was last looked at."""
        return self._broken is not None

    @property
    def size(self) -> int:
        """Records in the ledger when this process last wrote to it; 0 before that."""
        return 0 if self._tail is None else self._tail.size

    @property
    def signed_size(self) -> int:
        """Records that the newest checkpoint of this process covers; 0 before the first."""
        return 0 if self._signed is None else self._signed.checkpoint.size

    async def append(self, event: AuditEvent) -> int:
        """Make an event durable; its position in the ledger.

        Raises AuditUnavailableError if that fails, takes longer than timeout_seconds, or too many wait already. Where
        the record exists even so, one that says that the call was refused follows it. A cancelled append still writes:
        what was to be recorded did happen.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[int] = loop.create_future()
        self._enqueue(Waiting(self._prepare(event), loop, future))
        # A timer of the loop costs a fraction of asyncio.timeout, on a path that every call takes twice.
        timer = loop.call_later(self._timeout_seconds, give_up, future)
        try:
            return await future
        finally:
            timer.cancel()

    def append_blocking(self, event: AuditEvent) -> int:
        """The same for commands, which have no event loop."""
        future: concurrent.futures.Future[int] = concurrent.futures.Future()
        self._enqueue(Waiting(self._prepare(event), None, future))
        try:
            return future.result(self._timeout_seconds)
        except TimeoutError as exc:
            # Not cancelled: it became durable at this moment.
            if not future.cancel():
                return future.result()
            raise took_too_long() from exc

    def checkpoint_blocking(self) -> SignedCheckpoint:
        """A checkpoint that covers every record that is durable now.

        Raises AuditUnavailableError if none can be signed within timeout_seconds.
        """
        try:
            return self._want_checkpoint().result(self._timeout_seconds)
        except TimeoutError as exc:
            raise took_too_long() from exc

    async def checkpoint(self) -> SignedCheckpoint:
        """The same for an event loop."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await asyncio.wrap_future(self._want_checkpoint())
        except TimeoutError as exc:
            raise took_too_long() from exc

    def close(self, *, timeout_seconds: float = 10.0) -> bool:
        """Refuse new events, write and sign those that wait; False if that is not done within timeout_seconds."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._writer.join(timeout_seconds)
        return not self._writer.is_alive()

    def _enqueue(self, waiting: Waiting) -> None:
        # The writer holds this lock only to swap the list, so the event loop never waits for a transaction here.
        with self._changed:
            if self._is_closing:
                raise unavailable("the audit log is closed")
            if len(self._waiting) >= self._max_waiting:
                raise unavailable("too many records wait for the database")
            self._waiting.append(waiting)
            if len(self._waiting) == 1:
                self._changed.notify()

    def _want_checkpoint(self) -> "concurrent.futures.Future[SignedCheckpoint]":
        future: concurrent.futures.Future[SignedCheckpoint] = concurrent.futures.Future()
        with self._changed:
            if self._is_closing:
                raise unavailable("the audit log is closed")
            self._wanted.append(future)
            self._changed.notify()
        return future

    def _run(self) -> None:
        is_last = False
        while not is_last:
            batch, wanted, is_last = self._next_work()
            if batch:
                self._write_batch(batch)
            if wanted or self._is_checkpoint_due(is_last=is_last):
                self._sign(wanted)
        self._held.close()

    def _next_work(
        self,
    ) -> "tuple[list[Waiting], list[concurrent.futures.Future[SignedCheckpoint]], bool]":
        # While one batch is being written the next collects, so the batches grow with the load by themselves. A timer
        # runs only while something is unsigned.
        with self._changed:
            self._changed.wait_for(
                lambda: self._waiting or self._wanted or self._is_closing,
                None if self._sign_at is None else max(self._sign_at - self._monotonic(), 0),
            )
            batch, self._waiting = self._waiting, []
            wanted, self._wanted = self._wanted, []
            is_last = self._is_closing and not batch
        # Whoever was told that it is not recorded made no call; what was not begun needs no record of its own.
        given_up = [waiting for waiting in batch if waiting.is_given_up]
        if given_up:
            self._fail(given_up, took_too_long())
            batch = [waiting for waiting in batch if waiting not in given_up]
        return batch, wanted, is_last

    def _write_batch(self, batch: Sequence[Waiting]) -> None:
        if self._broken is not None:
            self._fail(batch, unavailable(self._broken))
            return
        try:
            first = self._write(batch)
        except AuditUnavailableError as exc:
            self._fail(batch, exc)
        except Exception:
            # A bug must not end the thread: every later call would wait for its timeout.
            log.exception("audit_writer_failed")
            self._fail(batch, unavailable("internal: the audit writer failed"))
        else:
            self._written += len(batch)
            self._is_failing = False
            if self._sign_at is None:
                self._sign_at = self._monotonic() + self._checkpoint_seconds
            settle([*zip(batch, range(first, first + len(batch)), strict=False)], on_late=self._add)

    def _write(self, batch: Sequence[Waiting]) -> int:
        # Killed before the commit: none of the batch exists and nobody was told that it does.
        # Killed after the commit: all of it exists; some callers were not told, and their calls never went on.
        # A commit that reports failure may have persisted. The callers are told that it failed, and the next batch
        # follows the database, so it goes on from whichever of the two is true.
        entries = [encode_event(waiting.event) for waiting in batch]
        outages = [] if self._outages is None else self._outages.pending()
        entries += [encode_event(self._prepare(event)) for event in outages]
        try:
            with self._held.write_transaction() as connection:
                lock_ledger(connection, self.origin)
                tail = follow_tail(connection, self.origin, self._tail)
                new_tail = extend_tail(connection, self.origin, tail, entries)
        except (SQLAlchemyError, LogInvalidError) as exc:
            raise unavailable(_cause(exc)) from exc
        self._tail = new_tail
        if self._outages is not None and outages:
            # Killed before this: the next start records the same outage again, which loses nothing.
            self._outages.settle()
        return tail.size

    def _is_checkpoint_due(self, *, is_last: bool) -> bool:
        if self._sign_at is None:
            return False
        is_many = self.size - self.signed_size >= _CHECKPOINT_RECORDS
        return is_last or is_many or self._monotonic() >= self._sign_at

    def _sign(self, wanted: "Sequence[concurrent.futures.Future[SignedCheckpoint]]") -> None:
        # Killed before the commit: the records are durable and unsigned, and the next start signs them.
        # Killed after it: the checkpoint is stored and not yet handed to a witness; the next one will be.
        try:
            with self._held.write_transaction() as connection:
                lock_ledger(connection, self.origin)
                tail = follow_tail(connection, self.origin, self._tail)
                signed = self._signer.sign(connection, tail)
        except Exception as exc:  # noqa: BLE001  (a bug must not end the thread)
            self._not_signed(exc, wanted)
            return
        self._tail = tail
        self._signer.remember(signed)
        self._signed, self._sign_at, self._broken = signed, None, None
        self._on_checkpoint(signed)
        for future in wanted:
            future.set_result(signed)

    def _not_signed(
        self,
        exc: Exception,
        wanted: "Sequence[concurrent.futures.Future[SignedCheckpoint]]",
    ) -> None:
        self._sign_at = self._monotonic() + self._checkpoint_seconds
        if isinstance(exc, LogInvalidError):
            # Calls that cannot be proved later are not made. It is looked at again, for a database can be restored.
            self._broken = _cause(exc)
            self._is_failing = True
        if isinstance(exc, (LogInvalidError, SQLAlchemyError)):
            error = unavailable(_cause(exc))
            log.error("audit_checkpoint_failed reason=%s", error.reason)
        else:
            error = unavailable("internal: signing failed")
            log.error("audit_checkpoint_failed", exc_info=exc)
        for future in wanted:
            future.set_exception(error)

    def _add(self, events: Sequence[AuditEvent]) -> None:
        # Nobody waits for these.
        with self._changed:
            self._waiting += [Waiting(event, None, concurrent.futures.Future()) for event in events]
            self._changed.notify()

    def _fail(self, batch: Sequence[Waiting], error: AuditUnavailableError) -> None:
        self._failed += len(batch)
        self._is_failing = True
        if self._outages is not None:
            self._outages.note(reason=error.reason, refused=len(batch))
        now = self._monotonic()
        if self._logged_at is None or now - self._logged_at >= _LOG_SECONDS:
            self._logged_at = now
            log.warning(
                "audit_write_failed records=%d failed_so_far=%d reason=%s",
                len(batch),
                self._failed,
                error.reason,
            )
        settle([(waiting, error) for waiting in batch], on_late=self._add)


def _cause(exc: Exception) -> str:
    # One line and no statement; a driver's own message may have several.
    if isinstance(exc, LogInvalidError):
        return printable(
            f"the ledger does not go on from what was written and signed: {exc}",
            max_characters=_MAX_CAUSE_CHARACTERS,
        )
    orig = exc.orig if isinstance(exc, DBAPIError) else exc
    return printable(
        f"the database failed: {type(orig).__name__}: {orig}",
        max_characters=_MAX_CAUSE_CHARACTERS,
    )
