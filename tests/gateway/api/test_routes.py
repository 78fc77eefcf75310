"""The table of routes, through the whole application in this process: real ledger, real tokens, a fake detector."""

import asyncio
from dataclasses import replace
from datetime import datetime
from urllib.parse import unquote

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from gateway.api.routes import ROUTES, build_app
from gateway.errors import Code, OverloadedError, RunnerError
from gateway.inference.runner import InferenceResult
from tests.gateway.api.in_process import Gateway, bearer, connected

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The event loop that the gateway runs on."""
    return "asyncio"


def test_the_application_has_exactly_the_routes_of_the_table(gateway: Gateway) -> None:
    """Paths and methods; nothing is registered beside ROUTES, and nothing is added to it on the way."""
    routes = gateway.app.routes
    assert all(type(route) is Route for route in routes)
    registered = [(route.path, route.methods) for route in routes if isinstance(route, Route)]
    assert registered == [(entry.path, {entry.method}) for entry in ROUTES]


def test_the_table_itself() -> None:
    """A new route is a decision about who may call it."""
    assert [(e.method, e.path, e.permission, e.action) for e in ROUTES] == [
        ("POST", "/predict", "predict", "predict"),
        ("POST", "/v1/models/{name}/predict", "predict", "predict"),
        ("GET", "/v1/model", "models.read", "models.read"),
        ("GET", "/v1/models", "models.read", "models.read"),
        ("GET", "/v1/models/{name}", "models.read", "models.read"),
        ("POST", "/v1/models/{name}/promote", "models.write", "models.promote"),
        ("POST", "/v1/models/{name}/rollback", "models.write", "models.rollback"),
        ("POST", "/v1/models/{name}/retire", "models.write", "models.retire"),
        ("POST", "/v1/models/{name}/traffic", "models.write", "models.traffic"),
        ("GET", "/v1/audit", "audit.read", "audit.read"),
        ("GET", "/v1/audit/checkpoint", "audit.prove", "audit.prove"),
        ("GET", "/v1/audit/proof/{index}", "audit.prove", "audit.prove"),
        ("GET", "/livez", None, None),
        ("GET", "/readyz", None, None),
        ("GET", "/.well-known/oauth-protected-resource", None, None),
        ("GET", "/openapi.json", None, None),
    ]


async def test_an_image_is_answered_and_recorded(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    """JSON with the request's id in a header; two records; a sample."""
    answer = await client.post("/predict", content=b"image", headers=bearer("client"))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json()["images"][0]["results"] == [
        {"name": "bolt", "class": 0, "confidence": 0.5,
         "box": {"x1": 1.0, "y1": 2.0, "x2": 3.0, "y2": 4.0}}
    ]  # fmt: skip
    request_id = answer.headers["x-request-id"]
    assert [(r["outcome"], r["request_id"], r["subject"]) for r in gateway.records()] == [
        ("admitted", request_id, "camera-7"),
        ("answered", request_id, "camera-7"),
    ]
    assert [offer.request_id for offer in gateway.sampler.offers] == [request_id]
    assert gateway.counted(route="/predict", status="200", code="ok") == 1
    stages = {
        stage: gateway.metrics.registry.get_sample_value(
            "gateway_stage_duration_seconds_sum", {"stage": stage}
        )
        for stage in ("decode", "preprocess", "inference", "postprocess", "queue")
    }
    assert stages == {
        "decode": 0.001, "preprocess": 0.002, "inference": 0.003, "postprocess": 0.004, "queue": 0.005,
    }  # fmt: skip


async def test_each_answer_says_where_its_time_went(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    """In milliseconds, the records that the caller waited for included; the histogram has the same."""
    answer = await client.post("/predict", content=b"image", headers=bearer("client"))
    *stages, audit = answer.headers["server-timing"].split(", ")
    assert [
        "queue;dur=5.000", "decode;dur=1.000", "preprocess;dur=2.000", "inference;dur=3.000",
        "postprocess;dur=4.000",
    ] == stages  # fmt: skip
    name, taken = audit.split(";dur=")
    counted = gateway.metrics.registry.get_sample_value(
        "gateway_stage_duration_seconds_sum", {"stage": "audit"}
    )
    assert "audit" == name
    assert pytest.approx(counted, abs=1e-6) == float(taken) / 1e3
    assert float(taken) > 0


async def test_each_request_has_an_id_of_its_own(client: httpx.AsyncClient) -> None:
    """Also when the caller sends one: a chosen id could hide a call among others."""
    chosen = {"X-Request-Id": "chosen"}
    ids = {(await client.get("/livez", headers=chosen)).headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3
    assert "chosen" not in ids


async def test_the_model_is_described(gateway: Gateway, client: httpx.AsyncClient) -> None:
    """To principals that may read it."""
    answer = await client.get("/v1/model", headers=bearer("auditor"))
    assert answer.json() == {
        "name": "belt", "version": "3", "stage": "production", "classNames": ["bolt"],
        "inputSize": [320, 416], "precision": "f32", "sha256": "ab" * 32,
    }  # fmt: skip
    assert [(r["action"], r["outcome"]) for r in gateway.records()] == [("models.read", "answered")]


async def test_a_header_names_the_camera_where_the_settings_say_which(gateway: Gateway) -> None:
    """Whatever its case, as HTTP has it; another header, or one where none is set, names nobody."""
    headers = {**bearer("client"), "x-camera": "cam-3"}
    for name in ("X-Camera", "X-Other", ""):
        app = build_app(replace(gateway.edge, source_header=name))
        async with connected(app) as client:
            answer = await client.post("/predict", content=b"image", headers=headers)
            assert 200 == answer.status_code
    assert ["cam-3", None, None] == [offer.source for offer in gateway.sampler.offers]


async def test_a_camera_named_twice_is_nobody(gateway: Gateway) -> None:
    """The call is answered, the sample has no camera, and the counter says why."""
    headers = [*bearer("client").items(), ("X-Camera", "cam-3"), ("X-Camera", "cam-4")]
    async with connected(build_app(replace(gateway.edge, source_header="X-Camera"))) as client:
        answer = await client.post("/predict", content=b"image", headers=headers)
    assert 200 == answer.status_code
    assert [None] == [offer.source for offer in gateway.sampler.offers]
    counted = gateway.metrics.registry.get_sample_value
    assert 1 == counted("gateway_sources_ignored_total", {"reason": "header_repeated"})


@pytest.mark.parametrize(("method", "path"), [("POST", "/predict"), ("GET", "/v1/model")])
async def test_every_other_route_wants_credentials(
    gateway: Gateway, client: httpx.AsyncClient, method: str, path: str
) -> None:
    """401 with a challenge, recorded, and the body stays unread."""
    answer = await client.request(method, path, content=b"image")
    assert (answer.status_code, answer.json()["code"]) == (401, "authn_missing")
    assert answer.headers["www-authenticate"].startswith('Bearer realm="gatewatch", resource_')
    assert [(r["outcome"], r["route"], r["code"]) for r in gateway.records()] == [
        ("refused", path, "authn_missing")
    ]
    assert gateway.runner.bodies == []


async def test_every_other_route_wants_its_permission(client: httpx.AsyncClient) -> None:
    """A role that may read the model sends no images, and the other way round for none."""
    denied = await client.post("/predict", content=b"image", headers=bearer("operator"))
    assert (denied.status_code, denied.json()["code"]) == (403, "authz_denied")
    denied = await client.get("/v1/model", headers=bearer("metrics"))
    assert (denied.status_code, denied.json()["code"]) == (403, "authz_denied")


async def test_two_credentials_are_refused(client: httpx.AsyncClient) -> None:
    """A proxy on the way may have checked the other one."""
    one = bearer("client")["Authorization"]
    answer = await client.post(
        "/predict", content=b"image", headers=[("Authorization", one), ("Authorization", one)]
    )
    assert (answer.status_code, answer.json()["code"]) == (401, "authn_invalid")


async def test_health_is_open_and_unrecorded(gateway: Gateway, client: httpx.AsyncClient) -> None:
    """Probes come every second from callers without credentials."""
    assert (await client.get("/livez")).text == "ok\n"
    assert (await client.get("/readyz")).text == "ready\n"
    assert gateway.records() == []


async def test_a_gateway_that_is_not_ready_says_so(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    """Alive all the same."""
    gateway.is_ready = False
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
    assert answer.headers["retry-after"] == "5"
    assert (await client.get("/livez")).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/", "/predict/", "/v1/model/", "/livez/", "/Predict", "//predict",
     "/v1", "/.env", "/docs", "/openapi.yaml", "/metrics", "/predict%2f", "/predict%00"],
)  # fmt: skip
async def test_what_is_not_in_the_table_is_refused_and_recorded(
    gateway: Gateway, client: httpx.AsyncClient, path: str
) -> None:
    """Also a path that only nearly matches; whoever probes leaves a trace."""
    answer = await client.post(f"https://gateway.example{path}", headers=bearer("client"))
    assert (answer.status_code, answer.json()["code"]) == (404, "route_unknown")
    assert answer.headers["content-type"] == "application/problem+json"
    (record,) = gateway.records()
    assert (record["action"], record["outcome"], record["code"], record["address"]) == (
        "route.unknown", "refused", "route_unknown", "192.0.2.7",
    )  # fmt: skip
    assert record["request_id"] == answer.headers["x-request-id"]
    assert gateway.counted(route="unmatched", status="404", code="route_unknown") == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/%70redict"), ("GET", "/%70redict"), ("GET", "/v1%2fmodel"), ("GET", "/v1/model%00"),
     ("GET", "/%6Civez")],
)  # fmt: skip
async def test_an_escaped_spelling_of_a_path_is_another_path(
    gateway: Gateway, method: str, path: str
) -> None:
    """A proxy in front that allows or forbids by path must not be passed by one that we alone decode."""
    transport = httpx.ASGITransport(RawPath(gateway.app, path.encode("ascii")))
    async with httpx.AsyncClient(transport=transport, base_url="https://g.example") as client:
        answer = await client.request(method, "/", content=b"x", headers=bearer("client"))
    assert (answer.status_code, answer.json()["code"]) == (404, "route_unknown")
    assert [(r["action"], r["outcome"]) for r in gateway.records()] == [
        ("route.unknown", "refused")
    ]


class RawPath:
    """Hands on a path as the listener does: httpx would normalise it first."""

    def __init__(self, app: Starlette, raw_path: bytes) -> None:
        self.app = app
        self.raw_path = raw_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application."""
        path = unquote(self.raw_path.decode("ascii"))
        await self.app({**scope, "path": path, "raw_path": self.raw_path}, receive, send)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/predict", "POST"),
        ("HEAD", "/predict", "POST"),
        ("OPTIONS", "/predict", "POST"),
        ("TRACE", "/predict", "POST"),
        ("BREW", "/predict", "POST"),
        ("POST", "/v1/model", "GET"),
        ("HEAD", "/v1/model", "GET"),
        ("POST", "/livez", "GET"),
        ("HEAD", "/readyz", "GET"),
    ],
)
async def test_other_methods_are_refused_and_recorded(
    gateway: Gateway, client: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    """405 with Allow, RFC 9110 section 15.5.6; a method of the table is the only one there is."""
    answer = await client.request(method, path, headers=bearer("client"))
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    told = "" if method == "HEAD" else f"this path takes only {allowed}"
    assert told in answer.text
    (record,) = gateway.records()
    assert (record["outcome"], record["code"], record["method"], record["route"]) == (
        "refused", "method_not_allowed", method, path,
    )  # fmt: skip


@pytest.mark.parametrize(
    "host", ["gateway.example/livez?x=", "gateway.example/livez#", "a b", "", "[", "\xff"]
)
async def test_a_host_header_never_changes_the_matched_route(
    gateway: Gateway, client: httpx.AsyncClient, host: str
) -> None:
    """request.url is built from Host; matching and permissions go by the path alone."""
    headers = [(b"Host", host.encode("latin-1"))]
    answer = await client.get("/v1/model", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "authn_missing")
    assert [record["route"] for record in gateway.records()] == ["/v1/model"]


async def test_a_path_with_escapes_is_recorded_printable(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    """What a caller chose cannot attack the terminal of whoever reads the ledger."""
    await client.get("/%1b%5b2J%0a")
    assert [record["route"] for record in gateway.records()] == ["/\\x1b[2J\\x0a"]


async def test_a_body_over_the_limit_is_refused(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    """On record with its code, without a digest: it was not read."""
    answer = await client.post("/predict", content=b"x" * 1001, headers=bearer("client"))
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    (record,) = gateway.records()
    assert (record["code"], record["input_sha256"]) == ("body_too_large", None)


async def test_a_full_queue_says_when_to_come_back(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    """503 with Retry-After, on record as our failure."""
    gateway.runner.error = OverloadedError("busy", retry_after_seconds=3)
    answer = await client.post("/predict", content=b"image", headers=bearer("client"))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
    assert [record["outcome"] for record in gateway.records()] == ["admitted", "failed"]


async def test_a_reason_reaches_the_ledger_and_not_the_caller(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    """The caller gets the constant code."""
    gateway.runner.error = RunnerError(Code.RUNNER_FAILED, "the detector failed", reason="stuck")
    answer = await client.post("/predict", content=b"image", headers=bearer("client"))
    assert (answer.status_code, "stuck" in answer.text) == (500, False)
    assert gateway.records()[-1]["reason"] == "stuck"


async def test_an_unexpected_exception_is_answered_and_recorded(
    gateway: Gateway, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """A constant problem with the request's id; the traceback is for the log alone."""
    gateway.runner.error = ZeroDivisionError("a secret detail")
    answer = await client.post("/predict", content=b"image", headers=bearer("client"))
    assert answer.status_code == 500
    assert answer.json() == {
        "type": "urn:gatewatch:problem:internal",
        "title": "Internal Server Error",
        "status": 500,
        "detail": "the gateway failed; the request id finds the cause",
        "code": "internal",
        "request_id": answer.headers["x-request-id"],
    }
    last = gateway.records()[-1]
    assert (last["outcome"], last["code"], last["reason"]) == (
        "failed", "internal", "ZeroDivisionError",
    )  # fmt: skip
    assert answer.headers["x-request-id"] in caplog.text
    assert gateway.counted(route="/predict", status="500", code="internal") == 1


async def test_a_cancelled_call_is_answered_and_recorded(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    """As not ready: a shutdown does not end it as plain text without a trace."""
    gateway.runner.error = asyncio.CancelledError()
    answer = await client.post("/predict", content=b"image", headers=bearer("client"))
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
    assert [r["outcome"] for r in gateway.records()] == ["admitted", "failed"]


async def test_a_caller_that_hangs_up_ends_its_call(gateway: Gateway) -> None:
    """The runner's work is cancelled, the record says why, and it is no failure of ours."""
    seen = asyncio.Event()
    dropped: list[str] = []

    async def detect(*_: object) -> InferenceResult:
        seen.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as exc:
            dropped.extend(exc.args)
            raise
        raise AssertionError

    gateway.runner.detect = detect  # type: ignore[method-assign, assignment]  # never ends by itself
    body = iter([{"type": "http.request", "body": b"image", "more_body": False}])

    async def receive() -> Message:
        for message in body:
            return message
        await seen.wait()
        return {"type": "http.disconnect"}

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    token = bearer("client")["Authorization"].encode("ascii")
    scope = {
        "type": "http", "method": "POST", "path": "/predict", "raw_path": b"/predict",
        "query_string": b"", "headers": [(b"authorization", token)], "client": ("192.0.2.7", 1),
    }  # fmt: skip
    await gateway.app(scope, receive, send)
    assert dropped == ["client_gone"]
    assert [(r["outcome"], r.get("reason")) for r in gateway.records()] == [
        ("admitted", None), ("refused", "client_gone"),
    ]  # fmt: skip
    assert gateway.counted(route="/predict", status="400", code="client_gone") == 1


async def test_a_cancelled_probe_is_answered(gateway: Gateway) -> None:
    """Also where nothing is recorded."""

    async def is_ready() -> bool:
        raise asyncio.CancelledError

    async with connected(build_app(replace(gateway.edge, is_ready=is_ready))) as client:
        answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")


async def test_a_failure_outside_of_every_route_is_a_problem(gateway: Gateway) -> None:
    """Starlette's own last answer is plain text."""

    def broken() -> datetime:
        raise ZeroDivisionError

    app = build_app(replace(gateway.edge, clock=broken))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="https://g.example") as client:
        answer = await client.get("/livez")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/predict"), ("GET", "/v1/model"), ("GET", "/nowhere")]
)
async def test_without_a_ledger_nothing_is_answered(
    gateway: Gateway, client: httpx.AsyncClient, method: str, path: str
) -> None:
    """Neither answers nor refusals."""
    gateway.audit.close()
    answer = await client.request(method, path, content=b"image", headers=bearer("client"))
    assert (answer.status_code, answer.json()["code"]) == (503, "audit_unavailable")
    assert answer.headers["retry-after"] == "5"
    assert gateway.runner.bodies == []


async def test_refused_credentials_are_counted_by_reason(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    """The security team's graphs; the caller's answer is one for all reasons."""
    await client.post("/predict", headers={"Authorization": "Basic abc"})
    await client.post("/predict", headers=bearer("analyst"))
    value = gateway.metrics.registry.get_sample_value
    assert value("gateway_authn_failures_total", {"reason": "credentials_form"}) == 1
    assert value("gateway_authz_denials_total", {"reason": "not_permitted"}) == 1


async def test_a_table_with_more_routes_is_served_by_the_same_rules(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A route that forgot its permission answers 500 rather than its model."""
    open_route = replace(ROUTES[2], path="/open", permission=None)
    monkeypatch.setattr("gateway.api.routes.ROUTES", (*ROUTES, open_route))
    async with connected(build_app(gateway.edge)) as client:
        answer = await client.get("/open", headers=bearer("client"))
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
