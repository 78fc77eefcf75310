"""Calls at the same time."""

import asyncio

import pytest

from gateway.errors import QuotaError
from gateway.identity.concurrency import InFlight
from gateway.identity.quota_limits import LimitName

pytestmark = pytest.mark.anyio


@pytest.fixture
def in_flight() -> InFlight:
    """Of principals."""
    return InFlight(LimitName.PRINCIPAL_CONCURRENCY)


def test_one_more_than_allowed_is_refused_until_one_ends(in_flight: InFlight) -> None:
    """Each key has calls of its own."""
    with in_flight.slot("a", at_most=2):
        with in_flight.slot("a", at_most=2):
            with pytest.raises(QuotaError) as refused, in_flight.slot("a", at_most=2):
                pytest.fail("a third call got in")
            with in_flight.slot("b", at_most=2):
                pass
        with in_flight.slot("a", at_most=2):
            pass
    assert "principal_concurrency" == refused.value.limit


def test_a_call_that_fails_gives_its_place_back(in_flight: InFlight) -> None:
    """And a key without calls takes no memory."""
    with pytest.raises(ZeroDivisionError), in_flight.slot("a", at_most=1):
        raise ZeroDivisionError
    assert 0 == len(in_flight)


def test_a_refused_call_takes_no_place(in_flight: InFlight) -> None:
    """However often it is tried, the place is free once the call that holds it ends."""
    with in_flight.slot("a", at_most=1):
        for _ in range(5):
            with pytest.raises(QuotaError), in_flight.slot("a", at_most=1):
                pytest.fail("a second call got in")
        assert 1 == len(in_flight)
    assert 0 == len(in_flight)


async def test_a_cancelled_call_gives_its_place_back(in_flight: InFlight) -> None:
    """A caller that hangs up must not keep it."""
    entered = asyncio.Event()

    async def call() -> None:
        with in_flight.slot("a", at_most=1):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(call())
    await entered.wait()
    assert 1 == len(in_flight)
    task.cancel()
    await asyncio.wait([task])
    assert 0 == len(in_flight)
