"""The OpenAPI 3.1 document of what ROUTES holds: every route, every status it answers with, every code behind it.

Rules: pure; a route that nobody has described here fails, so that none is served undocumented; a code belongs to every
route that can answer with it, and the live tests take any other for a mistake.
Source: OpenAPI Specification 3.1.1.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from http import HTTPStatus
from typing import Any

from gateway.api.edge import RouteEntry
from gateway.api.openapi_audit import origin_parameters, proof_parameters, search_parameters
from gateway.api.openapi_headers import answer_headers, header_components, problem_headers
from gateway.api.openapi_schemas import (
    NAME_PATTERN,
    predict_form,
    predict_parameters,
    ref,
    schemas,
)
from gateway.api.problems import STATUS
from gateway.api.resource_metadata import RESOURCE_METADATA_PATH
from gateway.errors import Code

Json = dict[str, Any]

OPENAPI_PATH = "/openapi.json"
PROBLEM_MEDIA_TYPE = "application/problem+json"
IMAGE_MEDIA_TYPES = (
    "image/jpeg",
    "image/png",
    "image/webp",
    "image/bmp",
    "application/octet-stream",
)

_ALWAYS = frozenset({Code.HTTP_INVALID, Code.NOT_READY, Code.INTERNAL})
_FOR_PRINCIPALS = frozenset(
    {
        Code.AUTHN_MISSING,
        Code.AUTHN_INVALID,
        Code.AUTHN_STEP_UP,
        Code.AUTHN_DPOP_NONCE,
        Code.AUTHZ_DENIED,
        Code.RATE_LIMITED,
        Code.IDENTITY_UNAVAILABLE,
        Code.AUDIT_UNAVAILABLE,
    }
)
_BODY = frozenset({Code.BODY_TOO_LARGE, Code.BODY_TIMEOUT, Code.BODY_INVALID})
_PREDICT = _BODY | {
    Code.BODY_EMPTY,
    Code.PARAMETER_INVALID,
    Code.IMAGE_UNSUPPORTED,
    Code.IMAGE_CORRUPT,
    Code.IMAGE_TOO_LARGE,
    Code.CLIENT_GONE,
    Code.MODEL_UNKNOWN,
    Code.QUOTA_EXHAUSTED,
    Code.OVERLOADED,
    Code.RUNNER_FAILED,
}
_CHANGE = _BODY | {Code.PARAMETER_INVALID, Code.MODEL_UNKNOWN}
_LOAD = frozenset(
    {Code.SEALED_MODEL_REFUSED, Code.MODEL_UNSUPPORTED, Code.GOLDEN_FAILED, Code.KEY_INVALID}
)
# What no route answers with, because there is none.
WITHOUT_ROUTE: Mapping[str, Code] = {
    "UnknownRoute": Code.ROUTE_UNKNOWN,
    "WrongMethod": Code.METHOD_NOT_ALLOWED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Operation:
    """What is said of one route beyond what ROUTES says. codes: beyond those of every route like it."""

    operation_id: str
    tag: str
    summary: str
    answer: Json
    codes: frozenset[Code] = frozenset()
    body: Json | None = None
    parameters: tuple[Json, ...] = ()
    headers: tuple[str, ...] = ()


def openapi_document(routes: Sequence[RouteEntry], version: str) -> Json:
    """The whole document. version: of the gateway. Raises LookupError for a route that is not described here."""
    paths: defaultdict[str, Json] = defaultdict(dict)
    for entry in routes:
        paths[entry.path][entry.method.lower()] = _operation(entry)
    return {
        "openapi": "3.1.0",
        "info": _info(version),
        "paths": dict(paths),
        "components": {
            "schemas": schemas(),
            "headers": header_components(),
            "responses": {
                name: _problem_response(STATUS[code], [code], is_ours=True, is_open=True)
                for name, code in WITHOUT_ROUTE.items()
            },
            "securitySchemes": _security_schemes(),
        },
    }


@cache
def openapi_bytes(routes: tuple[RouteEntry, ...], version: str) -> bytes:
    """The document as it is served; made once."""
    return json.dumps(openapi_document(routes, version), separators=(",", ":")).encode()


def codes_of(entry: RouteEntry) -> frozenset[Code]:
    """Every code that a route can answer with. Raises LookupError for one that is not described here."""
    codes = _ALWAYS | _described(entry).codes
    if entry.permission is not None:
        codes |= _FOR_PRINCIPALS
    if "{" in entry.path:
        codes |= {Code.ROUTE_UNKNOWN}  # an escaped spelling, or what cannot be a model's name
    return codes


def _described(entry: RouteEntry) -> _Operation:
    described = _operations().get((entry.method, entry.path))
    if described is None:
        raise LookupError(f"{entry.method} {entry.path} is not described in gateway.api.openapi")
    return described


def _operation(entry: RouteEntry) -> Json:
    described = _described(entry)
    content: Json = {
        "operationId": described.operation_id,
        "tags": [described.tag],
        "summary": described.summary,
        "security": [],
    }
    if entry.permission is not None:
        permission = entry.permission.value
        content["description"] = f"Needs the permission `{permission}`."
        content["x-permission"] = permission
        content["security"] = [{"bearer": [permission]}, {"dpop": [permission]}]
    names = [_name_parameter()] if "{name}" in entry.path else []
    if names or described.parameters:
        content["parameters"] = [*names, *described.parameters]
    if described.body is not None:
        content["requestBody"] = described.body
    content["responses"] = _responses(entry, described)
    return content


def _responses(entry: RouteEntry, described: _Operation) -> Json:
    is_open = entry.permission is None
    responses: Json = {
        "200": {
            "description": "Done.",
            "headers": answer_headers(described.headers, is_open=is_open),
            "content": described.answer,
        }
    }
    by_status: defaultdict[HTTPStatus, list[Code]] = defaultdict(list)
    for code in sorted(codes_of(entry)):
        by_status[STATUS[code]].append(code)
    for status, codes in sorted(by_status.items()):
        # The listener itself refuses what is no HTTP, before there is a request with an id.
        is_ours = Code.HTTP_INVALID not in codes
        responses[str(status.value)] = _problem_response(
            status, codes, is_ours=is_ours, is_open=is_open
        )
    return responses


def _problem_response(
    status: HTTPStatus, codes: Iterable[Code], *, is_ours: bool, is_open: bool
) -> Json:
    values = [code.value for code in codes]
    narrowed = {"properties": {"status": {"const": status.value}, "code": {"enum": values}}}
    return {
        "description": f"{status.phrase}: {', '.join(values)}.",
        "headers": problem_headers(status, is_ours=is_ours, is_open=is_open),
        "content": {PROBLEM_MEDIA_TYPE: {"schema": {"allOf": [ref("Problem"), narrowed]}}},
    }


def _json(name: str) -> Json:
    return {"application/json": {"schema": ref(name)}}


def _json_body(name: str, *, required: bool) -> Json:
    return {"required": required, "content": _json(name)}


def _name_parameter() -> Json:
    return {
        "name": "name",
        "in": "path",
        "required": True,
        "description": "A model's name.",
        "schema": {"type": "string", "pattern": NAME_PATTERN},
    }


def _query_parameters() -> tuple[Json, ...]:
    return tuple(
        {"name": name, "in": "query", "description": description, "schema": schema}
        for name, (schema, description) in predict_parameters().items()
    )


def _image_body() -> Json:
    # OpenAPI 3.1.1 section 4.8.14.3: a body of bytes has no schema.
    content: Json = {media_type: {} for media_type in IMAGE_MEDIA_TYPES}
    content["multipart/form-data"] = {"schema": predict_form()}
    return {
        "description": "One image, as it is or as a form's file; parameters in the query or in the form.",
        "required": True,
        "content": content,
    }


def _predict() -> _Operation:
    return _Operation(
        operation_id="predict",
        tag="predictions",
        summary="What is in one image, by the default model.",
        answer=_json("Prediction"),
        codes=_PREDICT,
        body=_image_body(),
        parameters=_query_parameters(),
        headers=("X-Model-Version", "Server-Timing"),
    )


def _change(verb: str, summary: str, body: str, codes: frozenset[Code]) -> _Operation:
    return _Operation(
        operation_id=f"{verb}Model",
        tag="changes",
        summary=summary,
        answer=_json("Model"),
        codes=_CHANGE | codes,
        body=_json_body(body, required=body != "EmptyChange"),
    )


def _read(operation_id: str, summary: str, schema: str, *codes: Code) -> _Operation:
    return _Operation(
        operation_id=operation_id,
        tag="models",
        summary=summary,
        answer=_json(schema),
        codes=frozenset(codes),
    )


def _ledger(
    operation_id: str, summary: str, parameters: tuple[Json, ...], *codes: Code
) -> _Operation:
    return _Operation(
        operation_id=operation_id,
        tag="ledger",
        summary=summary,
        answer={"text/plain": {"schema": {"type": "string"}}},
        codes=frozenset({Code.PARAMETER_INVALID, *codes}),
        parameters=parameters,
    )


def _health(operation_id: str, summary: str, text: str) -> _Operation:
    answer = {"text/plain": {"schema": {"const": text}}}
    return _Operation(operation_id=operation_id, tag="health", summary=summary, answer=answer)


def _discovery(operation_id: str, summary: str, schema: str) -> _Operation:
    return _Operation(
        operation_id=operation_id, tag="discovery", summary=summary, answer=_json(schema)
    )


@cache
def _operations() -> Mapping[tuple[str, str], _Operation]:
    conflict = frozenset({Code.MODEL_CONFLICT})
    default = _read(
        "getDefaultModel", "The default model in production.", "ServedModel", Code.MODEL_UNKNOWN
    )
    by_name = replace(
        _predict(), operation_id="predictByModel", summary="What is in one image, by a named model."
    )
    return {
        ("POST", "/predict"): _predict(),
        ("POST", "/v1/models/{name}/predict"): by_name,
        ("GET", "/v1/model"): replace(default, headers=("X-Model-Version",)),
        ("GET", "/v1/models"): _read("listModels", "Every registered model.", "Models"),
        ("GET", "/v1/models/{name}"): _read(
            "getModel", "One registered model.", "Model", Code.MODEL_UNKNOWN
        ),
        ("POST", "/v1/models/{name}/promote"): _change(
            "promote", "Put a version into production.", "VersionChange", _LOAD
        ),
        ("POST", "/v1/models/{name}/rollback"): _change(
            "rollBack", "Put the version before back.", "EmptyChange", _LOAD | conflict
        ),
        ("POST", "/v1/models/{name}/retire"): _change(
            "retire", "Take a version out of use.", "VersionChange", conflict
        ),
        ("POST", "/v1/models/{name}/traffic"): _change(
            "direct", "Give a version a share of the requests.", "TrafficChange", _LOAD | conflict
        ),
        ("GET", "/v1/audit"): replace(
            _ledger(
                "searchRecords",
                "Audit records that fit the filters, page by page.",
                search_parameters(),
                Code.LEDGER_BROKEN,
                Code.OVERLOADED,
            ),
            answer=_json("AuditPage"),
        ),
        ("GET", "/v1/audit/checkpoint"): _ledger(
            "getCheckpoint",
            "A ledger's newest signed checkpoint (C2SP tlog-checkpoint).",
            origin_parameters(),
            Code.RECORD_UNKNOWN,
            Code.LEDGER_BROKEN,
        ),
        ("GET", "/v1/audit/proof/{index}"): _ledger(
            "getProof",
            "The proof that a record is in the ledger (C2SP tlog-proof); of one's own calls, or any for auditors.",
            proof_parameters(),
            Code.RECORD_UNKNOWN,
            Code.LEDGER_BROKEN,
        ),
        ("GET", "/livez"): _health("isAlive", "Whether the process answers.", "ok\n"),
        ("GET", "/readyz"): _health("isReady", "Whether calls would be answered.", "ready\n"),
        ("GET", RESOURCE_METADATA_PATH): _discovery(
            "getResourceMetadata", "Whose tokens are taken, and how.", "ResourceMetadata"
        ),
        ("GET", OPENAPI_PATH): _discovery("getOpenApi", "This document.", "OpenApi"),
    }


def _info(version: str) -> Json:
    return {
        "title": "Gatewatch",
        "version": version,
        "license": {"name": "AGPL-3.0-or-later", "identifier": "AGPL-3.0-or-later"},
        "description": (
            "A YOLO detector behind a door that can be trusted. Every refusal is an "
            "application/problem+json (RFC 9457) whose `code` is a constant. A path that is not listed here is "
            "answered 404 (`route_unknown`), a method that is not listed 405 (`method_not_allowed`) with Allow; "
            "numbers in queries and forms are written in plain decimals, and unknown or repeated parameters are "
            "refused."
        ),
    }


def _security_schemes() -> Json:
    return {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": (
                "An RFC 9068 access token of a configured issuer. Some permissions demand a second factor or a recent "
                "authentication; the challenge says so (RFC 9470)."
            ),
        },
        "dpop": {
            "type": "http",
            "scheme": "dpop",
            "description": (
                "An access token bound to a key (RFC 9449), with a proof in the DPoP header made for this one request."
            ),
        },
        "clientCertificate": {
            "type": "mutualTLS",
            "description": (
                "Where the gateway takes client certificates: a token bound to one (RFC 8705) is taken with it alone."
            ),
        },
    }
