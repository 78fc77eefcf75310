"""A permission can ask for a second factor, and for one that was used a short while ago."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.errors import Code, StepUpError
from gateway.identity.principal import Principal
from gateway.identity.step_up import SecondFactor, StepUpReason, require_second_factor

NOW = datetime(2031, 5, 6, 7, 8, 9, 500_000, tzinfo=UTC)
MINUTE_AGO = NOW - timedelta(minutes=1)
WANTED = SecondFactor(acr=("gold", "silver"), amr=frozenset({"mfa", "hwk"}), max_age_seconds=900)
R = StepUpReason


def principal(
    *,
    acr: str | None = None,
    amr: frozenset[str] = frozenset(),
    auth_time: datetime | None = MINUTE_AGO,
) -> Principal:
    """Somebody who signed in this way."""
    return Principal(
        issuer="https://issuer.example",
        subject="olga",
        client_id="console",
        roles=frozenset({"operator"}),
        token_id="token-1",
        issued_at=NOW,
        expires_at=NOW + timedelta(hours=1),
        acr=acr,
        amr=amr,
        auth_time=auth_time,
    )


def refusal(caller: Principal, wanted: SecondFactor = WANTED) -> StepUpError:
    """The error that asks for more."""
    with pytest.raises(StepUpError) as caught:
        require_second_factor(wanted, caller, NOW)
    return caught.value


@pytest.mark.parametrize(
    ("acr", "amr"),
    [
        ("gold", set()),
        ("silver", set()),
        (None, {"mfa"}),
        ("bronze", {"pwd", "hwk"}),
        ("gold", {"pwd"}),
    ],
)
def test_a_class_or_a_method_is_enough(acr: str | None, amr: set[str]) -> None:
    """Either list fits, and any one of it."""
    require_second_factor(WANTED, principal(acr=acr, amr=frozenset(amr)), NOW)


@pytest.mark.parametrize(
    ("acr", "amr"),
    [
        (None, set()),
        ("bronze", {"pwd"}),
        ("Gold", {"MFA"}),
        ("gold silver", set()),
        ("mfa", {"gold"}),
        ("", {""}),
    ],
)
def test_anything_else_is_not(acr: str | None, amr: set[str]) -> None:
    """Nothing is read into what the issuer says."""
    assert R.FACTOR_MISSING.value == refusal(principal(acr=acr, amr=frozenset(amr))).reason


def test_a_requirement_without_values_lets_nobody_through() -> None:
    """It fails closed: absent is not a class."""
    nothing = SecondFactor(acr=(), amr=frozenset(), max_age_seconds=None)
    assert R.FACTOR_MISSING.value == refusal(principal(acr="gold"), nothing).reason
    assert R.FACTOR_MISSING.value == refusal(principal(acr=None), nothing).reason


def test_the_error_says_what_is_wanted() -> None:
    """What the challenge needs, and nothing about why; that is for the audit record."""
    error = refusal(principal(acr="bronze"))
    assert Code.AUTHN_STEP_UP is error.code
    assert ("gold", "silver") == error.acr_values
    assert 900 == error.max_age_seconds
    assert "this needs a second factor, used a short while ago: sign in again" in error.message
    assert "bronze" not in error.message


@pytest.mark.parametrize(
    ("auth_time", "reason"),
    [
        (None, R.AUTH_TIME_MISSING),
        (NOW - timedelta(seconds=900, microseconds=1), R.AUTH_TIME_OLD),
        (NOW - timedelta(days=400), R.AUTH_TIME_OLD),
        (datetime.min.replace(tzinfo=UTC), R.AUTH_TIME_OLD),
        (NOW + timedelta(seconds=60, microseconds=1), R.AUTH_TIME_FUTURE),
        (datetime.max.replace(tzinfo=UTC), R.AUTH_TIME_FUTURE),
    ],
)
def test_a_sign_in_that_is_not_fresh_is_refused(
    auth_time: datetime | None, reason: StepUpReason
) -> None:
    """However strong it was; the challenge is the same."""
    error = refusal(principal(acr="gold", auth_time=auth_time))
    assert reason.value == error.reason
    assert 900 == error.max_age_seconds
    assert ("gold", "silver") == error.acr_values


@pytest.mark.parametrize(
    "auth_time",
    [NOW, NOW - timedelta(seconds=900), NOW + timedelta(seconds=60)],
)
def test_the_edges_of_the_clock_are_inside(auth_time: datetime) -> None:
    """Exactly as old as allowed, and as far ahead as clocks may differ."""
    require_second_factor(WANTED, principal(acr="gold", auth_time=auth_time), NOW)


def test_no_age_asks_for_no_time() -> None:
    """Some issuers put no `auth_time` into access tokens."""
    timeless = SecondFactor(acr=("gold",), amr=frozenset(), max_age_seconds=None)
    require_second_factor(timeless, principal(acr="gold", auth_time=None), NOW)
    error = refusal(principal(acr=None), timeless)
    assert error.max_age_seconds is None


def test_a_missing_factor_is_said_before_a_missing_time() -> None:
    """A fresh sign-in without the factor would only be refused again."""
    assert R.FACTOR_MISSING.value == refusal(principal(auth_time=None)).reason
