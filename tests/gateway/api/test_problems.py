"""Errors as problem+json: statuses, headers, and what never leaves."""

import json

import pytest

from gateway.api.problems import STATUS, problem, problem_body
from gateway.errors import (
    AuditUnavailableError,
    AuthnError,
    AuthzError,
    Code,
    GatewayError,
    OperatorError,
    OverloadedError,
    RequestError,
    ServiceError,
)

# Only commands and starts raise these; no caller's request does.
OPERATORS_CODES = {
    Code.SETTINGS_INVALID,
    Code.MODEL_EXISTS,
    Code.SAMPLE_REFUSED,
    Code.LEDGER_BROKEN,
    Code.DATASET_INVALID,
    Code.GATE_FAILED,
}


def test_every_code_that_callers_get_has_a_status() -> None:
    """A new code is either given a status or put among the operators'."""
    assert set(Code) - OPERATORS_CODES == set(STATUS)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (Code.AUTHN_MISSING, 401),
        (Code.AUTHN_INVALID, 401),
        (Code.AUTHN_STEP_UP, 401),
        (Code.AUTHN_DPOP_NONCE, 401),
        (Code.AUTHZ_DENIED, 403),
        (Code.RATE_LIMITED, 429),
        (Code.QUOTA_EXHAUSTED, 429),
        (Code.IDENTITY_UNAVAILABLE, 503),
        (Code.HTTP_INVALID, 400),
        (Code.ROUTE_UNKNOWN, 404),
        (Code.MODEL_UNKNOWN, 404),
        (Code.MODEL_CONFLICT, 409),
        (Code.SEALED_MODEL_REFUSED, 422),
        (Code.MODEL_UNSUPPORTED, 422),
        (Code.GOLDEN_FAILED, 422),
        (Code.KEY_INVALID, 500),
        (Code.METHOD_NOT_ALLOWED, 405),
        (Code.BODY_EMPTY, 400),
        (Code.BODY_TOO_LARGE, 413),
        (Code.BODY_TIMEOUT, 408),
        (Code.BODY_INVALID, 400),
        (Code.PARAMETER_INVALID, 422),
        (Code.IMAGE_UNSUPPORTED, 415),
        (Code.IMAGE_CORRUPT, 422),
        (Code.IMAGE_TOO_LARGE, 413),
        (Code.CLIENT_GONE, 400),
        (Code.OVERLOADED, 503),
        (Code.NOT_READY, 503),
        (Code.AUDIT_UNAVAILABLE, 503),
        (Code.RUNNER_FAILED, 500),
        (Code.INTERNAL, 500),
    ],
)
def test_the_status_of_each_code(code: Code, status: int) -> None:
    """The statuses that the README promises."""
    assert status == problem(GatewayError(code, "m"), request_id="r").status_code


def test_a_code_without_a_status_answers_500() -> None:
    """An operator's error that reached a caller is our own bug."""
    error = OperatorError(Code.KEY_INVALID, "m")
    assert problem(error, request_id="r").status_code == 500


def test_the_members_of_a_problem() -> None:
    """RFC 9457's members, the constant code and the request's id; nothing else."""
    error = RequestError(Code.BODY_TOO_LARGE, "the body is too large", reason="a secret reason")
    assert json.loads(problem_body(error, request_id="request-1")) == {
        "type": "urn:gatewatch:problem:body_too_large",
        "title": "Request Entity Too Large",
        "status": 413,
        "detail": "the body is too large",
        "code": "body_too_large",
        "request_id": "request-1",
    }


def test_a_problem_names_its_own_media_type() -> None:
    """Clients tell problems from answers by it."""
    response = problem(GatewayError(Code.INTERNAL, "m"), request_id="r")
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("code", list(Code))
def test_a_reason_never_leaves(code: Code) -> None:
    """Reasons tell a forger which check to work on."""
    response = problem(GatewayError(code, "m", reason="the-reason"), request_id="r")
    assert b"the-reason" not in bytes(response.body)
    assert "the-reason" not in str(response.headers)


@pytest.mark.parametrize(
    ("error", "challenge"),
    [
        (AuthnError(Code.AUTHN_MISSING, "m"), 'Bearer realm="gatewatch"'),
        (
            AuthnError(Code.AUTHN_INVALID, "m"),
            'Bearer realm="gatewatch", error="invalid_token"',
        ),
        (
            AuthzError(Code.AUTHZ_DENIED, "m"),
            'Bearer realm="gatewatch", error="insufficient_scope"',
        ),
        (RequestError(Code.BODY_EMPTY, "m"), None),
    ],
)
def test_challenges_follow_rfc_6750(error: GatewayError, challenge: str | None) -> None:
    """No error attribute for a caller that sent no credentials, RFC 6750 section 3.1."""
    assert challenge == problem(error, request_id="r").headers.get("www-authenticate")


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (OverloadedError("m", retry_after_seconds=7), "7"),
        (AuditUnavailableError(Code.AUDIT_UNAVAILABLE, "m"), "5"),
        (ServiceError(Code.NOT_READY, "m"), "5"),
        (ServiceError(Code.INTERNAL, "m"), None),
        (RequestError(Code.BODY_EMPTY, "m"), None),
    ],
)
def test_what_may_pass_later_says_when(error: GatewayError, seconds: str | None) -> None:
    """Every 503 carries Retry-After, in whole seconds; nothing else does."""
    assert seconds == problem(error, request_id="r").headers.get("retry-after")
