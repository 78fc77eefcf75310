"""Callers that wait for a record to become durable, on an event loop or blocking a thread of their own.

Rules: what a caller was told is final: one that gave up gets no position afterwards, and the ledger gets a record that
says that its call was refused.
"""

import asyncio
import concurrent.futures
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gateway.audit.events import AuditEvent, Outcome
from gateway.errors import AuditUnavailableError, Code

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """One append. loop: None for a caller that blocks its own thread."""

    event: AuditEvent
    loop: asyncio.AbstractEventLoop | None
    future: "asyncio.Future[int] | concurrent.futures.Future[int]"

    @property
    def is_given_up(self) -> bool:
        """Whether the caller was told that it took too long; one that was cancelled was told nothing."""
        if isinstance(self.future, concurrent.futures.Future):
            return self.future.cancelled()
        return self.future.done() and not self.future.cancelled()


Result = int | AuditUnavailableError


def settle(
    batch: Sequence[tuple[Waiting, Result]], *, on_late: Callable[[Sequence[AuditEvent]], None]
) -> None:
    """Give each caller its position or error.

    on_late: gets the refusals to record where a caller had given up on what is durable now; called in the loop's
    thread.
    """
    # One wake-up a loop and batch: call_soon_threadsafe writes to a socket, and costs more than all the rest.
    by_loop: dict[asyncio.AbstractEventLoop | None, list[tuple[Waiting, Result]]] = {}
    for waiting, result in batch:
        by_loop.setdefault(waiting.loop, []).append((waiting, result))
    for loop, settled in by_loop.items():
        if loop is None:
            _resolve(settled, on_late)
            continue
        try:
            loop.call_soon_threadsafe(_resolve, settled, on_late)
        except RuntimeError:
            # The loop is closed: nobody waits there any more.
            log.info("audit_waiters_gone", extra={"records": len(settled)})


def give_up(future: asyncio.Future[int]) -> None:
    """Tell the caller that it took too long, unless it has been told something else."""
    if not future.done():
        future.set_exception(took_too_long())


def took_too_long() -> AuditUnavailableError:
    """What a caller is told whose record is not durable in time."""
    return unavailable("the database took too long")


def unavailable(reason: str) -> AuditUnavailableError:
    """The one message for callers, with the reason for the security team."""
    message = "the call could not be recorded, so it was not made; try again"
    return AuditUnavailableError(Code.AUDIT_UNAVAILABLE, message, reason=reason)


def _resolve(
    settled: Sequence[tuple[Waiting, Result]], on_late: Callable[[Sequence[AuditEvent]], None]
) -> None:
    late = [
        waiting.event
        for waiting, result in settled
        if not _tell(waiting, result) and isinstance(result, int) and waiting.is_given_up
    ]
    if refusals := [_refused(event) for event in late if event.outcome in _GOES_ON]:
        on_late(refusals)


def _tell(waiting: Waiting, result: Result) -> bool:
    future = waiting.future
    if isinstance(future, concurrent.futures.Future):
        # The one step that decides between this and a caller that gives up at the same moment.
        if not future.set_running_or_notify_cancel():
            return False
    elif future.done():
        return False
    if isinstance(result, int):
        future.set_result(result)
    else:
        future.set_exception(unavailable(result.reason))
    return True


# After the other outcomes nothing was to follow.
_GOES_ON = frozenset({Outcome.ADMITTED, Outcome.ANSWERED})


def _refused(event: AuditEvent) -> AuditEvent:
    reason = "the record before this one took too long, so the call was refused"
    return replace(event, outcome=Outcome.FAILED, code=Code.AUDIT_UNAVAILABLE, reason=reason)
