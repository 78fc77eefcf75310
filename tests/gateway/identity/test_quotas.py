"""The limits of a gateway: what is refused, what it costs others, and what happens when a store fails."""

import asyncio
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from gateway.errors import Code, IdentityUnavailableError, QuotaError, SettingsError
from gateway.identity import quotas as quotas_module
from gateway.identity.quota_limits import LimitName, PrincipalLimits, QuotaPlan, QuotaStatus
from gateway.identity.quotas import PAUSE_SECONDS, Quotas, open_quotas
from gateway.store.database import write_transaction
from tests.gateway.identity.quota_world import Clock, FakeCounters, plan, principal, rate

pytestmark = pytest.mark.anyio

ADDRESS = "203.0.113.7"
# Noon, and the start of a window of every length up to an hour.
NOON_SECONDS = 86_400.0 * 20_000 + 43_200


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The gateway runs on either."""
    return "asyncio", {"use_uvloop": request.param}


@dataclass
class World:
    """Quotas with a clock that stands still and counters that answer as a test says."""

    plan: QuotaPlan
    clock: Clock = field(default_factory=lambda: Clock(NOON_SECONDS))
    budgets: FakeCounters = field(default_factory=FakeCounters)
    address_rates: FakeCounters | None = None
    principal_rates: FakeCounters | None = None
    failures: int = 0

    def open(self) -> Quotas:
        """The quotas of this world."""
        return Quotas(
            self.plan,
            budgets=self.budgets,
            address_rates=self.address_rates,
            principal_rates=self.principal_rates,
            clock=self.clock,
            monotonic=self.clock,
            on_store_failure=self._count,
        )

    def _count(self) -> None:
        self.failures += 1


async def refusal(asked: Coroutine[Any, Any, object]) -> QuotaError | None:
    """The error that a limit answers with, None if it lets pass."""
    try:
        await asked
    except QuotaError as exc:
        return exc
    return None


async def test_an_address_may_call_as_often_as_its_rate_says() -> None:
    """Others are not touched, and it may again later."""
    world = World(plan(address_rate="3/second"))
    quotas = world.open()
    for _ in range(3):
        await quotas.admit_address(ADDRESS, is_known=False)
    error = await refusal(quotas.admit_address(ADDRESS, is_known=True))
    assert error is not None
    assert (Code.RATE_LIMITED, LimitName.ADDRESS_RATE) == (error.code, error.limit)
    await quotas.admit_address("203.0.113.8", is_known=False)
    world.clock.seconds += error.retry_after_seconds
    await quotas.admit_address(ADDRESS, is_known=False)


async def test_one_subscriber_is_one_address() -> None:
    """Or whoever has a /64 has no limit."""
    quotas = World(plan(address_rate="2/second", address_concurrency=1)).open()
    await quotas.admit_address("2001:db8::1", is_known=False)
    await quotas.admit_address("2001:db8::2", is_known=False)
    assert await refusal(quotas.admit_address("2001:db8::3", is_known=False)) is not None
    with (
        quotas.address_slot("2001:db8::1"),
        pytest.raises(QuotaError),
        quotas.address_slot("2001:db8::2"),
    ):
        pytest.fail("a second call got in")


async def test_whoever_guesses_is_refused_before_authentication() -> None:
    """After as many refused tokens as the rate says; the rest of the world is not touched."""
    world = World(plan(address_failure_rate="2/minute"))
    quotas = world.open()
    for _ in range(2):
        await quotas.admit_address(ADDRESS, is_known=False)
        await quotas.note_failure(ADDRESS)
    error = await refusal(quotas.admit_address(ADDRESS, is_known=False))
    assert error is not None
    assert (Code.RATE_LIMITED, LimitName.ADDRESS_FAILURES) == (error.code, error.limit)
    assert 2 == error.quota
    await quotas.admit_address("203.0.113.8", is_known=False)
    world.clock.seconds += error.retry_after_seconds
    await quotas.admit_address(ADDRESS, is_known=False)


async def test_a_known_caller_does_not_notice_who_guesses_behind_the_same_address() -> None:
    """However many: what is refused for that does not count against the address's rate."""
    quotas = World(plan(address_rate="20/hour", address_failure_rate="2/minute")).open()
    for _ in range(500):
        if await refusal(quotas.admit_address(ADDRESS, is_known=False)) is None:
            await quotas.note_failure(ADDRESS)
    for _ in range(18):
        await quotas.admit_address(ADDRESS, is_known=True)


async def test_noting_failures_never_refuses() -> None:
    """The call is refused already, for its credentials."""
    quotas = World(plan(address_failure_rate="1/day")).open()
    for _ in range(5):
        await quotas.note_failure(ADDRESS)


async def test_a_principal_may_call_as_often_as_its_rate_says_from_anywhere() -> None:
    """Each answer tells what is left; others are not touched."""
    quotas = World(plan(principal_rate="2/minute")).open()
    first = await quotas.spend(principal())
    assert (QuotaStatus(LimitName.PRINCIPAL_RATE, 2, 60, 1, 61),) == first
    (second,) = await quotas.spend(principal())
    assert 0 == second.remaining
    error = await refusal(quotas.spend(principal()))
    assert error is not None
    assert (Code.RATE_LIMITED, LimitName.PRINCIPAL_RATE) == (error.code, error.limit)
    await quotas.spend(principal("bob"))


async def test_a_role_has_limits_of_its_own() -> None:
    """In place of the plan's: rate, budget and calls at the same time."""
    world = World(plan(principal_rate="1/day", principal_concurrency=1, daily_images=1))
    quotas = world.open()
    generous = PrincipalLimits(rate("10/day"), 2, 3)
    for _ in range(3):
        statuses = await quotas.spend(principal(), generous, images=1)
        assert [10, 3] == [status.quota for status in statuses]
    error = await refusal(quotas.spend(principal(), generous, images=1))
    assert error is not None
    assert LimitName.DAILY_IMAGES == error.limit
    with quotas.principal_slot(principal(), generous), quotas.principal_slot(principal(), generous):
        pass


async def test_a_principal_has_as_many_calls_at_the_same_time_as_the_plan_says() -> None:
    """Others have their own."""
    quotas = World(plan(principal_concurrency=1)).open()
    with quotas.principal_slot(principal()):
        with pytest.raises(QuotaError) as refused, quotas.principal_slot(principal()):
            pytest.fail("a second call got in")
        with quotas.principal_slot(principal("bob")):
            pass
    assert LimitName.PRINCIPAL_CONCURRENCY == refused.value.limit


async def test_a_plan_without_limits_refuses_nothing_and_tells_nothing() -> None:
    """Empty rates and no budget."""
    quotas = World(plan()).open()
    for _ in range(50):
        await quotas.admit_address(ADDRESS, is_known=False)
        await quotas.note_failure(ADDRESS)
        assert () == await quotas.spend(principal(), images=1)


async def test_a_daily_budget_is_used_by_images_alone() -> None:
    """And ends at midnight UTC, twelve hours from now."""
    world = World(plan(daily_images=2))
    quotas = world.open()
    assert () == await quotas.spend(principal())
    (status,) = await quotas.spend(principal(), images=1)
    assert QuotaStatus(LimitName.DAILY_IMAGES, 2, 86_400, 1, 43_201) == status
    await quotas.spend(principal(), images=1)
    error = await refusal(quotas.spend(principal(), images=1))
    assert error is not None
    assert (Code.QUOTA_EXHAUSTED, LimitName.DAILY_IMAGES) == (error.code, error.limit)
    assert 43_201 == error.retry_after_seconds
    assert () == await quotas.spend(principal())


async def test_a_budget_is_of_one_principal_and_one_day(sqlite_engine: Engine) -> None:
    """The next day begins anew; a bad clock of another gateway cannot end today's early."""
    clock = Clock(NOON_SECONDS)
    quotas = open_quotas(
        plan(daily_images=1), engine=sqlite_engine, on_store_failure=pytest.fail, clock=clock
    )
    await quotas.spend(principal(), images=1)
    await quotas.spend(principal("bob"), images=1)
    clock.seconds += 43_199
    assert await refusal(quotas.spend(principal(), images=1)) is not None
    clock.seconds += 2
    await quotas.spend(principal(), images=1)
    clock.seconds -= 2
    assert await refusal(quotas.spend(principal(), images=1)) is not None
    await quotas.close()


async def test_a_used_up_rate_spends_no_image() -> None:
    """What is refused first asks no store."""
    world = World(plan(principal_rate="1/day", daily_images=5))
    quotas = world.open()
    for _ in range(3):
        await refusal(quotas.spend(principal(), images=1))
    assert 1 == world.budgets.used


@pytest.mark.parametrize("is_open", [False, None], ids=["fails", "hangs"])
async def test_a_budget_that_cannot_be_read_refuses(
    is_open: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fail closed: nobody gets images that nobody counts."""
    monkeypatch.setattr(quotas_module, "BUDGET_TIMEOUT_SECONDS", 0.01)
    world = World(plan(daily_images=5), budgets=FakeCounters(is_open=is_open))
    with pytest.raises(IdentityUnavailableError) as refused:
        await world.open().spend(principal(), images=1)
    assert "quota_store_unavailable" == refused.value.reason
    assert 1 == world.failures


async def test_a_budget_in_a_database_that_is_gone_refuses(sqlite_engine: Engine) -> None:
    """The real store's errors are among those that are expected."""
    failures: list[None] = []
    quotas = open_quotas(
        plan(daily_images=5),
        engine=sqlite_engine,
        on_store_failure=lambda: failures.append(None),
    )
    with sqlite_engine.begin() as connection:
        connection.execute(text("DROP TABLE quota_counters"))
    with pytest.raises(IdentityUnavailableError):
        await quotas.spend(principal(), images=1)
    assert 1 == len(failures)
    await quotas.close()


async def test_a_database_that_is_locked_refuses_in_time(
    sqlite_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver would wait for longer than any caller."""
    monkeypatch.setattr(quotas_module, "BUDGET_TIMEOUT_SECONDS", 0.05)
    failures: list[None] = []
    quotas = open_quotas(
        plan(daily_images=5),
        engine=sqlite_engine,
        on_store_failure=lambda: failures.append(None),
    )
    with write_transaction(sqlite_engine), pytest.raises(IdentityUnavailableError):
        await quotas.spend(principal(), images=1)
    assert 1 == len(failures)
    await quotas.close()


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


@pytest.mark.parametrize("store", ["memory", "database"])
async def test_a_stranger_causes_no_query_of_the_database(
    sqlite_engine: Engine, store: str
) -> None:
    """Nor starts a thread, whatever the rates are."""
    asked: list[str] = []
    event.listen(sqlite_engine, "begin", lambda _connection: asked.append("began"))
    threads = threading.active_count()
    quotas = open_quotas(
        plan(address_rate="5/day", address_failure_rate="3/day", daily_images=9, store=store),
        engine=sqlite_engine,
        on_store_failure=pytest.fail,
    )
    for _ in range(9):
        if await refusal(quotas.admit_address(ADDRESS, is_known=False)) is None:
            await quotas.note_failure(ADDRESS)
    assert ([], threads) == (asked, threading.active_count())
    await quotas.close()


async def test_in_memory_nothing_waits(sqlite_engine: Engine) -> None:
    """A call by the default configuration never gives up the event loop, and queries nothing."""
    asked: list[str] = []
    event.listen(sqlite_engine, "begin", lambda _connection: asked.append("began"))
    quotas = open_quotas(
        plan(address_rate="5/day", address_failure_rate="5/day", principal_rate="5/day"),
        engine=sqlite_engine,
        on_store_failure=pytest.fail,
    )
    for asking in (
        quotas.admit_address(ADDRESS, is_known=False),
        quotas.note_failure(ADDRESS),
        quotas.spend(principal(), images=1),
    ):
        with pytest.raises(StopIteration):
            asking.send(None)
    assert [] == asked
    await quotas.close()


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


async def test_a_store_that_cannot_be_used_is_refused_at_the_start(sqlite_engine: Engine) -> None:
    """Not at the first call."""
    with pytest.raises(SettingsError):
        open_quotas(
            plan(store="redis://host-without-port"),
            engine=sqlite_engine,
            on_store_failure=pytest.fail,
        )


async def test_closing_ends_the_shared_counters() -> None:
    """The process may then end."""
    world = World(plan())
    await world.open().close()
    assert world.budgets.is_closed
