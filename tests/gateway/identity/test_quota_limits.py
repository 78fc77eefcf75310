"""Rates as text, what addresses and principals count as, and the errors that refuse."""

from dataclasses import replace
from datetime import UTC, datetime
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Code, SettingsError
from gateway.identity.quota_limits import (
    LimitName,
    QuotaStatus,
    budget_refusal,
    budget_status,
    concurrency_refusal,
    day_of,
    parse_rate,
    principal_key,
    rate_refusal,
    rate_status,
    retry_after_seconds,
)
from gateway.identity.quota_stores import BoundedStorage
from tests.gateway.identity.quota_world import Clock, principal, rate


@pytest.mark.parametrize(
    ("text", "amount", "seconds"),
    [
        ("1/second", 1, 1),
        ("60/minute", 60, 60),
        ("5/hour", 5, 3600),
        ("999999999/day", 999_999_999, 86_400),
    ],
)
def test_a_rate_is_an_amount_and_a_span(text: str, amount: int, seconds: int) -> None:
    """The four spans that there are."""
    parsed = rate(text)
    assert (amount, seconds) == (parsed.amount, parsed.get_expiry())


def test_an_empty_rate_is_no_limit() -> None:
    """As the settings say."""
    assert parse_rate("") is None


@pytest.mark.parametrize(
    "text",
    [
        "0/second",
        "01/second",
        "1/seconds",
        "1/Second",
        "1 per second",
        "1/2second",
        "1/second;2/day",
        "1000000000/day",
        "-1/day",
        "1/second\n",
        " 1/second",
        "\u0661/second",
        "1/month",
    ],
)
def test_what_limits_itself_would_take_more_freely_is_refused(text: str) -> None:
    """One spelling for one rate; the message says what to write."""
    with pytest.raises(SettingsError, match="write N/second, N/minute") as refused:
        parse_rate(text)
    assert Code.SETTINGS_INVALID is refused.value.code


@given(st.one_of(st.text(), st.from_regex(r"[0-9]{1,12}/(second|minute|hour|day)s?")))
def test_a_rate_reads_back_as_it_was_written_or_is_refused(text: str) -> None:
    """No text is taken for another, and none raises anything else."""
    try:
        parsed = parse_rate(text)
    except SettingsError:
        return
    assert text == ("" if parsed is None else f"{parsed.amount}/{parsed.GRANULARITY.name}")


def test_issuer_and_subject_are_never_confused() -> None:
    """Two pairs that read the same when joined are two principals."""
    one = replace(principal(), issuer="https://a:b", subject="c")
    other = replace(principal(), issuer="https://a", subject="b:c")
    assert principal_key(one) != principal_key(other)


@pytest.mark.parametrize(
    ("moment", "day", "left_seconds"),
    [
        (datetime(2031, 5, 6, tzinfo=UTC), "2031-05-06", 86_400.0),
        (datetime(2031, 5, 6, 23, 59, 59, 500_000, tzinfo=UTC), "2031-05-06", 0.5),
        (datetime(2028, 2, 29, 12, tzinfo=UTC), "2028-02-29", 43_200.0),
    ],
)
def test_a_day_is_of_utc(moment: datetime, day: str, left_seconds: float) -> None:
    """It begins at midnight there, wherever the gateway stands."""
    assert (day, left_seconds) == day_of(moment.timestamp())


def test_a_status_weighs_the_window_before_by_what_still_counts() -> None:
    """Of 40 calls in the minute before, a quarter is left after three quarters of this one."""
    status = rate_status(LimitName.PRINCIPAL_RATE, rate("60/minute"), (40, 15.0, 20, 75.0))
    assert QuotaStatus(LimitName.PRINCIPAL_RATE, 60, 60, 30, 16) == status


def test_a_status_never_has_less_than_nothing_left() -> None:
    """Calls that other gateways counted at the same moment can be more than the limit."""
    status = rate_status(LimitName.PRINCIPAL_RATE, rate("5/minute"), (0, 0.0, 7, 61.0))
    assert 0 == status.remaining


@given(
    amount=st.integers(1, 50),
    span=st.sampled_from(["second", "minute", "hour"]),
    steps=st.lists(st.floats(0, 1), min_size=1, max_size=60),
)
def test_a_caller_that_waits_as_told_gets_in(amount: int, span: str, steps: list[float]) -> None:
    """However the calls before were spread: Retry-After is never too short, nor longer than two windows."""
    clock = Clock(1000.25)
    storage = BoundedStorage(max_keys=10, monotonic=clock)
    limit = rate(f"{amount}/{span}")
    expiry = limit.get_expiry()
    for step in steps:
        clock.seconds += step * expiry * 2 / amount
        while storage.acquire_sliding_window_entry("k", amount, expiry):
            if step < 0.7:
                break
    wait_seconds = retry_after_seconds(limit, storage.get_sliding_window("k", expiry))
    assert 1 <= wait_seconds <= 2 * expiry + 1
    clock.seconds += wait_seconds
    assert storage.acquire_sliding_window_entry("k", amount, expiry)


def test_the_refusal_of_a_rate_says_cause_and_fix() -> None:
    """With the limit's numbers, and how long to wait."""
    error = rate_refusal(LimitName.PRINCIPAL_RATE, rate("5/minute"), (0, 0.0, 5, 90.0))
    assert Code.RATE_LIMITED is error.code
    assert ("principal_rate", 31, 5, 60) == (
        error.limit,
        error.retry_after_seconds,
        error.quota,
        error.window_seconds,
    )
    message = "too many calls by this principal, at most 5 a minute: wait 31 s and call less often"
    assert message == error.message


def test_the_refusal_after_bad_tokens_tells_to_stop_sending_them() -> None:
    """Calling less often would not help."""
    error = rate_refusal(LimitName.ADDRESS_FAILURES, rate("5/minute"), (0, 0.0, 5, 61.0))
    assert "address_failures" == error.limit
    assert error.message.endswith("stop sending that token and get a new one")


@pytest.mark.parametrize("limit", [LimitName.ADDRESS_CONCURRENCY, LimitName.PRINCIPAL_CONCURRENCY])
def test_the_refusal_of_calls_at_the_same_time_has_no_window(limit: LimitName) -> None:
    """Nobody knows when one of them ends."""
    error = concurrency_refusal(limit, 9)
    assert (Code.RATE_LIMITED, limit.value, 1) == (
        error.code,
        error.limit,
        error.retry_after_seconds,
    )
    assert (None, None) == (error.quota, error.window_seconds)
    assert error.message.endswith("at most 9: wait for an answer before the next call")


def test_the_refusal_of_a_budget_ends_with_the_day() -> None:
    """It has a code of its own, since calling less often does not help."""
    error = budget_refusal(1000, 59.5)
    assert (Code.QUOTA_EXHAUSTED, "daily_images", 60) == (
        error.code,
        error.limit,
        error.retry_after_seconds,
    )
    assert (1000, 86_400) == (error.quota, error.window_seconds)
    assert "today's budget of 1000 images is used up: wait until 00:00 UTC" in error.message


def test_a_budget_tells_what_is_left_of_it() -> None:
    """Until midnight UTC."""
    expected = QuotaStatus(LimitName.DAILY_IMAGES, 10, 86_400, 3, 60)
    assert expected == budget_status(10, 7, 59.5)


def test_a_rate_without_calls_can_be_used_at_once() -> None:
    """Nothing divides by the calls that were not made."""
    assert 1 == retry_after_seconds(rate("5/minute"), (0, 0.0, 0, 0.0))
    assert inf > rate_status(LimitName.ADDRESS_RATE, rate("5/minute"), (0, 0.0, 0, 0.0)).remaining


def test_rates_of_one_span_are_counted_together() -> None:
    """A principal with two roles has one count, whichever of them its token shows."""
    one, other, longer = parse_rate("3/minute"), parse_rate("5/minute"), parse_rate("5/hour")
    assert one is not None
    assert other is not None
    assert longer is not None
    assert one.key_for("k") == other.key_for("k") == "gatewatch/k/minute"
    assert "gatewatch/k/hour" == longer.key_for("k")
