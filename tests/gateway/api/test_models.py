"""The routes about models, through the whole application in this process."""

from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from sqlalchemy import Engine

from gateway.errors import Code, RegistryError
from gateway.models import changes
from gateway.models.directory import Lineup, Shared
from gateway.store.database import write_transaction
from gateway.store.queries.models import insert_model_version
from gateway.store.records import Stage
from tests.gateway.api.in_process import NOW, Gateway, bearer
from tests.gateway.versions import fake_version, registered

pytestmark = pytest.mark.anyio

OPERATOR = bearer("operator")
CHANGES = {
    "promote": b'{"version":"4"}',
    "rollback": b"{}",
    "retire": b'{"version":"4"}',
    "traffic": b'{"version":"4","mode":"canary","share":1}',
}


@pytest.fixture
def anyio_backend() -> str:
    """The event loop that the gateway runs on."""
    return "asyncio"


@pytest.fixture
def gateway(sqlite_engine: Engine) -> Iterator[Gateway]:
    """A gateway that serves belt@3; belt@2 was in production before, belt@4 is a candidate."""
    with write_transaction(sqlite_engine) as connection:
        for version in ("2", "3", "4"):
            insert_model_version(connection, registered(version))
        insert_model_version(connection, replace(registered("1", "gate"), stage=Stage.CANDIDATE))
    for version in ("2", "3"):
        changes.promote(sqlite_engine, "belt", version, clock=lambda: NOW)
    built = Gateway(sqlite_engine)
    yield built
    built.audit.close()


def stages(answer: httpx.Response) -> dict[str, str]:
    """Each version's stage and traffic in an answer about one model."""
    assert answer.status_code == 200, answer.text
    return {v["version"]: f"{v['stage']} {v['traffic']}" for v in answer.json()["versions"]}


async def test_a_model_answers_under_its_name(gateway: Gateway, client: httpx.AsyncClient) -> None:
    """And says which version did; the route is counted by its template."""
    path = "/v1/models/belt/predict"
    answer = await client.post(path, content=b"image", headers=bearer("client:belt"))
    assert (answer.status_code, answer.headers["x-model-version"]) == (200, "belt@3")
    assert answer.json()["metadata"]["model"] == "belt@3"
    route = "/v1/models/{name}/predict"
    assert [(r["route"], r["model_name"], r["model_version"]) for r in gateway.records()] == [
        (route, "belt", "3"), (route, "belt", "3"),
    ]  # fmt: skip
    assert gateway.counted(route=route, status="200", code="ok") == 1


async def test_an_answer_is_rendered_with_the_names_of_its_version(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    """A canary may have other classes than production."""
    canary = fake_version("4", class_name="nut")
    production = gateway.production.served
    gateway.directory.swap("belt", Lineup(production, canary=Shared(canary.served, 1.0)))
    answer = await client.post("/predict", content=b"image", headers=bearer("client"))
    assert answer.headers["x-model-version"] == "belt@4"
    assert answer.json()["metadata"]["model"] == "belt@4"
    assert answer.json()["images"][0]["results"][0]["name"] == "nut"


async def test_a_model_that_is_not_served_is_not_found(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    """On record under its name; whoever may not ask for it is refused before."""
    path = "/v1/models/gate/predict"
    answer = await client.post(path, content=b"image", headers=bearer("client"))
    assert (answer.status_code, answer.json()["code"]) == (404, "model_unknown")
    denied = await client.post(path, content=b"image", headers=bearer("client:belt"))
    assert (denied.status_code, denied.json()["code"]) == (403, "authz_denied")
    assert [(r["outcome"], r["model_name"]) for r in gateway.records()] == [
        ("refused", "gate"), ("refused", "gate"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["Belt", "a@1", "..", "a" * 64, "a b", "belt%00", "-"])
async def test_what_cannot_be_a_name_is_another_path(
    gateway: Gateway, client: httpx.AsyncClient, name: str
) -> None:
    """It reaches neither roles nor registry."""
    answer = await client.post(f"/v1/models/{name}/promote", headers=OPERATOR)
    assert (answer.status_code, answer.json()["code"]) == (404, "route_unknown")
    assert [r["action"] for r in gateway.records()] == ["route.unknown"]


async def test_every_model_is_listed(gateway: Gateway, client: httpx.AsyncClient) -> None:
    """With what is loaded here and what was proved of it."""
    answer = await client.get("/v1/models", headers=bearer("analyst"))
    belt, gate = answer.json()["models"]
    assert (belt["name"], belt["isServed"], gate["name"], gate["isServed"]) == (
        "belt", True, "gate", False,
    )  # fmt: skip
    production = next(v for v in belt["versions"] if v["version"] == "3")
    assert production == {
        "version": "3", "stage": "production", "traffic": "none", "share": 0.0, "task": "detect",
        "engine": "openvino", "precision": "f32", "inputSize": [320, 416], "sha256": "ab" * 32,
        "registeredAt": "2031-05-06T07:08:09+00:00", "isLoaded": True,
        "madeWith": {"openvino": "2026.4.1"}, "gates": {"parity": "passed"},
    }  # fmt: skip
    assert [v["isLoaded"] for v in belt["versions"]] == [False, True, False]
    assert [(r["action"], r["outcome"], r["model_name"]) for r in gateway.records()] == [
        ("models.read", "answered", None)
    ]


async def test_a_role_for_one_model_does_not_list_them_all(client: httpx.AsyncClient) -> None:
    """But shows its own."""
    headers = bearer("analyst:belt")
    assert (await client.get("/v1/models", headers=headers)).status_code == 403
    assert (await client.get("/v1/models/gate", headers=headers)).status_code == 403
    assert stages(await client.get("/v1/models/belt", headers=headers)) == {
        "2": "retired none", "3": "production none", "4": "candidate none",
    }  # fmt: skip


async def test_a_model_without_versions_is_not_found(client: httpx.AsyncClient) -> None:
    """Read or changed."""
    for answer in (
        await client.get("/v1/models/absent", headers=OPERATOR),
        await client.post(
            "/v1/models/absent/promote", headers=OPERATOR, content=CHANGES["promote"]
        ),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "model_unknown")


async def test_an_operator_promotes_and_goes_back(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    """Each answered when it is so; two records each, and one of every load."""
    promoted = await client.post(
        "/v1/models/belt/promote", headers=OPERATOR, content=CHANGES["promote"]
    )
    assert stages(promoted)["4"] == "production none"
    assert gateway.directory.check("belt").production.label == "belt@4"
    back = await client.post("/v1/models/belt/rollback", headers=OPERATOR)
    assert stages(back)["3"] == "production none"
    assert [(r["action"], r["outcome"], r["model_version"]) for r in gateway.records()] == [
        ("models.promote", "admitted", "4"),
        ("keys.use", "answered", "4"),
        ("models.load", "answered", "4"),
        ("models.promote", "answered", "4"),
        ("models.rollback", "admitted", None),
        ("keys.use", "answered", "3"),
        ("models.load", "answered", "3"),
        ("models.rollback", "answered", "3"),
    ]


async def test_an_operator_directs_traffic_and_retires(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    """What is asked for is on record."""
    url = "/v1/models/belt"
    directed = await client.post(f"{url}/traffic", headers=OPERATOR, content=CHANGES["traffic"])
    assert stages(directed)["4"] == "candidate canary"
    retired = await client.post(f"{url}/retire", headers=OPERATOR, content=CHANGES["retire"])
    assert stages(retired)["4"] == "retired none"
    asked = [r for r in gateway.records() if r["action"] == "models.traffic"]
    assert [r["detail"] for r in asked] == [
        "traffic=canary share=1",
        f"traffic=canary share=1 sha256={'ab' * 32}",
    ]


async def test_a_version_that_fails_its_golden_set_is_not_promoted(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    """422 with the image that differs; what serves goes on serving."""
    message = "belt@4 does not reproduce its golden set: bus.jpg: 0 of 3 boxes"
    gateway.loader.errors["4"] = RegistryError(Code.GOLDEN_FAILED, message)
    answer = await client.post(
        "/v1/models/belt/promote", headers=OPERATOR, content=CHANGES["promote"]
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "golden_failed")
    assert answer.json()["detail"] == message
    assert gateway.directory.check("belt").production.label == "belt@3"
    assert stages(await client.get("/v1/models/belt", headers=OPERATOR))["3"] == "production none"
    assert [(r["outcome"], r["code"]) for r in gateway.records()][:2] == [
        ("admitted", None), ("failed", "golden_failed"),
    ]  # fmt: skip


async def test_a_version_that_cannot_be_followed_is_shown_with_its_cause(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    """The operator who promoted it elsewhere finds out here; the ledger has the reason."""
    gateway.loader.errors["4"] = RegistryError(Code.MODEL_UNSUPPORTED, "no such engine")
    changes.promote(gateway.engine, "belt", "4", clock=lambda: NOW)
    await gateway.watch.look()
    answer = await client.get("/v1/models/belt", headers=OPERATOR)
    four = answer.json()["versions"][2]
    assert (four["stage"], four["isLoaded"]) == ("production", False)
    assert four["loadFailure"] == {"code": "model_unsupported", "attempts": 1}


async def test_what_the_registry_does_not_allow_is_a_conflict(client: httpx.AsyncClient) -> None:
    """409, with what to do first."""
    answer = await client.post(
        "/v1/models/belt/retire", headers=OPERATOR, content=b'{"version":"3"}'
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "model_conflict")


@pytest.mark.parametrize("verb", CHANGES)
@pytest.mark.parametrize("role", ["client", "analyst", "auditor", "metrics", "operator:gate"])
async def test_only_operators_of_the_model_change_it(
    gateway: Gateway, client: httpx.AsyncClient, verb: str, role: str
) -> None:
    """403, on record, and nothing is loaded."""
    url = f"/v1/models/belt/{verb}"
    answer = await client.post(url, headers=bearer(role), content=CHANGES[verb])
    assert (answer.status_code, answer.json()["code"]) == (403, "authz_denied")
    assert [r["outcome"] for r in gateway.records()] == ["refused"]
    assert gateway.loader.labels == []


@pytest.mark.parametrize("verb", CHANGES)
async def test_changes_want_credentials_and_their_method(
    client: httpx.AsyncClient, verb: str
) -> None:
    """Like every route."""
    url = f"/v1/models/belt/{verb}"
    assert (await client.post(url, content=CHANGES[verb])).status_code == 401
    answer = await client.get(url, headers=OPERATOR)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "body_invalid"),
        (b"[]", 400, "body_invalid"),
        (b'{"version":4}', 422, "parameter_invalid"),
        (b'{"version":"4","force":true}', 422, "parameter_invalid"),
        (b'{"version":"' + b"4" * 5000 + b'"}', 413, "body_too_large"),
    ],
)
async def test_bodies_that_are_not_as_they_must_be_are_refused(
    gateway: Gateway, client: httpx.AsyncClient, body: bytes, status: int, code: str
) -> None:
    """Before anything is on record as admitted."""
    answer = await client.post("/v1/models/belt/promote", headers=OPERATOR, content=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert [(r["outcome"], r["code"]) for r in gateway.records()] == [("refused", code)]


async def test_without_a_ledger_nothing_is_changed(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    """Fails closed."""
    gateway.audit.close()
    answer = await client.post(
        "/v1/models/belt/promote", headers=OPERATOR, content=CHANGES["promote"]
    )
    assert (answer.status_code, answer.json()["code"]) == (503, "audit_unavailable")
    assert changes.find_production(gateway.engine, "belt").label == "belt@3"


async def test_a_registry_that_does_not_answer_is_not_ready(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    """503, so that callers try again."""
    with write_transaction(gateway.engine) as connection:
        connection.exec_driver_sql("DROP TABLE model_versions")
    for answer in (
        await client.get("/v1/models", headers=OPERATOR),
        await client.post("/v1/models/belt/rollback", headers=OPERATOR),
    ):
        assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")


async def test_versions_that_the_role_does_not_cover_are_not_told(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    """Reading is narrowed like asking: class names and digests of another version are not this caller's to know."""
    mine, other = bearer("client:belt@3"), bearer("client:belt@9.*")
    assert (await client.get("/v1/model", headers=mine)).status_code == 200
    refused = await client.get("/v1/model", headers=other)
    assert (refused.status_code, refused.json()["code"]) == (403, "authz_denied")
    listed = await client.get("/v1/models/belt", headers=mine)
    assert ["3"] == [version["version"] for version in listed.json()["versions"]]
    refused = await client.get("/v1/models/belt", headers=other)
    assert (refused.status_code, refused.json()["code"]) == (403, "authz_denied")
    assert "other_version" == gateway.records()[-1]["reason"]
