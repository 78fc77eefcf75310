"""Signals that unwind a block, that wait for one, and that are left as they were."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from gateway.sealing.termination import TerminatedError, signals_deferred, unwinding_on_signals

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Whatever a test does, the handlers of this process come back."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_unwinds_the_block_once(number: signal.Signals, code: int) -> None:
    """A second one does not stop what the first began; afterwards the handler before is back."""
    before = signal.getsignal(number)
    cleaned = []

    def work() -> None:
        with unwinding_on_signals():
            try:
                os.kill(os.getpid(), number)
            finally:
                os.kill(os.getpid(), number)
                cleaned.append(True)

    with pytest.raises(TerminatedError) as caught:
        work()
    assert (code, [True], before) == (caught.value.code, cleaned, signal.getsignal(number))


def test_an_ignored_signal_stays_ignored() -> None:
    """As nohup wants it."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with unwinding_on_signals():
        os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@pytest.mark.parametrize("number", NUMBERS)
def test_a_deferred_signal_comes_after_the_block(number: signal.Signals) -> None:
    """Once, to the handler that was there before."""
    steps: list[str] = []
    signal.signal(number, lambda *_: steps.append("signal"))
    with signals_deferred():
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        steps.append("block")
    assert steps == ["block", "signal"]


def test_other_threads_change_nothing() -> None:
    """Only the main thread can set handlers; the block runs all the same."""
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work() -> None:
        with unwinding_on_signals(), signals_deferred():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [before] == seen
