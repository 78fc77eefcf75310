"""Several deadlines on one timer, by a clock that is moved by hand."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from gateway.api.deadlines import Deadlines


class Timer:
    """What a loop hands out for a call at a time."""

    def __init__(self, due: float, call: Callable[[], None]) -> None:
        self.due = due
        self.call = call
        self.is_cancelled = False

    def cancel(self) -> None:
        """Forget the call."""
        self.is_cancelled = True


class Clock:
    """In place of a loop: time, and the calls that are due."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        """The time."""
        return self.now

    def call_at(self, due: float, call: Callable[[], None]) -> Timer:
        """A timer."""
        self.timers.append(Timer(due, call))
        return self.timers[-1]

    def armed(self) -> list[Timer]:
        """The timers that would still fire."""
        return [timer for timer in self.timers if not timer.is_cancelled]

    def advance(self, seconds: float) -> None:
        """Let time pass, and fire what is due on the way."""
        end = self.now + seconds
        while due := [timer for timer in self.armed() if timer.due <= end]:
            timer = min(due, key=lambda each: each.due)
            self.timers.remove(timer)
            self.now = timer.due
            timer.call()
        self.now = end


def deadlines(clock: Clock, passed: list[str]) -> Deadlines[str]:
    """Deadlines that note their reasons."""
    loop = cast("asyncio.AbstractEventLoop", cast("Any", clock))
    return Deadlines(loop, on_due=passed.append)


def test_a_deadline_passes_once() -> None:
    """At its time, not before."""
    clock, passed = Clock(), list[str]()
    deadlines(clock, passed).set("a", 5)
    clock.advance(4.9)
    assert passed == []
    clock.advance(0.1)
    assert passed == ["a"]
    clock.advance(100)
    assert passed == ["a"]


def test_a_cleared_deadline_does_not_pass() -> None:
    """Also if its timer is still armed."""
    clock, passed = Clock(), list[str]()
    held = deadlines(clock, passed)
    held.set("a", 5)
    held.clear("a")
    held.clear("b")
    clock.advance(100)
    assert passed == []


def test_each_passes_at_its_own_time() -> None:
    """In whatever order they were set."""
    clock, passed = Clock(), list[str]()
    held = deadlines(clock, passed)
    held.set("late", 9)
    held.set("early", 3)
    held.set("middle", 6)
    clock.advance(4)
    assert passed == ["early"]
    clock.advance(10)
    assert passed == ["early", "middle", "late"]


def test_a_moved_deadline_passes_later() -> None:
    """A connection sets the same one for each call; that arms no timer each time."""
    clock, passed = Clock(), list[str]()
    held = deadlines(clock, passed)
    for _ in range(1000):
        held.set("a", 5)
        clock.advance(0.001)
    assert len(clock.timers) == 1
    clock.advance(4.9)
    assert passed == []
    clock.advance(0.2)
    assert passed == ["a"]


def test_one_that_passes_may_clear_another() -> None:
    """Then that one does not."""
    clock, passed = Clock(), list[str]()
    loop = cast("asyncio.AbstractEventLoop", cast("Any", clock))

    def stop(reason: str) -> None:
        passed.append(reason)
        held.stop()

    held = Deadlines[str](loop, on_due=stop)
    held.set("a", 5)
    held.set("b", 5)
    clock.advance(100)
    assert passed == ["a"]
    assert clock.armed() == []


def test_none_passes_after_the_stop() -> None:
    """A connection that is gone is not ended."""
    clock, passed = Clock(), list[str]()
    held = deadlines(clock, passed)
    held.set("a", 5)
    held.stop()
    clock.advance(100)
    assert passed == []
