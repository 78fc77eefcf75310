"""Errors as application/problem+json (RFC 9457): the only place that knows HTTP status codes.

Rules: `type` is a URN made from the constant code; `detail` is the error's caller message; a reason never leaves.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import Response

from gateway.errors import Code, GatewayError, OverloadedError

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
    Code.MODEL_CONFLICT: HTTPStatus.CONFLICT,
    Code.SEALED_MODEL_REFUSED: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.MODEL_UNSUPPORTED: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.GOLDEN_FAILED: HTTPStatus.UNPROCESSABLE_ENTITY,
    Code.KEY_INVALID: HTTPStatus.INTERNAL_SERVER_ERROR,
    Code.OVERLOADED: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.NOT_READY: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.AUDIT_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.RUNNER_FAILED: HTTPStatus.INTERNAL_SERVER_ERROR,
    Code.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
}


def problem(error: GatewayError, *, request_id: str) -> Response:
    """The answer for one error. A code without a status is our own bug and answers 500."""
    status = STATUS.get(error.code, HTTPStatus.INTERNAL_SERVER_ERROR)
    return Response(
        problem_body(error, request_id=request_id),
        status_code=status,
        media_type="application/problem+json",
        headers=_headers(error),
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


def _headers(error: GatewayError) -> dict[str, str]:
    if error.code is Code.AUTHN_MISSING:
        # RFC 6750 section 3.1: no error attribute when the caller sent no credentials at all.
        return {"WWW-Authenticate": 'Bearer realm="gatewatch"'}
    if error.code is Code.AUTHN_INVALID:
        return {"WWW-Authenticate": 'Bearer realm="gatewatch", error="invalid_token"'}
    if error.code is Code.AUTHZ_DENIED:
        return {"WWW-Authenticate": 'Bearer realm="gatewatch", error="insufficient_scope"'}
    if isinstance(error, OverloadedError):
        return {"Retry-After": str(error.retry_after_seconds)}
    if error.code in {Code.AUDIT_UNAVAILABLE, Code.NOT_READY}:
        return {"Retry-After": str(AUDIT_RETRY_AFTER_SECONDS)}
    return {}
