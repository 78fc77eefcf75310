"""Header fields about limits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.rate_limit_headers import rate_limit_headers, refusal_headers, structured_string
from gateway.errors import Code, QuotaError
from gateway.identity.quota_limits import LimitName, QuotaStatus


def test_every_limit_is_told_with_what_is_left_of_it() -> None:
    """Two lists in the same order, as the draft has them."""
    headers = rate_limit_headers(
        (
            QuotaStatus(LimitName.PRINCIPAL_RATE, 1000, 1, 998, 1),
            QuotaStatus(LimitName.DAILY_IMAGES, 5000, 86_400, 0, 40_000),
        )
    )
    assert {
        "RateLimit-Policy": '"principal_rate";q=1000;w=1, "daily_images";q=5000;w=86400',
        "RateLimit": '"principal_rate";r=998;t=1, "daily_images";r=0;t=40000',
    } == headers


def test_without_limits_nothing_is_said() -> None:
    """An empty list is no field (RFC 9651 section 3.1)."""
    assert {} == rate_limit_headers(())


def test_a_number_is_never_larger_than_the_format_allows() -> None:
    """RFC 9651 section 3.3.1: 15 digits."""
    headers = rate_limit_headers(
        (QuotaStatus(LimitName.DAILY_IMAGES, 1 << 53, 86_400, 1 << 52, 1),)
    )
    assert '"daily_images";q=999999999999999;w=86400' == headers["RateLimit-Policy"]
    assert '"daily_images";r=999999999999999;t=1' == headers["RateLimit"]


def test_a_refusal_names_the_limit_that_was_met() -> None:
    """Nothing is left of it until the caller may come back."""
    error = QuotaError(
        Code.RATE_LIMITED,
        "m",
        limit="address_rate",
        retry_after_seconds=7,
        quota=2000,
        window_seconds=60,
    )
    assert {
        "Retry-After": "7",
        "RateLimit-Policy": '"address_rate";q=2000;w=60',
        "RateLimit": '"address_rate";r=0;t=7',
    } == refusal_headers(error)


def test_a_refusal_without_a_window_says_when_to_come_back() -> None:
    """Calls at the same time have none."""
    error = QuotaError(Code.RATE_LIMITED, "m", limit="address_concurrency", retry_after_seconds=1)
    assert {"Retry-After": "1"} == refusal_headers(error)


@pytest.mark.parametrize(
    ("text", "written"),
    [("", '""'), ("a b", '"a b"'), ('a"b', '"a\\"b"'), ("a\\b", '"a\\\\b"')],
)
def test_quotes_and_backslashes_are_escaped(text: str, written: str) -> None:
    """RFC 9651 section 3.3.3."""
    assert written == structured_string(text)


@given(st.text())
def test_a_string_reads_back_or_is_refused(text: str) -> None:
    """Nothing but printable ASCII leaves, so that no field can be ended early."""
    if not all(" " <= character <= "~" for character in text):
        with pytest.raises(ValueError, match="printable ASCII"):
            structured_string(text)
        return
    written = structured_string(text)
    assert text == written[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    assert '"' not in written[1:-1].replace("\\\\", "").replace('\\"', "")
