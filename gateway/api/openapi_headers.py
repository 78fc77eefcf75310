"""The header fields of answers, as the OpenAPI document describes them.

Rules: `required` means that every answer of that kind carries the field, and the live tests hold it to that.
"""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

Json = dict[str, Any]

_DESCRIPTIONS = {
    "X-Request-Id": "Finds the audit records of this request; never the caller's own.",
    "X-Model-Version": "The NAME@VERSION that answered.",
    "X-Audit-Log": "The ledger that holds the record of this call.",
    "X-Audit-Index": "The position of that record, for GET /v1/audit/proof/{index}.",
    "Server-Timing": "Milliseconds that each step took (W3C Server Timing).",
    "WWW-Authenticate": "What is missing (RFC 6750, 9449, 9470, 9728).",
    "DPoP-Nonce": "The nonce that the next proof must have (RFC 9449 section 9).",
    "Retry-After": "Seconds after which to come back.",
    "RateLimit": "What is left of a quota (draft-ietf-httpapi-ratelimit-headers).",
    "RateLimit-Policy": "The quotas that apply (draft-ietf-httpapi-ratelimit-headers).",
    "Allow": "The methods that the path takes.",
}
_OF_RECORD = ("X-Audit-Log", "X-Audit-Index")
_REQUIRED_BY_STATUS = {
    HTTPStatus.UNAUTHORIZED: ("WWW-Authenticate",),
    HTTPStatus.FORBIDDEN: ("WWW-Authenticate",),
    HTTPStatus.METHOD_NOT_ALLOWED: ("Allow",),
    HTTPStatus.TOO_MANY_REQUESTS: ("Retry-After",),
    HTTPStatus.SERVICE_UNAVAILABLE: ("Retry-After",),
}
_OPTIONAL_BY_STATUS = {
    HTTPStatus.UNAUTHORIZED: ("DPoP-Nonce",),
    HTTPStatus.TOO_MANY_REQUESTS: ("RateLimit", "RateLimit-Policy"),
}


def header_components() -> Json:
    """Every field: `NAME` where it may be there, `NAME.required` where it always is."""
    components: Json = {}
    for name, description in _DESCRIPTIONS.items():
        is_number = name in ("Retry-After", "X-Audit-Index")
        schema = {"type": "integer", "minimum": 0} if is_number else {"type": "string"}
        if name == "X-Request-Id":
            schema = {"type": "string", "format": "uuid"}
        components[name] = {"description": description, "schema": schema}
        components[f"{name}.required"] = {**components[name], "required": True}
    return components


def answer_headers(names: Iterable[str], *, is_open: bool) -> Json:
    """Those of a 200. names: what this route always adds. is_open: whether it is for everybody."""
    if is_open:
        return _headers(("X-Request-Id", *names), ())
    optional = ("DPoP-Nonce", "RateLimit", "RateLimit-Policy")
    return _headers(("X-Request-Id", *_OF_RECORD, *names), optional)


def problem_headers(status: HTTPStatus, *, is_ours: bool, is_open: bool) -> Json:
    """Those of a problem. is_ours: whether the application answers it and never the listener. is_open: as above."""
    required = _REQUIRED_BY_STATUS.get(status, ())
    optional = _OPTIONAL_BY_STATUS.get(status, ()) + (() if is_open else _OF_RECORD)
    if is_ours:
        return _headers(("X-Request-Id", *required), optional)
    return _headers(required, ("X-Request-Id", *optional))


def _headers(required: Iterable[str], optional: Iterable[str]) -> Json:
    keys = {name: f"{name}.required" for name in required} | {name: name for name in optional}
    return {name: {"$ref": f"#/components/headers/{key}"} for name, key in keys.items()}
