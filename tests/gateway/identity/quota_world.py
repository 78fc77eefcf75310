"""What tests of quotas share: a clock that stands still, rates, principals, and counters that fail."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime

from limits import RateLimitItem
from limits.errors import StorageError

from gateway.identity.principal import Principal
from gateway.identity.quota_limits import PrincipalLimits, QuotaPlan, Window, parse_rate

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
