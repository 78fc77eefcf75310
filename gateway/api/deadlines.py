"""The times by which a connection must have done something, on one timer.

Rules: setting, moving and clearing one costs a loop nothing but a look at its clock; the timer is only armed anew when
it fires too early or would fire too late.
"""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

Reason = TypeVar("Reason")


class Deadlines(Generic[Reason]):
    """Deadlines of one connection, each under its reason; on_due gets the reason of one that has passed, once."""

    __slots__ = ("_due_seconds", "_loop", "_on_due", "_timer", "_timer_seconds")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, on_due: Callable[[Reason], None]
    ) -> None:
        self._loop = loop
        self._on_due = on_due
        self._due_seconds: dict[Reason, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_seconds = 0.0

    def set(self, reason: Reason, seconds: float) -> None:
        """Let this one pass in so many seconds from now, whenever it was to pass before."""
        due = self._loop.time() + seconds
        self._due_seconds[reason] = due
        if self._timer is None or due < self._timer_seconds:
            self._arm(due)

    def clear(self, reason: Reason) -> None:
        """Forget this one, if it is set."""
        self._due_seconds.pop(reason, None)

    def stop(self) -> None:
        """Forget all of them for good."""
        self._due_seconds.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_seconds = due
        self._timer = self._loop.call_at(due, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self._loop.time()
        passed = [reason for reason, due in self._due_seconds.items() if due <= now]
        for reason in passed:
            # One may have cleared or moved another.
            if self._due_seconds.get(reason, now + 1) <= now:
                del self._due_seconds[reason]
                self._on_due(reason)
        if self._due_seconds and self._timer is None:
            self._arm(min(self._due_seconds.values()))
