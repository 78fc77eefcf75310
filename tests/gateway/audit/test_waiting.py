"""Callers: told once, by whoever decides first, and what the ledger owes to those who were told no."""

import asyncio
import concurrent.futures
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.audit.waiting import Waiting, refusals_of, settle, unavailable
from gateway.errors import AuditUnavailableError, Code

EVENT = AuditEvent(
    action=Action.PREDICT, outcome=Outcome.ADMITTED, recorded_at=datetime(2031, 5, 6, tzinfo=UTC)
)


def blocking(event: AuditEvent = EVENT) -> Waiting:
    """A caller without a loop."""
    return Waiting(event, None, concurrent.futures.Future())


def on_loop(event: AuditEvent = EVENT) -> Waiting:
    """A caller of the running loop."""
    loop = asyncio.get_running_loop()
    return Waiting(event, loop, loop.create_future())


def test_one_of_many_claims() -> None:
    """However many threads ask at the same moment."""
    with ThreadPoolExecutor(8) as pool:
        for _ in range(100):
            waiting = blocking()
            claims = [job.result() for job in [pool.submit(waiting.claim) for _ in range(8)]]
            assert claims.count(True) == 1
            assert waiting.is_given_up


def test_a_caller_gets_its_position() -> None:
    """Nothing is owed then."""
    waiting = blocking()
    assert settle([(waiting, 7)]) == []
    assert waiting.future.result() == 7


def test_callers_of_each_loop_get_theirs() -> None:
    """In that loop's thread."""

    async def wait() -> list[int]:
        first, second = on_loop(), on_loop()
        await asyncio.to_thread(settle, [(first, 1), (second, 2)])
        return [await waiting.future for waiting in (first, second)]  # type: ignore[misc]  # of a loop

    assert asyncio.run(wait()) == [1, 2]


def test_each_caller_gets_an_error_of_its_own() -> None:
    """One that is raised twice would join their tracebacks."""
    error = unavailable("because")
    one, other = blocking(), blocking()
    settle([(one, error), (other, error)])
    raised = [waiting.future.exception() for waiting in (one, other)]
    assert [getattr(exc, "reason", None) for exc in raised] == ["because", "because"]
    assert len({id(error), *map(id, raised)}) == 3


def test_who_gave_up_is_told_nothing_more_and_owed_a_refusal() -> None:
    """Its record is durable, so one that says otherwise follows."""

    async def wait() -> list[AuditEvent]:
        waiting = on_loop()
        waiting.give_up()
        owed = settle([(waiting, 7)])
        await asyncio.sleep(0)
        with pytest.raises(AuditUnavailableError) as caught:
            await waiting.future  # type: ignore[misc]  # of a loop
        assert caught.value.reason == "the database took too long"
        return owed

    (refusal,) = asyncio.run(wait())
    assert (refusal.outcome, refusal.code) == (Outcome.FAILED, Code.AUDIT_UNAVAILABLE)


def test_who_is_to_be_told_does_not_give_up_any_more() -> None:
    """Between the decision and the loop's next step the timer changes nothing."""

    async def wait() -> int:
        waiting = on_loop()
        settle([(waiting, 7)])
        waiting.give_up()
        result: int = await waiting.future  # type: ignore[misc]  # of a loop
        return result

    assert asyncio.run(wait()) == 7


def test_nothing_is_owed_for_what_failed() -> None:
    """There is no record of it."""
    waiting = blocking()
    assert waiting.claim()
    assert settle([(waiting, unavailable("because"))]) == []


def test_a_cancelled_caller_is_owed_nothing() -> None:
    """It was told nothing, and what was to be recorded did happen."""

    async def wait() -> list[AuditEvent]:
        waiting = on_loop()
        waiting.future.cancel()
        waiting.give_up()
        other = on_loop()
        other.future.cancel()
        owed = settle([(other, 7)])
        await asyncio.sleep(0)
        return owed

    assert asyncio.run(wait()) == []


def test_a_loop_that_is_gone_is_passed_over() -> None:
    """Its callers too."""

    async def leave() -> Waiting:
        return on_loop()

    waiting, other = asyncio.run(leave()), blocking()
    assert settle([(waiting, 7), (other, 8)]) == []
    assert other.future.result() == 8


@pytest.mark.parametrize("outcome", Outcome)
def test_refusals_follow_what_was_to_go_on(outcome: Outcome) -> None:
    """With everything that is known of the call."""
    event = replace(EVENT, outcome=outcome, request_id="r", reason="x")
    goes_on = outcome in (Outcome.ADMITTED, Outcome.ANSWERED)
    refusals = refusals_of([event])
    assert [("r", Outcome.FAILED)] * goes_on == [(r.request_id, r.outcome) for r in refusals]
    if goes_on:
        reason = "the record before this one was not acknowledged in time, so the call was refused"
        assert refusals[0].reason == reason
