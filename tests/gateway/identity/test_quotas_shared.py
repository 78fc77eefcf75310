"""Limits that gateways share, and what is left of them when the store fails."""

import asyncio

import pytest
from sqlalchemy import Engine

from gateway.identity import quotas as quotas_module
from gateway.identity.quota_limits import LimitName
from gateway.identity.quotas import PAUSE_SECONDS, open_quotas
from tests.gateway.identity.quota_world import FakeCounters, World, plan, principal, refusal

pytestmark = pytest.mark.anyio

ADDRESS = "203.0.113.7"


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The gateway runs on either."""
    return "asyncio", {"use_uvloop": request.param}


async def test_shared_counters_decide_a_rate() -> None:
    """What other gateways counted, and what all of them together have left."""
    shared = FakeCounters(is_counted=True, window=(0, 0.0, 7, 90.0))
    world = World(plan(principal_rate="10/minute"), principal_rates=shared)
    quotas = world.open()
    (status,) = await quotas.spend(principal())
    assert 3 == status.remaining
    shared.is_counted = False
    error = await refusal(quotas.spend(principal()))
    assert error is not None
    assert LimitName.PRINCIPAL_RATE == error.limit
    assert 0 == world.failures


async def test_what_the_process_refuses_asks_nobody_else() -> None:
    """A flood of calls must not become a flood of queries."""
    shared = FakeCounters()
    quotas = World(plan(principal_rate="2/day"), principal_rates=shared).open()
    for _ in range(50):
        await refusal(quotas.spend(principal()))
    assert 2 == len(shared.asked)


async def test_shared_failures_of_an_address_count() -> None:
    """One that guesses at another gateway is refused here too; a known caller asks nobody."""
    shared = FakeCounters(window=(0, 0.0, 2, 90.0))
    quotas = World(plan(address_failure_rate="2/minute"), address_rates=shared).open()
    await quotas.admit_address(ADDRESS, is_known=True)
    assert [] == shared.asked
    error = await refusal(quotas.admit_address(ADDRESS, is_known=False))
    assert error is not None
    assert LimitName.ADDRESS_FAILURES == error.limit


@pytest.mark.parametrize("is_open", [False, None], ids=["fails", "hangs"])
async def test_rates_are_kept_by_the_process_while_the_store_fails(
    is_open: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Service goes on, each call is counted as a failure, and not every call waits for the store."""
    monkeypatch.setattr(quotas_module, "RATE_TIMEOUT_SECONDS", 0.01)
    shared = FakeCounters(is_open=is_open)
    world = World(plan(principal_rate="3/day"), principal_rates=shared)
    quotas = world.open()
    for _ in range(3):
        await quotas.spend(principal())
    assert await refusal(quotas.spend(principal())) is not None
    assert (3, 1) == (world.failures, len(shared.asked))


async def test_a_store_that_answers_again_is_asked_again() -> None:
    """After a pause."""
    shared = FakeCounters(is_open=False)
    world = World(plan(principal_rate="90/day"), principal_rates=shared)
    quotas = world.open()
    await quotas.spend(principal())
    shared.is_open = True
    await quotas.spend(principal())
    assert 1 == len(shared.asked)
    world.clock.seconds += PAUSE_SECONDS
    await quotas.spend(principal())
    assert (2, 2) == (len(shared.asked), world.failures)


@pytest.mark.parametrize("store", ["database", "redis"])
async def test_replicas_share_the_rate_of_a_principal(
    request: pytest.FixtureRequest, sqlite_engine: Engine, store: str
) -> None:
    """Through the database or Redis, as the plan says; what is refused was granted by the other."""
    url = request.getfixturevalue("redis_url") if store == "redis" else store
    shared_plan = plan(principal_rate="6/day", store=url)
    replicas = [
        open_quotas(shared_plan, engine=sqlite_engine, on_store_failure=pytest.fail)
        for _ in range(2)
    ]
    # Of its own, because the server is the same for all tests.
    caller = principal(f"{request.node.name}")
    answers = [await refusal(replicas[n % 2].spend(caller)) for n in range(9)]
    assert 6 == answers.count(None)
    for quotas in replicas:
        await quotas.close()


async def test_replicas_share_what_is_counted_of_addresses_through_redis(
    request: pytest.FixtureRequest, redis_url: str, sqlite_engine: Engine
) -> None:
    """Calls, and refused tokens."""
    shared_plan = plan(address_rate="6/day", address_failure_rate="2/day", store=redis_url)
    one, other = (
        open_quotas(shared_plan, engine=sqlite_engine, on_store_failure=pytest.fail)
        for _ in range(2)
    )
    address = request.node.name
    for quotas in (one, other):
        await quotas.note_failure(address)
    error = await refusal(one.admit_address(address, is_known=False))
    assert error is not None
    assert LimitName.ADDRESS_FAILURES == error.limit
    answers = [
        await refusal((one, other)[n % 2].admit_address(address, is_known=True)) for n in range(9)
    ]
    assert 6 == answers.count(None)
    await one.close()
    await other.close()


async def test_budgets_are_shared_where_rates_are_not(sqlite_engine: Engine) -> None:
    """By default they are in the database, so that replicas and restarts do not multiply them."""
    replicas = [
        open_quotas(plan(daily_images=5), engine=sqlite_engine, on_store_failure=pytest.fail)
        for _ in range(2)
    ]
    asked = [replicas[n % 2].spend(principal(), images=1) for n in range(12)]
    answers = await asyncio.gather(*map(refusal, asked))
    assert 5 == answers.count(None)
    for quotas in replicas:
        await quotas.close()
