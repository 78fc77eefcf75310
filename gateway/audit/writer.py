"""Writing to the ledger: one thread, one transaction for everything that waits, and a signed checkpoint soon after.

Rules: an append that returns is durable; one that raises is not, or its caller's refusal follows it as a record. The
event loop never waits for the database. A failed commit needs no repair: the next transaction reads where the ledger
stands. A ledger that does not go on from what was signed is not written to. Nothing that is raised ends the thread.
"""

import asyncio
import concurrent.futures
import logging
import threading
import time
from collections.abc import Callable, Sequence

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from gateway.audit.checkpoints import SignedCheckpoint
from gateway.audit.doubt import Doubt, is_persisted
from gateway.audit.entries import encode_event
from gateway.audit.events import AuditEvent, printable
from gateway.audit.merkle import LogInvalidError
from gateway.audit.outages import Outages, QuietOutages
from gateway.audit.signing import CheckpointSigner
from gateway.audit.tail import Tail, extend_tail, follow_tail
from gateway.audit.waiting import Waiting, refusals_of, settle, took_too_long, unavailable
from gateway.errors import AuditUnavailableError
from gateway.store.database import HeldConnection
from gateway.store.queries.audit import lock_ledger

log = logging.getLogger(__name__)

# An outage fails many batches a second; one line a second says as much.
_LOG_SECONDS = 1.0
_MAX_CAUSE_CHARACTERS = 300
# At ten thousand records a second, the bound of what is durable and not yet signed.
_CHECKPOINT_RECORDS = 10_000
_TOO_MANY = "too many records wait for the database"


class AuditLog:
    """Appends to one ledger until it is closed.

    engine: opened by gateway.store.database. signer: its origin is the ledger's name; processes that share it share
    the ledger. checkpoint_seconds: the longest that a durable record is not covered by a signed checkpoint.
    on_checkpoint: called in the writer's thread with each checkpoint once it is durable; must not block.
    prepare: what is done to each event before it is stored (pseudonyms). outages: used in the writer's thread, which
    closes it in the end. max_waiting: appends that may wait at once; further ones are refused. timeout_seconds: the
    longest that an append waits. monotonic: seconds.
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
        self._outages = QuietOutages(outages)
        self._max_waiting = max_waiting
        self._timeout_seconds = timeout_seconds
        self._changed = threading.Condition()
        self._waiting: list[Waiting] = []
        self._wanted: list[concurrent.futures.Future[SignedCheckpoint]] = []
        self._turned_away = 0
        self._is_closing = False
        # What the writer's thread owes to the ledger by itself, and whether that is new.
        self._refusals: list[AuditEvent] = []
        self._is_owing = False
        self._doubt: Doubt | None = None
        self._tail: Tail | None = None
        self._signed: SignedCheckpoint | None = None
        self._sign_at: float | None = None
        self._is_sign_failing = False
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
        waiting = Waiting(self._prepare(event), loop, future)
        self._enqueue(waiting)
        # A timer of the loop costs a fraction of asyncio.timeout, on a path that every call takes twice.
        timer = loop.call_later(self._timeout_seconds, waiting.give_up)
        try:
            return await future
        finally:
            timer.cancel()

    def append_blocking(self, event: AuditEvent) -> int:
        """The same for commands, which have no event loop."""
        future: concurrent.futures.Future[int] = concurrent.futures.Future()
        waiting = Waiting(self._prepare(event), None, future)
        self._enqueue(waiting)
        try:
            return future.result(self._timeout_seconds)
        except TimeoutError as exc:
            if waiting.claim():
                raise took_too_long() from exc
            # It became durable at this moment.
            return future.result()

    def checkpoint_blocking(self) -> SignedCheckpoint:
        """A checkpoint that covers every record that is durable now.

        Raises AuditUnavailableError if none can be signed within timeout_seconds.
        """
        future = self._want_checkpoint()
        try:
            return future.result(self._timeout_seconds)
        except TimeoutError as exc:
            # Or the writer would sign later for somebody who is gone.
            if future.cancel():
                raise took_too_long() from exc
            # It was signed at this moment.
            return future.result()

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
                self._turned_away += 1
                raise unavailable(_TOO_MANY)
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
            is_signing = bool(wanted) or is_last or self._is_checkpoint_due()
            if batch or self._is_owing or (is_signing and (self._refusals or self._doubt)):
                self._write_batch(batch)
            if wanted or self._is_checkpoint_due() or (is_last and self._sign_at is not None):
                self._sign(wanted)
        self._held.close()
        self._outages.close()

    def _next_work(
        self,
    ) -> "tuple[list[Waiting], list[concurrent.futures.Future[SignedCheckpoint]], bool]":
        # While one batch is being written the next collects, so the batches grow with the load by themselves. A timer
        # runs only while something is unsigned.
        with self._changed:
            if not self._is_owing:
                self._changed.wait_for(
                    lambda: self._waiting or self._wanted or self._is_closing,
                    None if self._sign_at is None else max(self._sign_at - self._monotonic(), 0),
                )
            taken, self._waiting = self._waiting, []
            wanted, self._wanted = self._wanted, []
            turned_away, self._turned_away = self._turned_away, 0
            is_last = self._is_closing and not taken and not self._is_owing
        if turned_away:
            self._count_failed(turned_away, _TOO_MANY)
        # Whoever was told that it is not recorded made no call; what was not begun needs no record of its own.
        batch = [waiting for waiting in taken if not waiting.is_given_up]
        if len(batch) < len(taken):
            self._count_failed(len(taken) - len(batch), took_too_long().reason)
        return batch, wanted, is_last

    def _write_batch(self, batch: Sequence[Waiting]) -> None:
        self._is_owing = False
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
            self._is_failing = self._is_failing and not batch
            late = settle([*zip(batch, range(first, first + len(batch)), strict=True)])
            self._refusals += late
            self._is_owing = bool(late)

    def _write(self, batch: Sequence[Waiting]) -> int:
        # Killed before the commit: none of the batch exists and nobody was told that it does.
        # Killed after the commit: all of it exists; some callers were not told, and their calls never went on.
        # A commit that reports failure may have persisted. The callers are told that it failed, and the next batch
        # follows the database, so it goes on from whichever of the two is true, and brings their refusals.
        entries = [encode_event(waiting.event) for waiting in batch]
        outages = [self._prepare(event) for event in self._outages.pending()]
        whole: Tail | None = None
        try:
            with self._held.write_transaction() as connection:
                lock_ledger(connection, self.origin)
                tail = follow_tail(connection, self.origin, self._tail)
                self._resolve_doubt(connection)
                owed = [*self._refusals, *outages]
                entries = [*map(encode_event, owed), *entries]
                new_tail = extend_tail(connection, self.origin, tail, entries) if entries else tail
                whole = tail
        except (SQLAlchemyError, LogInvalidError) as exc:
            if whole is not None:
                self._doubt = Doubt.of(whole, entries, batch, refusals=len(self._refusals))
                self._want_signature()
            if isinstance(exc, LogInvalidError):
                self._broken = _cause(exc)
                self._want_signature()
            raise unavailable(_cause(exc)) from exc
        self._tail = new_tail
        self._refusals = []
        self._want_signature()
        if outages:
            # Killed before this: the next start records the same outage again, which loses nothing.
            self._outages.settle()
        return tail.size + len(owed)

    def _resolve_doubt(self, connection: Connection) -> None:
        doubt = self._doubt
        if doubt is not None and is_persisted(connection, self.origin, doubt):
            self._refusals = [*self._refusals[doubt.refusals :], *refusals_of(doubt.events)]
        self._doubt = None

    def _want_signature(self) -> None:
        if self._sign_at is None:
            self._sign_at = self._monotonic() + self._checkpoint_seconds

    def _is_checkpoint_due(self) -> bool:
        if self._sign_at is None:
            return False
        # After a failure only the time counts, or every batch would try again.
        is_many = self.size - self.signed_size >= _CHECKPOINT_RECORDS
        return (is_many and not self._is_sign_failing) or self._monotonic() >= self._sign_at

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
        self._is_sign_failing = False
        for future in wanted:
            # Whoever waited too long cancelled it.
            if future.set_running_or_notify_cancel():
                future.set_result(signed)
        try:
            self._on_checkpoint(signed)
        except Exception:
            log.exception("audit_checkpoint_not_handed_on")

    def _not_signed(
        self,
        exc: Exception,
        wanted: "Sequence[concurrent.futures.Future[SignedCheckpoint]]",
    ) -> None:
        self._sign_at = self._monotonic() + self._checkpoint_seconds
        self._is_sign_failing = True
        if isinstance(exc, LogInvalidError):
            # Calls that cannot be proved later are not made. It is looked at again, for a database can be restored.
            self._broken, self._is_failing = _cause(exc), True
        if isinstance(exc, (LogInvalidError, SQLAlchemyError)):
            error = unavailable(_cause(exc))
            log.error("audit_checkpoint_failed reason=%s", error.reason)
        else:
            error = unavailable("internal: signing failed")
            log.error("audit_checkpoint_failed", exc_info=exc)
        for future in wanted:
            if future.set_running_or_notify_cancel():
                future.set_exception(error)

    def _fail(self, batch: Sequence[Waiting], error: AuditUnavailableError) -> None:
        self._count_failed(len(batch), error.reason)
        settle([(waiting, error) for waiting in batch])

    def _count_failed(self, count: int, reason: str) -> None:
        if not count:
            return
        self._failed += count
        self._is_failing = True
        self._outages.note(reason=reason, refused=count)
        now = self._monotonic()
        if self._logged_at is None or now - self._logged_at >= _LOG_SECONDS:
            self._logged_at = now
            log.warning(
                "audit_write_failed records=%d failed_so_far=%d reason=%s",
                count,
                self._failed,
                reason,
            )


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
