"""Counters that all gateways share, in the database or in Redis, asked from the event loop.

Rules: never a query on the event loop; every question is bounded in time; what fails is one of STORE_ERRORS, and never
shows the URL, which may hold a password.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar, cast

from limits import RateLimitItem
from limits.aio.storage import RedisStorage
from limits.aio.storage.redis.redispy import RedispyBridge
from limits.aio.strategies import (
    SlidingWindowCounterRateLimiter as AsyncSlidingWindowCounterRateLimiter,
)
from limits.errors import ConfigurationError, StorageError
from limits.strategies import SlidingWindowCounterRateLimiter
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.errors import Code, SettingsError
from gateway.identity.quota_limits import Window
from gateway.identity.quota_stores import DatabaseStorage, Seconds

PURGE_SECONDS = 600.0
# On SQLite there is one writer at a time anyway; on PostgreSQL each thread may hold one of the pool's ten connections.
_THREADS = {"sqlite": 1, "postgresql": 2}
STORE_ERRORS = (StorageError, SQLAlchemyError, OSError, TimeoutError)

T = TypeVar("T")


class SharedCounters(Protocol):
    """Rates and budgets that count for all gateways together; everything raises STORE_ERRORS."""

    async def hit(self, rate: RateLimitItem, key: str) -> tuple[bool, Window]:
        """Count one call unless the rate is used up; whether it was counted, and the window then."""

    async def look(self, rate: RateLimitItem, key: str) -> Window:
        """The window of a rate; counts nothing."""

    async def take(self, key: str, *, amount: int, budget: int, lasts_seconds: int) -> int | None:
        """Take amount of a budget; what is used of it then, or None, and nothing taken, where there is too little."""

    async def close(self) -> None:
        """End what is open; nothing is asked afterwards."""


class DatabaseCounters:
    """The counters in the gateway's database, asked in threads of their own; they start with the first question.

    A question that is given up on is still asked if it has begun: it counts, though nobody was served.
    """

    def __init__(self, engine: Engine, *, clock: Seconds, monotonic: Seconds) -> None:
        """Nothing is opened yet. clock: seconds since 1970."""
        self._storage = DatabaseStorage(engine, clock=clock)
        self._limiter = SlidingWindowCounterRateLimiter(self._storage)
        self._threads = ThreadPoolExecutor(_THREADS[engine.dialect.name], "quotas")
        self._monotonic = monotonic
        self._purge_at = monotonic()

    async def hit(self, rate: RateLimitItem, key: str) -> tuple[bool, Window]:
        """As SharedCounters says."""
        return await self._ask(lambda: self._hit(rate, key))

    async def look(self, rate: RateLimitItem, key: str) -> Window:
        """As SharedCounters says."""
        return await self._ask(
            lambda: self._storage.get_sliding_window(rate.key_for(key), rate.get_expiry())
        )

    async def take(self, key: str, *, amount: int, budget: int, lasts_seconds: int) -> int | None:
        """As SharedCounters says."""
        return await self._ask(
            lambda: self._storage.take(
                key, amount=amount, budget=budget, lasts_seconds=lasts_seconds
            )
        )

    async def close(self) -> None:
        """As SharedCounters says; waits for a question that is being asked."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        self._storage.close()

    async def _ask(self, question: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(self._threads, question)
        if self._monotonic() >= self._purge_at:
            self._purge_at = self._monotonic() + PURGE_SECONDS
            self._threads.submit(self._storage.purge)
        return answer

    def _hit(self, rate: RateLimitItem, key: str) -> tuple[bool, Window]:
        is_counted = self._limiter.hit(rate, key)
        return is_counted, self._storage.get_sliding_window(rate.key_for(key), rate.get_expiry())


class RedisCounters:
    """The counters in a Redis server, through limits' own storage."""

    def __init__(self, storage: RedisStorage) -> None:
        """Nothing is asked yet."""
        self._storage = storage
        self._limiter = AsyncSlidingWindowCounterRateLimiter(storage)

    async def hit(self, rate: RateLimitItem, key: str) -> tuple[bool, Window]:
        """As SharedCounters says."""
        is_counted = await self._limiter.hit(rate, key)
        return is_counted, await self.look(rate, key)

    async def look(self, rate: RateLimitItem, key: str) -> Window:
        """As SharedCounters says."""
        return await self._storage.get_sliding_window(rate.key_for(key), rate.get_expiry())

    async def take(self, key: str, *, amount: int, budget: int, lasts_seconds: int) -> int | None:
        """As SharedCounters says."""
        used = await self._storage.incr(key, lasts_seconds, amount)
        if used <= budget:
            return used
        # Refusals must not eat what an operator adds to the budget later in the day.
        await self._storage.incr(key, lasts_seconds, -amount)
        return None

    async def close(self) -> None:
        """As SharedCounters says."""
        bridge = cast("RedispyBridge", self._storage.bridge)
        await bridge.storage.aclose()


def open_redis(url: str, *, timeout_seconds: float) -> RedisCounters:
    """The counters in the server at `redis://[[USER]:PASSWORD@]HOST:PORT[/DB]`, or rediss:// for TLS; not yet asked.

    Raises SettingsError if the URL is none, or the package `redis` is missing.
    """
    try:
        storage = RedisStorage(
            f"async+{url}",
            wrap_exceptions=True,
            implementation="redispy",
            key_prefix="gatewatch",
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
        )
    except (ConfigurationError, ValueError) as exc:
        # Without the cause's words, which repeat the URL.
        message = (
            "GATEWAY_QUOTA_STORE cannot be used: it needs the redis extra (pip install 'gatewatch[redis]') and a URL"
            " with host and port, such as redis://localhost:6379/0"
        )
        raise SettingsError(Code.SETTINGS_INVALID, message, reason=type(exc).__name__) from None
    return RedisCounters(storage)
