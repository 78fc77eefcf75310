"""How much each may ask: rates and calls at the same time by address and by principal, images by day.

| limit                 | counted before authentication | counted where                               | store fails |
|-----------------------|-------------------------------|---------------------------------------------|-------------|
| address_rate          | yes                           | this process; with Redis all gateways       | process     |
| address_failures      | yes                           | this process; with Redis all gateways       | process     |
| address_concurrency   | yes                           | this process                                |             |
| principal_rate        | no                            | this process; database or Redis as well     | process     |
| principal_concurrency | no                            | this process                                |             |
| daily_images          | no                            | the database, or Redis where configured     | refused     |

Rules: a stranger causes no query of the database. A rate is always counted in the process first: what that refuses asks
nobody else, and it still holds when the shared counters fail, because an outage there must not end service. A budget
is a promise over a day that no process can keep alone, so it fails closed. What was spent stays spent, whatever is
refused or fails afterwards: otherwise bad images would be free.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from limits import RateLimitItem
from sqlalchemy import Engine

from gateway.errors import IdentityUnavailableError, QuotaError
from gateway.identity.concurrency import InFlight, Slot
from gateway.identity.principal import Principal
from gateway.identity.quota_limits import (
    LimitName,
    PrincipalLimits,
    QuotaPlan,
    QuotaStatus,
    Window,
    budget_refusal,
    budget_status,
    day_of,
    principal_key,
    rate_refusal,
    rate_status,
    used,
)
from gateway.identity.quota_stores import BoundedStorage, Seconds
from gateway.identity.shared_counters import (
    STORE_ERRORS,
    DatabaseCounters,
    SharedCounters,
    open_redis,
)
from gateway.store.addresses import address_key

MAX_KEYS = 65_536  # of each limit; about 20 MiB
RATE_TIMEOUT_SECONDS = 0.5
BUDGET_TIMEOUT_SECONDS = 2.0
# So that not every call waits for a store that does not answer.
PAUSE_SECONDS = 1.0
# Hosts whose clocks differ begin another day at different moments; none may find yesterday's count gone.
DAY_SLACK_SECONDS = 3600

T = TypeVar("T")


class _SharedRates:
    """Asks the shared counters for rates; None where they cannot be asked, which is counted."""

    def __init__(
        self, counters: SharedCounters, *, monotonic: Seconds, on_failure: Callable[[], None]
    ) -> None:
        self._counters = counters
        self._monotonic = monotonic
        self._on_failure = on_failure
        self._paused_until = 0.0

    async def hit(self, rate: RateLimitItem, key: str) -> tuple[bool, Window] | None:
        return await self._ask(lambda: self._counters.hit(rate, key))

    async def look(self, rate: RateLimitItem, key: str) -> Window | None:
        return await self._ask(lambda: self._counters.look(rate, key))

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> T | None:
        if self._monotonic() >= self._paused_until:
            try:
                async with asyncio.timeout(RATE_TIMEOUT_SECONDS):
                    return await question()
            except STORE_ERRORS:
                self._paused_until = self._monotonic() + PAUSE_SECONDS
        self._on_failure()
        return None


class _Rate:
    """One of the limits that are rates, for any number of keys."""

    def __init__(
        self, limit: LimitName, *, monotonic: Seconds, shared: _SharedRates | None
    ) -> None:
        self._limit = limit
        self._prefix = f"{limit}/"
        self._storage = BoundedStorage(max_keys=MAX_KEYS, monotonic=monotonic)
        self._shared = shared

    async def hit(self, rate: RateLimitItem, key: str) -> None:
        """Count one call. Raises QuotaError if the rate is used up."""
        key = self._prefix + key
        await self._count(rate, key, rate.key_for(key))

    async def spend(self, rate: RateLimitItem, key: str) -> QuotaStatus:
        """Count one call; how far the rate is used then. Raises QuotaError if it is used up."""
        key = self._prefix + key
        full_key = rate.key_for(key)
        shared = await self._count(rate, key, full_key)
        return rate_status(self._limit, rate, shared or self._window(rate, full_key))

    async def check(self, rate: RateLimitItem, key: str) -> None:
        """Raises QuotaError if the rate is used up; counts nothing."""
        key = self._prefix + key
        window = self._window(rate, rate.key_for(key))
        if self._shared is not None and used(rate, window) < rate.amount:
            window = await self._shared.look(rate, key) or window
        if used(rate, window) >= rate.amount:
            raise rate_refusal(self._limit, rate, window)

    async def _count(self, rate: RateLimitItem, key: str, full_key: str) -> Window | None:
        # What all gateways counted; None where this process alone did. The step of limits' own
        # SlidingWindowCounterRateLimiter.hit without making the key again, which costs as much as counting.
        if not self._storage.acquire_sliding_window_entry(full_key, rate.amount, rate.get_expiry()):
            raise rate_refusal(self._limit, rate, self._window(rate, full_key))
        answer = await self._shared.hit(rate, key) if self._shared is not None else None
        if answer is None:
            return None
        is_counted, window = answer
        if not is_counted:
            raise rate_refusal(self._limit, rate, window)
        return window

    def _window(self, rate: RateLimitItem, full_key: str) -> Window:
        return self._storage.get_sliding_window(full_key, rate.get_expiry())


class Quotas:
    """The limits of a gateway; one object a process, event loop only.

    In the order of a call: address_slot and admit_address before authentication, note_failure if that refuses,
    principal_slot and spend after authorisation.
    """

    def __init__(
        self,
        plan: QuotaPlan,
        *,
        budgets: SharedCounters,
        address_rates: SharedCounters | None,
        principal_rates: SharedCounters | None,
        clock: Seconds,
        monotonic: Seconds,
        on_store_failure: Callable[[], None],
    ) -> None:
        """Nothing is counted yet. clock: seconds since 1970. address_rates, principal_rates: None is this process."""

        def shared(counters: SharedCounters | None) -> _SharedRates | None:
            if counters is None:
                return None
            return _SharedRates(counters, monotonic=monotonic, on_failure=on_store_failure)

        def rate(limit: LimitName, of: _SharedRates | None) -> _Rate:
            return _Rate(limit, monotonic=monotonic, shared=of)

        self._plan = plan
        self._budgets = budgets
        self._clock = clock
        self._on_store_failure = on_store_failure
        of_addresses = shared(address_rates)
        self._address_rate = rate(LimitName.ADDRESS_RATE, of_addresses)
        self._address_failures = rate(LimitName.ADDRESS_FAILURES, of_addresses)
        self._principal_rate = rate(LimitName.PRINCIPAL_RATE, shared(principal_rates))
        self._of_addresses = InFlight(LimitName.ADDRESS_CONCURRENCY)
        self._of_principals = InFlight(LimitName.PRINCIPAL_CONCURRENCY)

    def address_slot(self, address: str) -> Slot:
        """A context for one call from an address; entering raises QuotaError if it has too many under way."""
        return self._of_addresses.slot(address_key(address), at_most=self._plan.address_concurrency)

    def principal_slot(self, principal: Principal, limits: PrincipalLimits | None = None) -> Slot:
        """A context for one call of a principal; entering raises QuotaError if it has too many under way.

        limits: its role's; None is the plan's.
        """
        at_most = (limits or self._plan.principal).concurrency
        return self._of_principals.slot(principal_key(principal), at_most=at_most)

    async def admit_address(self, address: str, *, is_known: bool) -> None:
        """Count a call from an address.

        is_known: the call's token was verified before. Whoever has one is not made to suffer from those who guess
        behind the same address, and what they send is refused before it counts against the address's rate.
        Raises QuotaError if the address has had too many tokens refused, unless is_known, or makes too many calls.
        """
        key = address_key(address)
        if not is_known and self._plan.address_failure_rate is not None:
            await self._address_failures.check(self._plan.address_failure_rate, key)
        if self._plan.address_rate is not None:
            await self._address_rate.hit(self._plan.address_rate, key)

    async def note_failure(self, address: str) -> None:
        """Count refused credentials; never refuses."""
        if self._plan.address_failure_rate is None:
            return
        try:
            await self._address_failures.hit(self._plan.address_failure_rate, address_key(address))
        except QuotaError:
            return  # The next call from there meets it.

    async def spend(
        self, principal: Principal, limits: PrincipalLimits | None = None, *, images: int = 0
    ) -> tuple[QuotaStatus, ...]:
        """Count a call of a principal, and the images in it; how far its limits are used then.

        limits: its role's; None is the plan's. Raises QuotaError if a limit is used up, IdentityUnavailableError if
        there is a budget of images and it cannot be read.
        """
        allowed = limits or self._plan.principal
        key = principal_key(principal)
        statuses: tuple[QuotaStatus, ...] = ()
        if allowed.rate is not None:
            statuses = (await self._principal_rate.spend(allowed.rate, key),)
        if images and allowed.daily_images:
            statuses = (*statuses, await self._take(key, images, allowed.daily_images))
        return statuses

    async def close(self) -> None:
        """End what is open, once no call is under way."""
        await self._budgets.close()

    async def _take(self, key: str, images: int, budget: int) -> QuotaStatus:
        day, left_seconds = day_of(self._clock())
        lasts_seconds = int(left_seconds) + DAY_SLACK_SECONDS
        try:
            async with asyncio.timeout(BUDGET_TIMEOUT_SECONDS):
                used = await self._budgets.take(
                    f"{LimitName.DAILY_IMAGES}/{day}/{key}",
                    amount=images,
                    budget=budget,
                    lasts_seconds=lasts_seconds,
                )
        except STORE_ERRORS as exc:
            self._on_store_failure()
            raise IdentityUnavailableError(reason="quota_store_unavailable") from exc
        if used is None:
            raise budget_refusal(budget, left_seconds)
        return budget_status(budget, used, left_seconds)


def open_quotas(
    plan: QuotaPlan,
    *,
    engine: Engine,
    on_store_failure: Callable[[], None],
    clock: Seconds = time.time,
    monotonic: Seconds = time.monotonic,
) -> Quotas:
    """The limits of a plan; nothing is asked, and no thread started, before a limit needs it.

    on_store_failure: called for each call that shared counters could not be asked for. Raises SettingsError if the
    plan's store cannot be used.
    """
    counters: SharedCounters
    if plan.store in {"memory", "database"}:
        counters = DatabaseCounters(engine, clock=clock, monotonic=monotonic)
    else:
        counters = open_redis(plan.store, timeout_seconds=RATE_TIMEOUT_SECONDS)
    return Quotas(
        plan,
        budgets=counters,
        address_rates=None if isinstance(counters, DatabaseCounters) else counters,
        principal_rates=None if plan.store == "memory" else counters,
        clock=clock,
        monotonic=monotonic,
        on_store_failure=on_store_failure,
    )
