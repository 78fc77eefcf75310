"""The OpenAPI document against the table of routes, the codes, the parsers it describes, and its own specification."""

import json
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from schemathesis.core.result import Ok
from starlette.responses import Response

from gateway.api import openapi_schemas
from gateway.api.change_bodies import parse_traffic_change, parse_version_change
from gateway.api.edge import Edge, RouteEntry
from gateway.api.openapi import codes_of, openapi_bytes, openapi_document
from gateway.api.parameters import parse_parameters
from gateway.api.problems import STATUS
from gateway.api.routes import ROUTES
from gateway.api.write_openapi import openapi_text
from gateway.errors import Code, RequestError
from gateway.models.names import is_model_name, is_model_version
from gateway.pipeline import Call
from tests.gateway.api.in_process import Gateway, connected

ROOT = Path(__file__).resolve().parents[3]
WITHOUT_ROUTE = {Code.ROUTE_UNKNOWN, Code.METHOD_NOT_ALLOWED}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document of the routes as they are."""
    return openapi_document(ROUTES, "1.2.3")


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of each operation."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def validator(schema: dict[str, Any], document: dict[str, Any]) -> Any:
    """A validator of one of the document's schemas."""
    jsonschema_rs = pytest.importorskip("jsonschema_rs")
    return jsonschema_rs.Draft202012Validator(
        {**schema, "components": document["components"]}, validate_formats=True
    )


def test_the_committed_file_is_this_document() -> None:
    """Whoever changes a route sees in the same change what callers get to see."""
    fix = "run `.venv/bin/python -m gateway.api.write_openapi > docs/openapi.json`"
    assert openapi_text() == (ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"), fix


def test_every_route_is_in_it_and_nothing_else(document: dict[str, Any]) -> None:
    """The table of routes is the only source."""
    assert [(entry.method, entry.path) for entry in ROUTES] == [
        (method, path) for method, path, _ in operations(document)
    ]


def test_a_route_that_nobody_described_fails() -> None:
    """A new route is not served undocumented."""

    async def handler(request: Any, call: Call, edge: Edge) -> Response:
        raise NotImplementedError

    entry = RouteEntry("/new", "GET", None, None, handler)
    with pytest.raises(LookupError, match="GET /new is not described"):
        openapi_document([*ROUTES, entry], "1")


def test_every_operation_says_its_permission(document: dict[str, Any]) -> None:
    """In words, for programs, and as a security requirement; open routes say that they are open."""
    stated = {
        (method, path): (operation.get("x-permission"), operation["security"])
        for method, path, operation in operations(document)
    }
    for entry in ROUTES:
        permission = entry.permission and entry.permission.value
        wanted = [{"bearer": [permission]}, {"dpop": [permission]}] if permission else []
        assert (permission, wanted) == stated[entry.method, entry.path]
    assert {"bearer", "dpop", "clientCertificate"} == set(document["components"]["securitySchemes"])


@pytest.mark.parametrize("entry", ROUTES, ids=lambda entry: f"{entry.method} {entry.path}")
def test_every_code_of_a_route_is_under_its_status(
    document: dict[str, Any], entry: RouteEntry
) -> None:
    """Each code once, beside 200, under the status that it answers with."""
    responses = document["paths"][entry.path][entry.method.lower()]["responses"]
    stated = {
        (int(status), code) for status, response in responses.items() for code in codes_in(response)
    }
    assert {(STATUS[code].value, code.value) for code in codes_of(entry)} == stated
    assert {"200", *(str(status) for status, _ in stated)} == set(responses)


def codes_in(response: dict[str, Any]) -> list[str]:
    """The codes that a documented response can have."""
    schema = response["content"].get("application/problem+json", {}).get("schema", {})
    codes = [part["properties"]["code"]["enum"] for part in schema.get("allOf", [])[1:]]
    return [code for listed in codes for code in listed]


def test_every_code_that_callers_get_is_documented(document: dict[str, Any]) -> None:
    """Under a route or, where no route answers, beside them; a new code with a status must be given to one."""
    of_routes = {code for entry in ROUTES for code in codes_of(entry)}
    assert set(STATUS) - {Code.METHOD_NOT_ALLOWED} == of_routes
    beside = document["components"]["responses"].values()
    assert {code.value for code in WITHOUT_ROUTE} == {
        code for response in beside for code in codes_in(response)
    }
    assert {code.value for code in STATUS} == set(
        document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]
    )


@pytest.mark.parametrize(
    ("path", "method", "code", "is_there"),
    [
        ("/predict", "POST", Code.QUOTA_EXHAUSTED, True),
        ("/v1/models", "GET", Code.QUOTA_EXHAUSTED, False),
        ("/v1/models", "GET", Code.RATE_LIMITED, True),
        ("/v1/models", "GET", Code.MODEL_UNKNOWN, False),
        ("/v1/models/{name}", "GET", Code.MODEL_UNKNOWN, True),
        ("/v1/models/{name}", "GET", Code.ROUTE_UNKNOWN, True),
        ("/v1/models/{name}/promote", "POST", Code.GOLDEN_FAILED, True),
        ("/v1/models/{name}/retire", "POST", Code.GOLDEN_FAILED, False),
        ("/v1/models/{name}/promote", "POST", Code.AUTHN_STEP_UP, True),
        ("/livez", "GET", Code.AUTHN_MISSING, False),
        ("/readyz", "GET", Code.NOT_READY, True),
    ],
)
def test_codes_are_where_they_can_occur(path: str, method: str, code: Code, is_there: bool) -> None:
    """A list of everything everywhere would tell a client nothing."""
    (entry,) = [entry for entry in ROUTES if (entry.path, entry.method) == (path, method)]
    assert is_there is (code in codes_of(entry))


@pytest.mark.parametrize(
    ("status", "field"),
    [("401", "WWW-Authenticate"), ("429", "Retry-After"), ("503", "Retry-After")],
)
def test_refusals_say_what_to_do_next(document: dict[str, Any], status: str, field: str) -> None:
    """The header that a client acts on is promised, and the live test holds the gateway to it."""
    for _, _, operation in operations(document):
        if status in operation["responses"]:
            reference = operation["responses"][status]["headers"][field]["$ref"]
            assert document["components"]["headers"][reference.split("/")[-1]]["required"] is True


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    """A client generator stops at the first that does not."""

    def walk(part: Any) -> Iterator[str]:
        if isinstance(part, dict):
            yield from [part["$ref"]] if "$ref" in part else []
            part = [*part.values()]
        for inner in part if isinstance(part, list) else []:
            yield from walk(inner)

    references = set(walk(document))
    assert references
    for reference in references:
        found = document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]


def test_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    """Generators make functions of them."""
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    assert all(name.isidentifier() for name in names)


def test_the_document_follows_its_specification(document: dict[str, Any]) -> None:
    """Schemathesis knows the structure of OpenAPI 3.1; what it cannot make an operation of is a mistake here."""
    schema = schemathesis.openapi.from_dict(document)
    schema.validate()
    made = [result.ok().label for result in schema.get_all_operations() if isinstance(result, Ok)]
    assert {f"{entry.method} {entry.path}" for entry in ROUTES} == set(made)


def test_a_status_is_an_http_status(document: dict[str, Any]) -> None:
    """Keys of responses are texts of three digits."""
    for _, _, operation in operations(document):
        for status in operation["responses"]:
            assert HTTPStatus(int(status))


@given(st.from_regex(openapi_schemas.NAME_PATTERN) | st.text(max_size=70))
def test_names_are_what_the_pattern_says(text: str) -> None:
    """The document's pattern and the check behind the route take the same names."""
    assert is_model_name(text) is bool(re.fullmatch(openapi_schemas.NAME_PATTERN[1:-1], text))


@given(st.from_regex(openapi_schemas.VERSION_PATTERN) | st.text(max_size=70))
def test_versions_are_what_the_pattern_says(text: str) -> None:
    """The same for versions."""
    assert is_model_version(text) is bool(re.fullmatch(openapi_schemas.VERSION_PATTERN[1:-1], text))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("conf", 0.01), ("conf", 0.009), ("conf", 1), ("conf", 1.01), ("iou", 0), ("iou", 0.95),
        ("iou", 0.96), ("imgsz", 32), ("imgsz", 31), ("imgsz", 1280), ("imgsz", 1281),
        ("decimals", 0), ("decimals", 10), ("decimals", 11),
    ],
)  # fmt: skip
def test_parameters_have_the_limits_that_are_enforced(
    document: dict[str, Any], name: str, value: float
) -> None:
    """Both sides of each limit, by the document and by the parser."""
    schema, _ = openapi_schemas.predict_parameters()[name]
    assert takes(parse_parameters, {name: str(value)}) is validator(schema, document).is_valid(
        value
    )


@pytest.mark.parametrize(
    "body",
    [
        {"version": "2"}, {"version": "2", "x": 1}, {"version": 2}, {"version": ""}, {}, [],
        {"version": "a b"}, {"version": "a" * 63}, {"version": "a" * 64},
    ],
)  # fmt: skip
def test_version_changes_have_the_schema_that_is_enforced(
    document: dict[str, Any], body: Any
) -> None:
    """The document takes a body exactly where the parser does."""
    schema = validator({"$ref": "#/components/schemas/VersionChange"}, document)
    assert takes(parse_version_change, json.dumps(body).encode()) is schema.is_valid(body)


@pytest.mark.parametrize(
    "body",
    [
        {"version": "2", "mode": "canary", "share": 0.1},
        {"version": "2", "mode": "shadow", "share": 1},
        {"version": "2", "mode": "canary", "share": 0.0001},
        {"version": "2", "mode": "canary", "share": 0.00009},
        {"version": "2", "mode": "canary", "share": 1.1},
        {"version": "2", "mode": "canary", "share": 0},
        {"version": "2", "mode": "canary", "share": True},
        {"version": "2", "mode": "canary"},
        {"version": "2", "mode": "none"},
        {"version": "2", "mode": "none", "share": 0},
        {"version": "2", "mode": "none", "share": 0.1},
        {"version": "2", "mode": "all", "share": 0.1},
        {"mode": "none"},
    ],
)
def test_traffic_changes_have_the_schema_that_is_enforced(
    document: dict[str, Any], body: Any
) -> None:
    """The same for traffic."""
    schema = validator({"$ref": "#/components/schemas/TrafficChange"}, document)
    assert takes(parse_traffic_change, json.dumps(body).encode()) is schema.is_valid(body)


def takes(parse: Any, value: Any) -> bool:
    """Whether a parser takes this."""
    try:
        parse(value)
    except RequestError:
        return False
    return True


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_it_is_served_to_everybody_and_unrecorded(gateway: Gateway) -> None:
    """As health is: it says nothing that the README does not, and is made once."""
    async with connected(gateway.app) as client:
        answer: httpx.Response = await client.get("/openapi.json")
    assert (200, "application/json") == (answer.status_code, answer.headers["content-type"])
    assert openapi_document(ROUTES, "0.1.0") == answer.json()
    assert [] == gateway.records()
    assert openapi_bytes(ROUTES, "0.1.0") is openapi_bytes(ROUTES, "0.1.0")
