"""What the limits are: their names, what they allow, what is left of them, and the errors that refuse.

Rules: pure; the list of limits is closed, and the same name stands in the answer, the audit record and the metrics; a
rate is a sliding window, so that its amount does not pass twice around the moment where two windows meet (one call more
can: limits rounds down what still counts of the window before).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from math import floor
from types import MappingProxyType

from limits import (
    RateLimitItem,
    RateLimitItemPerDay,
    RateLimitItemPerHour,
    RateLimitItemPerMinute,
    RateLimitItemPerSecond,
)

from gateway.errors import Code, QuotaError, SettingsError
from gateway.identity.principal import Principal

DAY_SECONDS = 86_400


class _OneCount(RateLimitItem):
    """A rate that is counted under one key whatever it allows: a caller that shows another role has no second count."""

    def key_for(self, *identifiers: bytes | str | float) -> str:
        """What the count of a span stands under."""
        return "/".join((self.namespace, *map(str, identifiers), self.GRANULARITY.name))


class _PerSecond(_OneCount, RateLimitItemPerSecond):
    """So many a second."""


class _PerMinute(_OneCount, RateLimitItemPerMinute):
    """So many a minute."""


class _PerHour(_OneCount, RateLimitItemPerHour):
    """So many an hour."""


class _PerDay(_OneCount, RateLimitItemPerDay):
    """So many a day."""


_RATE = re.compile(r"([1-9][0-9]{0,8})/(second|minute|hour|day)")
_SPANS: Mapping[str, type[RateLimitItem]] = MappingProxyType(
    {
        "second": _PerSecond,
        "minute": _PerMinute,
        "hour": _PerHour,
        "day": _PerDay,
    }
)

# Of the window before and of the current one: the count, and the seconds for which it still counts; the current one
# counts during the next as well. As limits' storages give it.
Window = tuple[int, float, int, float]


class LimitName(StrEnum):
    """Every limit that a call can meet."""

    ADDRESS_RATE = "address_rate"
    ADDRESS_FAILURES = "address_failures"
    ADDRESS_CONCURRENCY = "address_concurrency"
    PRINCIPAL_RATE = "principal_rate"
    PRINCIPAL_CONCURRENCY = "principal_concurrency"
    DAILY_IMAGES = "daily_images"
    DPOP_PROOFS = (
        "dpop_proofs"  # of a principal, that are remembered until they are too old to be sent again
    )


@dataclass(frozen=True, slots=True)
class PrincipalLimits:
    """What one principal may ask for.

    rate: calls in a span of time; None is no limit. concurrency: calls at the same time, at least 1. daily_images: by
    UTC day; 0 is no limit.
    """

    rate: RateLimitItem | None
    concurrency: int
    daily_images: int


@dataclass(frozen=True, slots=True)
class QuotaPlan:
    """The limits of a gateway, and where they are counted.

    address_failure_rate: refused credentials; None is no limit, as for address_rate. principal: for roles that have no
    limits of their own. store: `memory`, `database`, or the URL of a Redis server.
    """

    address_rate: RateLimitItem | None
    address_failure_rate: RateLimitItem | None
    address_concurrency: int
    principal: PrincipalLimits
    store: str


@dataclass(frozen=True, slots=True)
class QuotaStatus:
    """How far a limit is used: quota is what it allows in window_seconds, reset_seconds when its window ends."""

    limit: LimitName
    quota: int
    window_seconds: int
    remaining: int
    reset_seconds: int


def parse_rate(text: str) -> RateLimitItem | None:
    """The rate of `N/second`, `N/minute`, `N/hour` or `N/day`, N from 1 to 999,999,999; None for an empty text.

    Raises SettingsError for anything else.
    """
    if not text:
        return None
    match = _RATE.fullmatch(text)
    if match is None:
        message = f"{text!r} is not a rate: write N/second, N/minute, N/hour or N/day, or leave it empty for no limit"
        raise SettingsError(Code.SETTINGS_INVALID, message)
    return _SPANS[match[2]](int(match[1]), namespace="gatewatch")


def principal_key(principal: Principal) -> str:
    """What a principal is counted as; the length keeps issuer and subject apart, whatever they hold."""
    return f"{len(principal.issuer)}:{principal.issuer}:{principal.subject}"


def day_of(now_seconds: float) -> tuple[str, float]:
    """The UTC day of a time in seconds since 1970, as YYYY-MM-DD, and the seconds that are left of it."""
    day = datetime.fromtimestamp(now_seconds, UTC).date().isoformat()
    return day, DAY_SECONDS - now_seconds % DAY_SECONDS


def used(rate: RateLimitItem, window: Window) -> int:
    """How many calls count against a rate: of the window before, the share that the sliding window still covers."""
    previous, previous_seconds, current, _ = window
    return floor(previous * previous_seconds / rate.get_expiry()) + current


def rate_status(limit: LimitName, rate: RateLimitItem, window: Window) -> QuotaStatus:
    """How far a rate is used."""
    span_seconds = rate.get_expiry()
    return QuotaStatus(
        limit,
        quota=rate.amount,
        window_seconds=span_seconds,
        remaining=max(0, rate.amount - used(rate, window)),
        reset_seconds=floor(_left_seconds(span_seconds, window[3])) + 1,
    )


def retry_after_seconds(rate: RateLimitItem, window: Window) -> int:
    """In how many seconds, at least 1, a used-up rate lets one more pass if nobody else asks.

    What was counted in the window before weighs by the share of it that the sliding window still covers; so one more
    passes as soon as previous * (left - x) / span + current < amount.
    """
    previous, _, current, current_seconds = window
    span_seconds = rate.get_expiry()
    left_seconds = _left_seconds(span_seconds, current_seconds)
    if current >= rate.amount:
        wait_seconds = left_seconds + span_seconds * (1 - rate.amount / current)
    elif previous:
        wait_seconds = left_seconds - (rate.amount - current) * span_seconds / previous
    else:
        wait_seconds = 0.0
    return max(0, floor(wait_seconds)) + 1


def _left_seconds(span_seconds: int, current_seconds: float) -> float:
    return current_seconds - span_seconds if current_seconds > span_seconds else float(span_seconds)


_RATE_CAUSES: Mapping[LimitName, str] = MappingProxyType(
    {
        LimitName.ADDRESS_RATE: "too many calls from this network address",
        LimitName.ADDRESS_FAILURES: "too many refused access tokens from this network address",
        LimitName.PRINCIPAL_RATE: "too many calls by this principal",
    }
)
_CONCURRENCY_CAUSES: Mapping[LimitName, str] = MappingProxyType(
    {
        LimitName.ADDRESS_CONCURRENCY: "too many calls at the same time from this network address",
        LimitName.PRINCIPAL_CONCURRENCY: "too many calls at the same time by this principal",
    }
)


def rate_refusal(limit: LimitName, rate: RateLimitItem, window: Window) -> QuotaError:
    """The error for a rate that is used up."""
    wait_seconds = retry_after_seconds(rate, window)
    fix = "stop sending that token and get a new one" if _is_of_tokens(limit) else "call less often"
    allowed = f"at most {rate.amount} a {rate.GRANULARITY.name}"
    return QuotaError(
        Code.RATE_LIMITED,
        f"{_RATE_CAUSES[limit]}, {allowed}: wait {wait_seconds} s and {fix}",
        limit=limit.value,
        retry_after_seconds=wait_seconds,
        quota=rate.amount,
        window_seconds=rate.get_expiry(),
    )


def _is_of_tokens(limit: LimitName) -> bool:
    return limit is LimitName.ADDRESS_FAILURES


def concurrency_refusal(limit: LimitName, at_most: int) -> QuotaError:
    """The error for too many calls at the same time; nobody knows when one of them ends, so come back soon."""
    return QuotaError(
        Code.RATE_LIMITED,
        f"{_CONCURRENCY_CAUSES[limit]}, at most {at_most}: wait for an answer before the next call",
        limit=limit.value,
        retry_after_seconds=1,
    )


def budget_refusal(budget: int, left_seconds: float) -> QuotaError:
    """The error for a used-up daily budget; left_seconds: of the UTC day."""
    return QuotaError(
        Code.QUOTA_EXHAUSTED,
        f"today's budget of {budget} images is used up: wait until 00:00 UTC, or ask the gateway's operator for more",
        limit=LimitName.DAILY_IMAGES.value,
        retry_after_seconds=floor(left_seconds) + 1,
        quota=budget,
        window_seconds=DAY_SECONDS,
    )


def budget_status(budget: int, spent: int, left_seconds: float) -> QuotaStatus:
    """How far a daily budget is used; left_seconds: of the UTC day."""
    return QuotaStatus(
        LimitName.DAILY_IMAGES,
        quota=budget,
        window_seconds=DAY_SECONDS,
        remaining=max(0, budget - spent),
        reset_seconds=floor(left_seconds) + 1,
    )
