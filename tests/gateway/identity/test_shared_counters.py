"""Counters that gateways share, asked from the event loop: the database, and a real Redis server."""

import asyncio
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Callable

import pytest
from sqlalchemy import Engine, select

from gateway.errors import SettingsError
from gateway.identity.quota_limits import retry_after_seconds
from gateway.identity.shared_counters import (
    STORE_ERRORS,
    DatabaseCounters,
    SharedCounters,
    open_redis,
)
from gateway.store.tables import quota_counters
from tests.gateway.identity.quota_world import Clock, rate

pytestmark = pytest.mark.anyio

NOW_SECONDS = 86_400.0 * 20_000
OpenCounters = Callable[[], SharedCounters]


@pytest.fixture
def anyio_backend() -> str:
    """The tests of quotas ask the same on uvloop."""
    return "asyncio"


@pytest.fixture
def key() -> str:
    """One that no other test uses: the server is the same for all."""
    return uuid.uuid4().hex


@pytest.fixture(params=["sqlite", "postgres", "redis"])
async def open_counters(request: pytest.FixtureRequest) -> AsyncIterator[OpenCounters]:
    """Opens as many gateways' counters as a test wants on one store of each kind."""
    opened: list[SharedCounters] = []
    if request.param == "redis":
        url: str = request.getfixturevalue("redis_url")
    else:
        engine: Engine = request.getfixturevalue(f"{request.param}_engine")

    def open_one() -> SharedCounters:
        clock = Clock(NOW_SECONDS)
        counters: SharedCounters
        if request.param == "redis":
            counters = open_redis(url, timeout_seconds=10.0)
        else:
            counters = DatabaseCounters(engine, clock=clock, monotonic=clock)
        opened.append(counters)
        return counters

    yield open_one
    for counters in opened:
        await counters.close()


async def test_a_rate_holds_for_all_gateways_together(
    open_counters: OpenCounters, key: str
) -> None:
    """Forty calls at the same time through two of them; as many pass as the rate says."""
    gateways = [open_counters(), open_counters()]
    limit = rate("25/day")
    answers = await asyncio.gather(*(gateways[n % 2].hit(limit, key) for n in range(40)))
    assert 25 == sum(is_counted for is_counted, _ in answers)
    _, _, current, current_seconds = await gateways[0].look(limit, key)
    assert 25 == current
    assert 86_400 < current_seconds <= 2 * 86_400


async def test_what_a_hit_tells_suffices_for_retry_after(
    open_counters: OpenCounters, key: str
) -> None:
    """A used-up minute ends within two."""
    counters = open_counters()
    await counters.hit(rate("1/minute"), key)
    is_counted, window = await counters.hit(rate("1/minute"), key)
    assert not is_counted
    assert 1 <= retry_after_seconds(rate("1/minute"), window) <= 121


async def test_a_budget_is_never_exceeded_by_gateways_at_the_same_time(
    open_counters: OpenCounters, key: str
) -> None:
    """Eighty wanted of fifty through two of them: exactly fifty, each number once."""
    gateways = [open_counters(), open_counters()]
    taken = await asyncio.gather(
        *(gateways[n % 2].take(key, amount=1, budget=50, lasts_seconds=60) for n in range(80))
    )
    assert list(range(1, 51)) == sorted(used for used in taken if used is not None)


async def test_refusals_do_not_eat_a_budget_that_grows(
    open_counters: OpenCounters, key: str
) -> None:
    """What an operator adds in the middle of a day is there to be used."""
    counters = open_counters()
    for _ in range(5):
        await counters.take(key, amount=1, budget=1, lasts_seconds=60)
    assert 2 == await counters.take(key, amount=1, budget=2, lasts_seconds=60)


async def test_a_budget_outlives_the_gateway(open_counters: OpenCounters, key: str) -> None:
    """One that starts later counts on."""
    await open_counters().take(key, amount=1, budget=2, lasts_seconds=60)
    assert 2 == await open_counters().take(key, amount=1, budget=2, lasts_seconds=60)


async def test_a_database_is_asked_in_threads_that_start_with_the_first_question(
    sqlite_engine: Engine, key: str
) -> None:
    """And end when it is closed."""
    clock = Clock(NOW_SECONDS)
    before = threading.active_count()
    counters = DatabaseCounters(sqlite_engine, clock=clock, monotonic=clock)
    assert before == threading.active_count()
    await counters.take(key, amount=1, budget=1, lasts_seconds=60)
    names = {thread.name for thread in threading.enumerate()}
    assert "quotas_0" in names
    await counters.close()
    assert "quotas_0" not in {thread.name for thread in threading.enumerate()}


async def test_counters_that_have_ended_are_purged_now_and_then(sqlite_engine: Engine) -> None:
    """Nobody waits for it; at the latest it is done when the counters are closed."""
    clock = Clock(NOW_SECONDS)
    counters = DatabaseCounters(sqlite_engine, clock=clock, monotonic=clock)
    for name in ("a", "b", "c"):
        await counters.take(name, amount=1, budget=1, lasts_seconds=60)
    clock.seconds += 3600
    await counters.take("d", amount=1, budget=1, lasts_seconds=60)
    await counters.look(rate("1/day"), "waits for the purge, in the only thread")
    with sqlite_engine.connect() as connection:
        keys = connection.execute(select(quota_counters.c.key)).scalars().all()
    assert ["d"] == list(keys)
    await counters.close()


async def test_a_redis_server_that_is_not_there_fails_as_a_store_fails() -> None:
    """With an error that the quotas expect."""
    pytest.importorskip("redis", reason="needs the redis extra")
    counters = open_redis("redis://127.0.0.1:1/0", timeout_seconds=1.0)
    with pytest.raises(STORE_ERRORS):
        await counters.take("k", amount=1, budget=1, lasts_seconds=60)
    await counters.close()


async def test_a_redis_counter_ends(redis_url: str, key: str) -> None:
    """Or yesterday's budgets would fill the server's memory."""
    redis = pytest.importorskip("redis.asyncio")
    counters = open_redis(redis_url, timeout_seconds=10.0)
    await counters.take(key, amount=1, budget=1, lasts_seconds=3600)
    await counters.close()
    async with redis.from_url(redis_url) as client:
        assert 0 < await client.ttl(f"gatewatch:{key}") <= 3600


@pytest.mark.parametrize(
    "url",
    ["redis://:hunter2@host", "redis://:hunter2@host:port", "redis://:hunter2@host:6379?db=x"],
)
def test_a_wrong_url_is_refused_without_being_shown(url: str) -> None:
    """It may hold a password."""
    pytest.importorskip("redis", reason="needs the redis extra")
    with pytest.raises(SettingsError, match="redis://localhost:6379/0") as refused:
        open_redis(url, timeout_seconds=1.0)
    assert "hunter2" not in f"{refused.value}{refused.value.reason}"
    assert refused.value.__suppress_context__


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start, not at the first call."""
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(SettingsError, match=r"pip install 'gatewatch\[redis\]'"):
        open_redis("redis://localhost:6379/0", timeout_seconds=1.0)
