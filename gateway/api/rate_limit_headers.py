"""What is said of limits in header fields: RateLimit-Policy, RateLimit and Retry-After.

Rules: pure; the fields are lists of structured fields (RFC 9651), so their texts are quoted and their numbers bounded.
Source: draft-ietf-httpapi-ratelimit-headers-10.
"""

from collections.abc import Sequence

from gateway.errors import QuotaError
from gateway.identity.quota_limits import QuotaStatus

_MAX_INTEGER = 999_999_999_999_999  # RFC 9651 section 3.3.1


def rate_limit_headers(statuses: Sequence[QuotaStatus]) -> dict[str, str]:
    """The fields that tell a caller of its limits and what is left of them; none where there is no limit."""
    if not statuses:
        return {}
    policies = [_policy(s.limit, s.quota, s.window_seconds) for s in statuses]
    states = [_state(s.limit, s.remaining, s.reset_seconds) for s in statuses]
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(states)}


def refusal_headers(error: QuotaError) -> dict[str, str]:
    """The fields of an answer that refuses a call: when to come back, and which limit it met if that has a window."""
    headers = {"Retry-After": str(error.retry_after_seconds)}
    if error.quota is not None and error.window_seconds is not None:
        headers["RateLimit-Policy"] = _policy(error.limit, error.quota, error.window_seconds)
        headers["RateLimit"] = _state(error.limit, 0, error.retry_after_seconds)
    return headers


def structured_string(text: str) -> str:
    """A text as RFC 9651 section 3.3.3 has it. Raises ValueError if it holds anything but printable ASCII."""
    if not text.isascii() or not text.isprintable():
        raise ValueError("a structured field holds printable ASCII only")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _policy(name: str, quota: int, window_seconds: int) -> str:
    return f"{structured_string(name)};q={_integer(quota)};w={_integer(window_seconds)}"


def _state(name: str, remaining: int, reset_seconds: int) -> str:
    return f"{structured_string(name)};r={_integer(remaining)};t={_integer(reset_seconds)}"


def _integer(number: int) -> int:
    return min(number, _MAX_INTEGER)
