"""Errors as problem+json: statuses, headers, and what never leaves."""

import json

import pytest
from starlette.responses import Response

from gateway.api.problems import STATUS, problem, problem_body
from gateway.api.resource_metadata import ResourceFacts
from gateway.errors import (
    AuditUnavailableError,
    AuthnError,
    AuthzError,
    Code,
    DpopNonceError,
    GatewayError,
    IdentityUnavailableError,
    OperatorError,
    OverloadedError,
    QuotaError,
    RequestError,
    ServiceError,
    StepUpError,
)
from gateway.identity.refusals import Refusal, refused

RESOURCE = ResourceFacts(
    public_url="https://gateway.example",
    issuers=("https://issuer.example",),
    dpop_algorithms=("ES256", "EdDSA"),
)
METADATA = 'resource_metadata="https://gateway.example/.well-known/oauth-protected-resource"'


def answer(error: GatewayError, *, is_dpop: bool = False) -> Response:
    """What a caller gets."""
    return problem(error, request_id="r", resource=RESOURCE, is_dpop=is_dpop)


# Only commands and starts raise these; no caller's request does.
OPERATORS_CODES = {
    Code.SETTINGS_INVALID,
    Code.MODEL_EXISTS,
    Code.SAMPLE_REFUSED,
    Code.PROOF_INVALID,
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
        (Code.RECORD_UNKNOWN, 404),
        (Code.LEDGER_BROKEN, 500),
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
    assert status == answer(GatewayError(code, "m")).status_code


def test_a_code_without_a_status_answers_500() -> None:
    """An operator's error that reached a caller is our own bug."""
    error = OperatorError(Code.KEY_INVALID, "m")
    assert answer(error).status_code == 500


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
    response = answer(GatewayError(Code.INTERNAL, "m"))
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("code", list(Code))
def test_a_reason_never_leaves(code: Code) -> None:
    """Reasons tell a forger which check to work on."""
    response = answer(GatewayError(code, "m", reason="the-reason"))
    assert b"the-reason" not in bytes(response.body)
    assert "the-reason" not in str(response.headers)


STEP_UP = StepUpError("m", acr_values=("mfa", "hwk"), max_age_seconds=900, reason="r")


@pytest.mark.parametrize(
    ("error", "is_dpop", "challenge"),
    [
        (
            AuthnError(Code.AUTHN_MISSING, "m"),
            False,
            f'Bearer realm="gatewatch", {METADATA}, DPoP realm="gatewatch", algs="ES256 EdDSA", {METADATA}',
        ),
        (
            AuthnError(Code.AUTHN_INVALID, "m"),
            False,
            f'Bearer realm="gatewatch", error="invalid_token", {METADATA}',
        ),
        (
            AuthnError(Code.AUTHN_INVALID, "m"),
            True,
            f'DPoP realm="gatewatch", error="invalid_token", algs="ES256 EdDSA", {METADATA}',
        ),
        (
            refused(Refusal.DPOP_MISSING),
            False,
            f'DPoP realm="gatewatch", error="invalid_dpop_proof", algs="ES256 EdDSA", {METADATA}',
        ),
        (
            DpopNonceError(nonce="n", reason="dpop_nonce"),
            True,
            f'DPoP realm="gatewatch", error="use_dpop_nonce", algs="ES256 EdDSA", {METADATA}',
        ),
        (
            STEP_UP,
            False,
            'Bearer realm="gatewatch", error="insufficient_user_authentication", acr_values="mfa hwk", '
            f'max_age="900", {METADATA}',
        ),
        (
            AuthzError(Code.AUTHZ_DENIED, "m"),
            False,
            f'Bearer realm="gatewatch", error="insufficient_scope", {METADATA}',
        ),
        (RequestError(Code.BODY_EMPTY, "m"), False, None),
    ],
)
def test_challenges_follow_their_rfcs(
    error: GatewayError, is_dpop: bool, challenge: str | None
) -> None:
    """RFC 6750 section 3.1 (no error without credentials), RFC 9449 section 7.1, RFC 9470 section 3, RFC 9728."""
    assert challenge == answer(error, is_dpop=is_dpop).headers.get("www-authenticate")


def test_a_missing_nonce_is_given() -> None:
    """RFC 9449 section 9: the caller makes its next proof with it."""
    assert "n" == answer(DpopNonceError(nonce="n", reason="dpop_nonce")).headers["dpop-nonce"]


def test_a_limit_says_which_and_until_when() -> None:
    """The fields of the RateLimit draft, and Retry-After for everybody else."""
    error = QuotaError(
        Code.RATE_LIMITED,
        "m",
        limit="principal_rate",
        retry_after_seconds=3,
        quota=9,
        window_seconds=60,
    )
    headers = answer(error).headers
    assert "3" == headers["retry-after"]
    assert '"principal_rate";q=9;w=60' == headers["ratelimit-policy"]
    assert '"principal_rate";r=0;t=3' == headers["ratelimit"]


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (OverloadedError("m", retry_after_seconds=7), "7"),
        (AuditUnavailableError(Code.AUDIT_UNAVAILABLE, "m"), "5"),
        (ServiceError(Code.NOT_READY, "m"), "5"),
        (IdentityUnavailableError(reason="keys_stale"), "5"),
        (ServiceError(Code.INTERNAL, "m"), None),
        (RequestError(Code.BODY_EMPTY, "m"), None),
    ],
)
def test_what_may_pass_later_says_when(error: GatewayError, seconds: str | None) -> None:
    """Every 503 carries Retry-After, in whole seconds."""
    assert seconds == answer(error).headers.get("retry-after")
