"""What tests of quotas share: a clock that stands still, rates, principals, counters that fail, quotas of them."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from limits import RateLimitItem
from limits.errors import StorageError

from gateway.errors import QuotaError
from gateway.identity.principal import Principal
from gateway.identity.quota_limits import PrincipalLimits, QuotaPlan, Window, parse_rate
from gateway.identity.quotas import Quotas

# Noon, and the start of a window of every length up to an hour.
NOON_SECONDS = 86_400.0 * 20_000 + 43_200
_MOMENT = datetime(2031, 5, 6, tzinfo=UTC)


@dataclass
class Clock:
    """Seconds that pass only when a test says so."""

    seconds: float

    def __call__(self) -> float:
        """The time."""
        return self.seconds


def rate(text: str) -> RateLimitItem:
    """A rate that there is."""
    parsed = parse_rate(text)
    assert parsed is not None
    return parsed


def principal(subject: str = "ann") -> Principal:
    """A principal of one issuer."""
    return Principal("https://issuer", subject, "app", frozenset(), "t1", _MOMENT, _MOMENT)


def plan(
    *,
    address_rate: str = "",
    address_failure_rate: str = "",
    address_concurrency: int = 100,
    principal_rate: str = "",
    principal_concurrency: int = 100,
    daily_images: int = 0,
    store: str = "memory",
) -> QuotaPlan:
    """A plan that limits only what a test names."""
    return QuotaPlan(
        address_rate=parse_rate(address_rate),
        address_failure_rate=parse_rate(address_failure_rate),
        address_concurrency=address_concurrency,
        principal=PrincipalLimits(parse_rate(principal_rate), principal_concurrency, daily_images),
        store=store,
    )


@dataclass
class FakeCounters:
    """Shared counters that answer as a test says; None to is_open is one that never answers."""

    window: Window = (0, 0.0, 1, 90.0)
    is_counted: bool = True
    is_open: bool | None = True
    asked: list[str] = field(default_factory=list)
    used: int = 0
    lasts_seconds: int = 0
    is_closed: bool = False

    async def hit(self, rate: RateLimitItem, key: str) -> tuple[bool, Window]:
        """What the test said."""
        await self._ask(f"hit {key}")
        return self.is_counted, self.window

    async def look(self, rate: RateLimitItem, key: str) -> Window:
        """What the test said."""
        await self._ask(f"look {key}")
        return self.window

    async def take(self, key: str, *, amount: int, budget: int, lasts_seconds: int) -> int | None:
        """Count up to the budget, whatever the key."""
        await self._ask(f"take {key}")
        self.lasts_seconds = lasts_seconds
        if self.used + amount > budget:
            return None
        self.used += amount
        return self.used

    async def close(self) -> None:
        """Remember it."""
        self.is_closed = True

    async def _ask(self, question: str) -> None:
        self.asked.append(question)
        if self.is_open is None:
            await asyncio.Event().wait()
        if not self.is_open:
            raise StorageError(ConnectionError("gone"))


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
