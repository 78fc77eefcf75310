"""Callers that wait for a record to become durable, on an event loop or blocking a thread of their own.

Rules: what a caller was told is final: it is decided once, by whoever claims it first, and one that gave up gets no
position afterwards; where its record exists even so, the ledger gets one that says that the call was refused.
"""

import asyncio
import concurrent.futures
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from gateway.audit.events import AuditEvent, Outcome
from gateway.errors import AuditUnavailableError, Code

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """One append. loop: None for a caller that blocks its own thread, and for what nobody waits for."""

    event: AuditEvent
    loop: asyncio.AbstractEventLoop | None
    future: "asyncio.Future[int] | concurrent.futures.Future[int]"
    _undecided: list[None] = field(default_factory=lambda: [None], init=False)

    @property
    def is_given_up(self) -> bool:
        """Whether the caller was told that it took too long; of the writer's thread, before it claims."""
        return not self._undecided

    def claim(self) -> bool:
        """Whether the one who asks may decide what the caller is told; True once."""
        try:
            # One step, whichever threads ask at the same moment.
            self._undecided.pop()
        except IndexError:
            return False
        return True

    def give_up(self) -> None:
        """Tell a caller on a loop that it took too long, unless the writer has decided; in the loop's thread."""
        if self.claim() and not self.future.done():
            self.future.set_exception(took_too_long())


Result = int | AuditUnavailableError


def settle(batch: Sequence[tuple[Waiting, Result]]) -> list[AuditEvent]:
    """Give each caller its position or error; the refusals to record of those who gave up on what is durable now."""
    decided = [(waiting, result) for waiting, result in batch if waiting.claim()]
    if len(decided) < len(batch):
        told = {id(waiting) for waiting, _ in decided}
        late = [w.event for w, result in batch if id(w) not in told and isinstance(result, int)]
    else:
        late = []
    # One wake-up a loop and batch: call_soon_threadsafe writes to a socket, and costs more than all the rest.
    by_loop: dict[asyncio.AbstractEventLoop | None, list[tuple[Waiting, Result]]] = {}
    for waiting, result in decided:
        by_loop.setdefault(waiting.loop, []).append((waiting, result))
    for loop, settled in by_loop.items():
        if loop is None:
            _tell(settled)
            continue
        try:
            loop.call_soon_threadsafe(_tell, settled)
        except RuntimeError:
            # The loop is closed: nobody waits there any more.
            log.info("audit_waiters_gone", extra={"records": len(settled)})
    return refusals_of(late)


def refusals_of(events: Sequence[AuditEvent]) -> list[AuditEvent]:
    """The records that follow these, whose callers were told that they are not recorded."""
    reason = "the record before this one was not acknowledged in time, so the call was refused"
    return [
        replace(event, outcome=Outcome.FAILED, code=Code.AUDIT_UNAVAILABLE, reason=reason)
        for event in events
        if event.outcome in _GOES_ON
    ]


def took_too_long() -> AuditUnavailableError:
    """What a caller is told whose record is not durable in time."""
    return unavailable("the database took too long")


def unavailable(reason: str) -> AuditUnavailableError:
    """The one message for callers, with the reason for the security team."""
    message = "the call could not be recorded, so it was not made; try again"
    return AuditUnavailableError(Code.AUDIT_UNAVAILABLE, message, reason=reason)


def _tell(settled: Sequence[tuple[Waiting, Result]]) -> None:
    for waiting, result in settled:
        # Cancelled, and told nothing: what was to be recorded did happen.
        if waiting.future.done():
            continue
        if isinstance(result, int):
            waiting.future.set_result(result)
        else:
            waiting.future.set_exception(unavailable(result.reason))


# After the other outcomes nothing was to follow.
_GOES_ON = frozenset({Outcome.ADMITTED, Outcome.ANSWERED})
