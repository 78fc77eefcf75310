"""The second factor: how strongly and how lately a caller must have proved who it is for what it asks.

Rules: what the issuer signed is all there is to go by, so a token that says nothing has shown nothing; a sign-in that
lies in the future is no fresher than none. The caller learns what is wanted (RFC 9470 section 3), the audit record why.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from gateway.errors import StepUpError
from gateway.identity.principal import Principal

MAX_CLOCK_SKEW = timedelta(seconds=60)  # How far the issuer's clock may be ahead of ours.


class StepUpReason(StrEnum):
    """The reasons that an audit record may give for asking for a stronger or fresher sign-in."""

    FACTOR_MISSING = "factor_missing"
    AUTH_TIME_MISSING = "auth_time_missing"
    AUTH_TIME_FUTURE = "auth_time_future"
    AUTH_TIME_OLD = "auth_time_old"


@dataclass(frozen=True, slots=True)
class SecondFactor:
    """What a permission asks of the sign-in behind a token.

    acr: classes that are strong enough, the preferred first. amr: methods of which any one is strong enough, where the
    class is not. max_age_seconds: how long ago the sign-in may be; None asks for no `auth_time`.
    """

    acr: tuple[str, ...]
    amr: frozenset[str]
    max_age_seconds: int | None


def require_second_factor(requirement: SecondFactor, principal: Principal, now: datetime) -> None:
    """Return if the principal's sign-in is strong and fresh enough. now: UTC.

    Raises StepUpError (AUTHN_STEP_UP) with a StepUpReason as its reason otherwise. Source: RFC 9470 section 3,
    RFC 9068 section 2.2.1.
    """
    reason = _missing(requirement, principal, now)
    if reason is not None:
        message = "this needs a second factor, used a short while ago: sign in again as the challenge says"
        raise StepUpError(
            message,
            acr_values=requirement.acr,
            max_age_seconds=requirement.max_age_seconds,
            reason=reason.value,
        )


def _missing(requirement: SecondFactor, principal: Principal, now: datetime) -> StepUpReason | None:
    if principal.acr not in requirement.acr and requirement.amr.isdisjoint(principal.amr):
        return StepUpReason.FACTOR_MISSING
    if requirement.max_age_seconds is None:
        return None
    if principal.auth_time is None:
        return StepUpReason.AUTH_TIME_MISSING
    age = now - principal.auth_time
    if age < -MAX_CLOCK_SKEW:
        return StepUpReason.AUTH_TIME_FUTURE
    if age > timedelta(seconds=requirement.max_age_seconds):
        return StepUpReason.AUTH_TIME_OLD
    return None
