"""Being told to end while plaintext lies in files or an action waits for its last record: unwinding, not dying.

Rules: SIGTERM and SIGHUP end a block as Ctrl-C does, once, so that a supervisor that repeats itself stops no cleaning
up; a signal that was ignored before (nohup) stays ignored; only the main thread can do any of this, and elsewhere
nothing is changed. Nothing helps against SIGKILL.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

_ENDING = (signal.SIGTERM, signal.SIGHUP)
_SHELL_BASE = 128


class TerminatedError(SystemExit):
    """A signal asked this process to end; uncaught, it exits as a shell reports that signal, 128 and its number."""

    def __init__(self, number: int) -> None:
        super().__init__(_SHELL_BASE + number)


@contextlib.contextmanager
def unwinding_on_signals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP raise TerminatedError inside the block; the handlers before come back after it."""
    is_ending = False

    def end(number: int, _frame: FrameType | None) -> None:
        nonlocal is_ending
        if not is_ending:
            is_ending = True
            raise TerminatedError(number)

    with handling_signals(end, _ENDING):
        yield


@contextlib.contextmanager
def signals_deferred() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP wait until the block is done, for what must not stop half way."""
    waiting: list[int] = []
    try:
        with handling_signals(
            lambda number, _frame: waiting.append(number), (signal.SIGINT, *_ENDING)
        ):
            yield
    finally:
        for number in waiting[:1]:
            signal.raise_signal(number)


@contextlib.contextmanager
def handling_signals(handler: Any, numbers: tuple[signal.Signals, ...]) -> Iterator[None]:
    """Another handler for these signals inside the block, but for those that are ignored; see the rules above."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}
    # None: installed by something that is not Python, which could not be put back.
    changed = {n: b for n, b in before.items() if b is not None and b is not signal.SIG_IGN}
    try:
        for number in changed:
            signal.signal(number, handler)
        yield
    finally:
        for number, previous in changed.items():
            signal.signal(number, previous)
