"""The limits of a gateway: what is refused, what it costs others, and what happens when a store fails."""

import threading

import pytest
from sqlalchemy import Engine, event, text

from gateway.errors import Code, IdentityUnavailableError, QuotaError, SettingsError
from gateway.identity import quotas as quotas_module
from gateway.identity.quota_limits import LimitName, PrincipalLimits, QuotaStatus
from gateway.identity.quotas import open_quotas
from gateway.store.database import write_transaction
from tests.gateway.identity.quota_world import (
    NOON_SECONDS,
    Clock,
    FakeCounters,
    World,
    plan,
    principal,
    rate,
    refusal,
)

pytestmark = pytest.mark.anyio

ADDRESS = "203.0.113.7"


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The gateway runs on either."""
    return "asyncio", {"use_uvloop": request.param}


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


async def test_what_is_used_of_a_budget_is_known_for_an_hour_after_its_day() -> None:
    """To a gateway whose clock is behind, it is still that day."""
    world = World(plan(daily_images=2))
    await world.open().spend(principal(), images=1)
    assert 43_200 + 3600 == world.budgets.lasts_seconds


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
