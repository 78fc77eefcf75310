"""Errors as application/problem+json (RFC 9457): the only place that knows HTTP status codes.

Rules: `type` is a URN made from the constant code; `detail` is the error's caller message; a reason never leaves.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import Response

from gateway.api.challenges import ChallengeError, Scheme, challenge
from gateway.api.rate_limit_headers import refusal_headers
from gateway.api.resource_metadata import ResourceFacts, resource_metadata_url
from gateway.errors import (
    AuthnError,
    AuthzError,
    Code,
    DpopNonceError,
    DpopProofError,
    GatewayError,
    OverloadedError,
    QuotaError,
    StepUpError,
)

AUDIT_RETRY_AFTER_SECONDS = 5

STATUS: Mapping[Code, HTTPStatus] = {
    Code.AUTHN_MISSING: HTTPStatus.UNAUTHORIZED,
    Code.AUTHN_INVALID: HTTPStatus.UNAUTHORIZED,
    Code.AUTHN_STEP_UP: HTTPStatus.UNAUTHORIZED,
    Code.AUTHN_DPOP_NONCE: HTTPStatus.UNAUTHORIZED,
    Code.AUTHZ_DENIED: HTTPStatus.FORBIDDEN,
    Code.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
    Code.QUOTA_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    Code.IDENTITY_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.HTTP_INVALID: HTTPStatus.BAD_REQUEST,
    Code.ROUTE_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.METHOD_NOT_ALLOWED: HTTPStatus.METHOD_NOT_ALLOWED,
    Code.BODY_EMPTY: HTTPStatus.BAD_REQUEST,
    Code.BODY_TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Code.BODY_TIMEOUT: HTTPStatus.REQUEST_TIMEOUT,
    Code.BODY_INVALID: HTTPStatus.BAD_REQUEST,
    Code.PARAMETER_INVALID: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.IMAGE_UNSUPPORTED: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    Code.IMAGE_CORRUPT: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.IMAGE_TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Code.CLIENT_GONE: HTTPStatus.BAD_REQUEST,
    Code.MODEL_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.RECORD_UNKNOWN: HTTPStatus.NOT_FOUND,
    Code.MODEL_CONFLICT: HTTPStatus.CONFLICT,
    Code.SEALED_MODEL_REFUSED: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.MODEL_UNSUPPORTED: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.GOLDEN_FAILED: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.KEY_INVALID: HTTPStatus.INTERNAL_SERVER_ERROR,
    Code.OVERLOADED: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.NOT_READY: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.AUDIT_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.LEDGER_BROKEN: HTTPStatus.INTERNAL_SERVER_ERROR,
    Code.RUNNER_FAILED: HTTPStatus.INTERNAL_SERVER_ERROR,
    Code.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
}


def problem(
    error: GatewayError, *, request_id: str, resource: ResourceFacts, is_dpop: bool = False
) -> Response:
    """The answer for one error. A code without a status is our own bug and answers 500.

    resource: what a 401 tells of where tokens come from. is_dpop: whether the caller sent its token with a proof.
    """
    status = STATUS.get(error.code, HTTPStatus.INTERNAL_SERVER_ERROR)
    return Response(
        problem_body(error, request_id=request_id),
        status_code=status,
        media_type="application/problem+json",
        headers=_headers(error, resource, Scheme.DPOP if is_dpop else Scheme.BEARER),
    )


def problem_body(error: GatewayError, *, request_id: str) -> bytes:
    """The JSON of one error: type, title, status, detail, code, request_id."""
    status = STATUS.get(error.code, HTTPStatus.INTERNAL_SERVER_ERROR)
    content = {
        "type": f"urn:gatewatch:problem:{error.code.value}",
        "title": status.phrase,
        "status": status.value,
        "detail": error.message,
        "code": error.code.value,
        "request_id": request_id,
    }
    return json.dumps(content).encode("utf-8")


def _headers(error: GatewayError, resource: ResourceFacts, scheme: Scheme) -> dict[str, str]:
    if isinstance(error, AuthnError | AuthzError):
        return _challenges(error, resource, scheme)
    if isinstance(error, QuotaError):
        return refusal_headers(error)
    if isinstance(error, OverloadedError):
        return {"Retry-After": str(error.retry_after_seconds)}
    if error.code in _RETRIED:
        return {"Retry-After": str(AUDIT_RETRY_AFTER_SECONDS)}
    return {}


def _challenges(
    error: AuthnError | AuthzError, resource: ResourceFacts, scheme: Scheme
) -> dict[str, str]:
    metadata = resource_metadata_url(resource)
    algorithms = resource.dpop_algorithms
    if error.code is Code.AUTHN_MISSING:
        # RFC 6750 section 3.1: no error attribute when the caller sent no credentials at all.
        bearer = challenge(Scheme.BEARER, resource_metadata_url=metadata)
        dpop = challenge(Scheme.DPOP, resource_metadata_url=metadata, algorithms=algorithms)
        return {"WWW-Authenticate": f"{bearer}, {dpop}"}
    step_up = error if isinstance(error, StepUpError) else None
    if isinstance(error, DpopProofError):
        scheme = Scheme.DPOP  # Whatever it was sent as.
    value = challenge(
        scheme,
        _challenge_error(error),
        resource_metadata_url=metadata,
        acr_values=() if step_up is None else step_up.acr_values,
        max_age_seconds=None if step_up is None else step_up.max_age_seconds,
        algorithms=algorithms if scheme is Scheme.DPOP else (),
    )
    headers = {"WWW-Authenticate": value}
    if isinstance(error, DpopNonceError):
        headers["DPoP-Nonce"] = error.nonce
    return headers


def _challenge_error(error: AuthnError | AuthzError) -> ChallengeError:
    if isinstance(error, DpopProofError):
        return ChallengeError.INVALID_DPOP_PROOF
    return _CHALLENGE_ERRORS.get(error.code, ChallengeError.INVALID_TOKEN)


_RETRIED = frozenset({Code.AUDIT_UNAVAILABLE, Code.NOT_READY, Code.IDENTITY_UNAVAILABLE})
_CHALLENGE_ERRORS: Mapping[Code, ChallengeError] = {
    Code.AUTHN_STEP_UP: ChallengeError.INSUFFICIENT_USER_AUTHENTICATION,
    Code.AUTHN_DPOP_NONCE: ChallengeError.USE_DPOP_NONCE,
    Code.AUTHZ_DENIED: ChallengeError.INSUFFICIENT_SCOPE,
}
