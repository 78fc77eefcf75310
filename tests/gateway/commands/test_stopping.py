"""Signals that set a flag."""

import signal
import threading
import time

import pytest

from gateway.commands.stopping import SignalStop, stopping_on_signals
from gateway.sealing.termination import TerminatedError

LONG_SECONDS = 60.0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_sets_the_flag(number: signal.Signals) -> None:
    """And ends a wait that began after it; nothing is raised."""
    with stopping_on_signals() as stop:
        signal.raise_signal(number)
        assert number == stop.number
        assert stop.wait(LONG_SECONDS)


def test_a_signal_wakes_what_waits() -> None:
    """At once, not at the end of the wait."""
    with stopping_on_signals() as stop:
        timer = threading.Timer(0.05, signal.pthread_kill, (threading.get_ident(), signal.SIGTERM))
        timer.start()
        started = time.monotonic()
        assert stop.wait(LONG_SECONDS)
        assert time.monotonic() - started < LONG_SECONDS / 2
        timer.join()


def test_a_wait_without_a_signal_ends() -> None:
    """After its time."""
    with stopping_on_signals() as stop:
        assert not stop.wait(0.001)


def test_the_second_signal_ends_the_process() -> None:
    """In case what looks at the flag hangs."""
    with stopping_on_signals():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(TerminatedError) as caught:
            signal.raise_signal(signal.SIGINT)
    assert 130 == caught.value.code


def test_the_handlers_before_come_back() -> None:
    """Whatever they were."""
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with stopping_on_signals():
        assert before != [
            signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        ]
    assert before == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]


def test_an_ignored_signal_stays_ignored() -> None:
    """As nohup wants."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping_on_signals() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop.number is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_changes_nothing() -> None:
    """Only the main thread may set handlers."""
    found: list[SignalStop] = []

    def run() -> None:
        with stopping_on_signals() as stop:
            found.append(stop)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert [None] == [stop.number for stop in found]
