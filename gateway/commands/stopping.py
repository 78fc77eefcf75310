"""Being told to end while something runs on and on: a flag to look at between steps, not an exception between them.

Rules: SIGINT, SIGTERM and SIGHUP set the flag and wake what waits; the second of them ends the process as without this,
in case a step hangs; a signal that was ignored before (nohup) stays ignored; only the main thread can do any of this.
"""

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Protocol

from gateway.sealing.termination import TerminatedError, handling_signals

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop(Protocol):
    """Whether, and by what, the process was told to end."""

    @property
    def number(self) -> int | None:
        """The signal's; None before."""

    def wait(self, seconds: float) -> bool:
        """Wait for this long or until told to end; whether it was told."""


class SignalStop:
    """The flag of stopping_on_signals."""

    def __init__(self, *, wakes: int) -> None:
        """wakes: a descriptor that is readable once a signal came."""
        # Not threading.Event: its set() in a handler can wait for a lock that the interrupted code holds.
        self._wakes = wakes
        self.number: int | None = None

    def wait(self, seconds: float) -> bool:
        """See Stop."""
        poll = select.poll()
        poll.register(self._wakes, select.POLLIN)
        if self.number is None:
            poll.poll(seconds * 1000)
        return self.number is not None


@contextlib.contextmanager
def stopping_on_signals() -> Iterator[SignalStop]:
    """A flag that the signals set inside the block; the handlers before come back after it."""
    reads, writes = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    stop = SignalStop(wakes=reads)

    def end(number: int, _frame: FrameType | None) -> None:
        if stop.number is not None:
            raise TerminatedError(number)
        stop.number = number
        os.write(writes, b"\0")

    try:
        with handling_signals(end, _SIGNALS):
            yield stop
    finally:
        os.close(reads)
        os.close(writes)
