"""Schemathesis over the running gateway: nothing is answered that the OpenAPI document does not say.

Cases are drawn from the document and against it: good and bad parameters, bodies, media types, names and methods. The
seed is fixed, so that what fails once fails again. Answers may have no member that the document does not name.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import cv2
import numpy as np
import pytest
import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis.checks import CheckContext, not_a_server_error
from schemathesis.core import NOT_SET
from schemathesis.core.failures import Failure
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from gateway.api.openapi import IMAGE_MEDIA_TYPES, openapi_bytes
from gateway.api.routes import ROUTES
from tests.system.conftest import Running

Case = schemathesis.Case[Any]
Test = TypeVar("Test", bound=Callable[..., None])

IN_WORDS = (
    "is not served by this model|a parameter is given twice|a time such as|it must be after since|"
    "parameter cursor: "
)
FORM_CODES = {"parameter_invalid", "body_invalid"}
# What is told before anything is asked of who calls.
NO_ROUTE = {"http_invalid", "route_unknown", "method_not_allowed"}
SERVED = "conveyor"
SEED = 9728
OPEN_PATHS = [entry.path for entry in ROUTES if entry.permission is None]


def refuses_nothing_good(_ctx: CheckContext, response: Response, case: Case) -> None:
    """What the document allows is not told that its form is wrong.

    But for what it says in words only: a model has sizes of its own, numbers are written without exponents, what is in
    the form must not be in the query too, a cursor comes from a page, and not every day is in the calendar.
    """
    if case.meta is None or case.meta.generation.mode.is_negative or response.status_code == 200:
        return
    problem = response.json()
    sent = f"{response.request.url} {response.request.body!r}"
    is_in_words = re.search(IN_WORDS, problem["detail"]) or re.search("[0-9]e-[0-9]", sent)
    if problem["code"] in FORM_CODES and not is_in_words:
        raise Failure(
            operation=case.operation.label,
            title="Refused what the document allows",
            message=problem["detail"],
        )


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
    allow_header_conformance,
    negative_data_rejection,
    refuses_nothing_good,
]


def images() -> st.SearchStrategy[bytes]:
    """One small image of each format, whole or cut, and what is none."""
    pixels = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)
    whole = [cv2.imencode(end, pixels)[1].tobytes() for end in (".jpg", ".png", ".webp", ".bmp")]
    return st.one_of(
        st.sampled_from(whole),
        st.builds(lambda image, end: image[:end], st.sampled_from(whole), st.integers(1, 900)),
        st.binary(min_size=1, max_size=50),
    )


def closed(schema: Any) -> Any:
    """The same schema without room for members that it does not name."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(part) for name, part in schema.items()}
    is_object = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    return {"additionalProperties": False, **inner} if is_object else inner


def drawn(*, examples: int, phases: tuple[str, ...]) -> Any:
    """The document with so many random cases an operation; phase coverage: also each limit from both sides."""
    document = json.loads(openapi_bytes(ROUTES, "live"))
    document["components"]["schemas"] = closed(document["components"]["schemas"])
    # Nothing that one answer says is put into the next request: it could name what other tests rely on.
    phase = {"extra-data-sources": {"responses": False}}
    settings: dict[str, Any] = {
        "seed": SEED,
        "generation": {
            "deterministic": True,
            "database": "none",
            "max-examples": examples,
            "no-shrink": True,
        },
        "phases": {
            name: {**phase, "enabled": name in phases}
            for name in ("examples", "coverage", "fuzzing")
        },
        "checks": {"not_a_server_error": {"expected-statuses": ["2xx", "4xx", 503]}},
    }
    return schemathesis.openapi.from_dict(document, config=schemathesis.Config.from_dict(settings))


for _media_type in IMAGE_MEDIA_TYPES:
    schemathesis.openapi.media_type(_media_type, images())

QUICK = drawn(examples=4, phases=("fuzzing",))
THOROUGH = drawn(examples=10, phases=("coverage", "fuzzing"))


def each_operation(schema: Any) -> Callable[[Test], Test]:
    """A test for each operation."""
    return cast("Callable[[Test], Test]", schema.parametrize())


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    """Kept connections; proxies in the environment are none of its business."""
    with requests.Session() as opened:
        opened.trust_env = False
        yield opened


def answer(case: Case, running: Running, session: requests.Session, role: str | None) -> str:
    """The code of an answer that was as documented; "ok" where it is no problem."""
    if case.method in {"GET", "HEAD"} and case.operation.method.upper() != case.method:
        case.body = NOT_SET  # The listener takes none with these, and would not come to the method.
    headers = {} if role is None else {"Authorization": f"Bearer {running.token(role)}"}
    response = case.call(
        base_url=running.url,
        session=session,
        headers=headers,
        verify=running.facts["ca_file"],
        timeout=30,
    )
    case.validate_response(response, checks=CHECKS)
    if response.status_code == 200:
        return "ok"
    if not response.content and response.status_code == 405:
        return "method_not_allowed"  # HEAD has no body.
    code: str = response.json()["code"]
    return code


@each_operation(QUICK.exclude(path=OPEN_PATHS))
def test_strangers_learn_nothing(case: Case, running: Running, session: requests.Session) -> None:
    """Without a token everything is refused alike, whatever is asked."""
    assert answer(case, running, session, None) in {"authn_missing", "authn_invalid"} | NO_ROUTE


@each_operation(THOROUGH.include(path=OPEN_PATHS))
def test_open_routes_answer_as_documented(
    case: Case, running: Running, session: requests.Session
) -> None:
    """To everybody, by GET alone."""
    assert answer(case, running, session, None) in {"ok"} | NO_ROUTE


@each_operation(THOROUGH.include(path=["/predict", "/v1/model", "/v1/models"]))
def test_clients_are_answered_as_documented(
    case: Case, running: Running, session: requests.Session
) -> None:
    """Predictions and what is said of models."""
    answer(case, running, session, "client")


@each_operation(QUICK.include(path_regex="/v1/models/{name}(/predict)?$"))
def test_clients_of_a_named_model_are_answered_as_documented(
    case: Case, running: Running, session: requests.Session
) -> None:
    """By the name of a model that is served."""
    case.path_parameters["name"] = SERVED
    answer(case, running, session, "client")


@each_operation(QUICK.include(tag="changes"))
def test_clients_change_nothing(case: Case, running: Running, session: requests.Session) -> None:
    """Also not the model that is served."""
    case.path_parameters["name"] = SERVED
    assert answer(case, running, session, "client") in {"authz_denied"} | NO_ROUTE


@each_operation(THOROUGH.include(path_regex="/v1/models/{name}").exclude(tag="predictions"))
def test_operators_are_answered_as_documented(
    case: Case, running: Running, session: requests.Session
) -> None:
    """Names are drawn too, so that no change meets a model that other tests use."""
    assert SERVED != case.path_parameters["name"]
    assert "ok" != answer(case, running, session, "operator")


@each_operation(QUICK.include(tag="predictions"))
def test_operators_send_no_images(case: Case, running: Running, session: requests.Session) -> None:
    """Whoever may change the model is not the one who calls."""
    assert answer(case, running, session, "operator") in {"authz_denied"} | NO_ROUTE


@each_operation(THOROUGH.include(tag="ledger"))
def test_auditors_are_answered_as_documented(
    case: Case, running: Running, session: requests.Session
) -> None:
    """Pages, checkpoints and proofs."""
    answer(case, running, session, "auditor")


@each_operation(QUICK.include(path="/v1/audit"))
def test_clients_do_not_read_the_ledger(
    case: Case, running: Running, session: requests.Session
) -> None:
    """Whatever they ask it for."""
    assert answer(case, running, session, "client") in {"authz_denied"} | NO_ROUTE
