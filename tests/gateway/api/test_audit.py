"""The ledger over HTTP: who may read it, what a page says, and that reading is itself on record."""

import asyncio
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from gateway.audit import reader as reader_module
from gateway.audit.checkpoints import checkpoint_text, open_checkpoint
from gateway.audit.events import Outcome
from gateway.audit.notes import add_signature
from gateway.audit.proof_check import check_proof
from gateway.audit.query import LedgerQuery, Page
from gateway.errors import AuditUnavailableError, Code
from gateway.store.queries.audit_trees import store_cosigned
from gateway.store.records import StoredCheckpoint
from gateway.store.tables import audit_checkpoints, audit_records
from tests.gateway.api.in_process import Gateway, bearer, token_of
from tests.gateway.audit.sample_log import TIME_SECONDS, WITNESS
from tests.gateway.audit.stored_events import event, store_events
from tests.gateway.ledgers import signer_of

pytestmark = pytest.mark.anyio

AUDITOR = bearer("auditor")
CLIENT = bearer("client")
KEY = signer_of().verifier
OWN: dict[str, Any] = {"issuer": "issuer", "subject": "camera-7"}


@pytest.fixture
def anyio_backend() -> str:
    """The event loop that the gateway runs on."""
    return "asyncio"


def of(subject: str, *roles: str) -> dict[str, str]:
    """The header of another principal's token."""
    return {"Authorization": f"Bearer {token_of(*roles, subject=subject)}"}


def last(gateway: Gateway) -> dict[str, Any]:
    """The newest record."""
    return gateway.records()[-1]


async def test_an_auditor_reads_what_fits(gateway: Gateway, client: httpx.AsyncClient) -> None:
    """Each record with its place and all that its body says."""
    answer = await client.post("/predict", content=b"image", headers=CLIENT)
    request_id = answer.headers["x-request-id"]
    page = await client.get(
        "/v1/audit", params={"request_id": request_id, "order": "oldest"}, headers=AUDITOR
    )
    assert (200, "application/json") == (page.status_code, page.headers["content-type"])
    bodies = gateway.records()
    assert page.json() == {
        "records": [
            {"origin": "gateway", "position": 0, **bodies[0]},
            {"origin": "gateway", "position": 1, **bodies[1]},
        ],
        "next": None,
    }


async def test_reading_is_on_record_with_what_was_asked_and_found(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    """By whom, too; and the answer names that record."""
    await client.post("/predict", content=b"image", headers=CLIENT)
    page = await client.get("/v1/audit?subject=camera-7&limit=1&since=1h", headers=AUDITOR)
    record = last(gateway)
    assert ("audit.read", "answered", "camera-7") == (
        record["action"], record["outcome"], record["subject"],
    )  # fmt: skip
    assert "subject=camera-7 since=1h limit=1" == record["detail"]
    assert 1 == record["result_count"]
    assert page.headers["x-request-id"] == record["request_id"]
    assert ("gateway", "2") == (page.headers["x-audit-log"], page.headers["x-audit-index"])


async def test_nothing_is_shown_that_is_not_on_record(
    gateway: Gateway, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger that takes no record is not read."""

    async def fail(_event: object) -> int:
        raise AuditUnavailableError(Code.AUDIT_UNAVAILABLE, "m")

    monkeypatch.setattr(gateway.audit, "append", fail)
    for path in ("/v1/audit", "/v1/audit/checkpoint"):
        answer = await client.get(path, headers=AUDITOR)
        assert (503, "audit_unavailable") == (answer.status_code, answer.json()["code"])


@pytest.mark.parametrize("role", ["client", "analyst", "operator", "metrics", "auditor:belt"])
async def test_nobody_else_reads_the_ledger(
    gateway: Gateway, client: httpx.AsyncClient, role: str
) -> None:
    """Refused, and on record; an auditor of one model cannot read of all."""
    answer = await client.get("/v1/audit", headers=bearer(role))
    assert (403, "authz_denied") == (answer.status_code, answer.json()["code"])
    (record,) = gateway.records()
    assert ("audit.read", "refused", "authz_denied") == (
        record["action"], record["outcome"], record["code"],
    )  # fmt: skip


async def test_strangers_learn_nothing(gateway: Gateway, client: httpx.AsyncClient) -> None:
    """Not even whether a parameter is good, and no position."""
    for path in ("/v1/audit?x=1", "/v1/audit/checkpoint?x=1", "/v1/audit/proof/x"):
        answer = await client.get(path)
        assert (401, "authn_missing") == (answer.status_code, answer.json()["code"])
        assert "x-audit-index" not in answer.headers
    assert 3 == len(gateway.records())


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/v1/audit?sbject=a", "parameter sbject: unknown"),
        ("/v1/audit?subject=", "parameter subject: 1 to 256 characters"),
        ("/v1/audit?subject=a&subject=a", "a parameter is given twice"),
        ("/v1/audit?cursor=AAAA", "parameter cursor: "),
        ("/v1/audit?limit=1001", "parameter limit: "),
        ("/v1/audit?since=soon", "parameter since: a time such as "),
        ("/v1/audit/checkpoint?size=1", "parameter 'size': unknown; known is origin"),
        ("/v1/audit/checkpoint?origin=a&origin=a", "a parameter is given twice"),
        ("/v1/audit/checkpoint?origin=a%20b", "parameter 'origin': "),
        ("/v1/audit/proof/0?origin=", "parameter 'origin': "),
        ("/v1/audit/proof/0?index=1", "parameter 'index': unknown"),
        ("/v1/audit/proof/00", "the index must be digits"),
        ("/v1/audit/proof/-1", "the index must be digits"),
        ("/v1/audit/proof/1_0", "the index must be digits"),
        ("/v1/audit/proof/9223372036854775808", "the index must be digits"),
    ],
)
async def test_what_cannot_be_asked_is_refused_and_recorded(
    gateway: Gateway, client: httpx.AsyncClient, path: str, told: str
) -> None:
    """By the name of the parameter and what it takes."""
    answer = await client.get(path, headers=AUDITOR)
    assert (422, "parameter_invalid") == (answer.status_code, answer.json()["code"])
    assert told in answer.json()["detail"]
    assert ("refused", "parameter_invalid") == (last(gateway)["outcome"], last(gateway)["code"])


async def test_pages_go_on_while_the_ledger_grows(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    """Each page is itself a record, and comes into none."""
    store_events(gateway.engine, [event(n) for n in range(5)])
    positions: list[int] = []
    cursor: dict[str, str] = {}
    details: list[str] = []
    while True:
        answer = await client.get("/v1/audit", params={"limit": "2", **cursor}, headers=AUDITOR)
        page = answer.json()
        positions += [record["position"] for record in page["records"]]
        details.append(last(gateway)["detail"])
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert [4, 3, 2, 1, 0] == positions
    assert ["limit=2", "limit=2 continued=yes", "limit=2 continued=yes"] == details
    other = await client.get("/v1/audit", params={"subject": "a", **cursor}, headers=AUDITOR)
    assert 422 == other.status_code


async def test_a_changed_record_is_told_and_recorded(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    """Where to look is for the auditor, why is for the ledger."""
    store_events(gateway.engine, [event(n, **OWN) for n in range(3)])
    with gateway.engine.begin() as connection:
        at = audit_records.c.position == 1
        connection.execute(update(audit_records).where(at).values(subject="camera-8"))
    for path in ("/v1/audit", "/v1/audit/proof/1"):
        answer = await client.get(path, headers=AUDITOR)
        assert (500, "ledger_broken") == (answer.status_code, answer.json()["code"])
        assert "record 1 of gateway was changed" in answer.json()["detail"]
        assert ("failed", "ledger_broken") == (last(gateway)["outcome"], last(gateway)["code"])


async def test_too_many_searches_are_refused(
    gateway: Gateway, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two at a time and few that wait: auditors do not take what calls need."""
    running, most = 0, 0
    may_end = asyncio.Event()
    loop = asyncio.get_running_loop()

    def read(_connection: object, _query: LedgerQuery, **_rest: object) -> Page:
        nonlocal running, most
        running += 1
        most = max(most, running)
        asyncio.run_coroutine_threadsafe(may_end.wait(), loop).result(30)
        running -= 1
        return Page((), None)

    monkeypatch.setattr(reader_module, "read_page", read)
    asked = [asyncio.create_task(client.get("/v1/audit", headers=AUDITOR)) for _ in range(9)]
    refused, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    (answer,) = [task.result() for task in refused]
    assert (503, "overloaded", "4") == (
        answer.status_code, answer.json()["code"], answer.headers["retry-after"],
    )  # fmt: skip
    may_end.set()
    assert [200] * 8 + [503] == sorted([task.status_code for task in await asyncio.gather(*asked)])
    assert 2 == most


async def test_the_newest_checkpoint_is_a_signed_note(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    """Of this gateway's ledger, or of another in the same database; with its witnesses' signatures."""
    store_events(gateway.engine, [event(n) for n in range(3)])
    store_events(gateway.engine, [event(n) for n in range(2)], "other")
    answer = await client.get("/v1/audit/checkpoint?origin=other", headers=CLIENT)
    assert (200, "text/plain; charset=utf-8") == (
        answer.status_code, answer.headers["content-type"],
    )  # fmt: skip
    verifiers = [signer_of("other").verifier]
    signed = open_checkpoint(answer.content, origin="other", verifiers=verifiers)
    assert 2 == signed.checkpoint.size
    line = WITNESS.cosign(checkpoint_text(signed.checkpoint), time_seconds=TIME_SECONDS)
    with gateway.engine.begin() as connection:
        note = add_signature(answer.content, line).decode()
        store_cosigned(connection, StoredCheckpoint("other", 2, note))
    answer = await client.get("/v1/audit/checkpoint?origin=other", headers=CLIENT)
    assert note == answer.text
    assert ("audit.prove", "origin=other") == (last(gateway)["action"], last(gateway)["detail"])
    answer = await client.get("/v1/audit/checkpoint", headers=CLIENT)
    assert answer.text.startswith("gateway\n")


async def test_a_ledger_that_is_not_there_has_no_checkpoint(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    """The refusal is on record."""
    answer = await client.get("/v1/audit/checkpoint?origin=other", headers=CLIENT)
    assert (404, "record_unknown") == (answer.status_code, answer.json()["code"])
    assert "no such ledger" == last(gateway)["reason"]


async def test_a_caller_proves_its_call_by_the_public_key_alone(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    """The answer says where its record stands; the proof says what was asked, and what came out."""
    answer = await client.post("/predict", content=b"image", headers=CLIENT)
    assert ("gateway", "1") == (answer.headers["x-audit-log"], answer.headers["x-audit-index"])
    response = await client.get("/v1/audit/proof/1", headers=CLIENT)
    assert (200, "text/plain; charset=utf-8") == (
        response.status_code, response.headers["content-type"],
    )  # fmt: skip
    proved = check_proof(response.content, log=KEY)
    assert gateway.records()[1] == proved.members
    assert answer.headers["x-request-id"] == proved.members["request_id"]
    record = last(gateway)
    assert ("audit.prove", "answered", "origin=gateway index=1") == (
        record["action"], record["outcome"], record["detail"],
    )  # fmt: skip


async def test_the_record_before_the_answer_is_proved_too(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    """It is as much the caller's own; and a role for one model is enough."""
    await client.post("/predict", content=b"image", headers=bearer("client:belt"))
    response = await client.get("/v1/audit/proof/0", headers=bearer("client:belt"))
    assert "admitted" == check_proof(response.content, log=KEY).members["outcome"]


@pytest.mark.parametrize(
    "members",
    [
        {"subject": "camera-8", "issuer": "issuer"},
        {"subject": "camera-7", "issuer": "other"},
        {**OWN, "outcome": Outcome.REFUSED, "code": Code.AUTHZ_DENIED},
        {**OWN, "outcome": Outcome.FAILED, "code": Code.INTERNAL},
        {},
    ],
)
async def test_what_is_anothers_is_as_if_it_were_not_there(
    gateway: Gateway, client: httpx.AsyncClient, members: dict[str, Any]
) -> None:
    """Another principal's, a refusal with its reason, nobody's: one answer. The ledger knows the difference."""
    store_events(gateway.engine, [event(0, **members)])
    for role in ("client", "operator", "analyst", "auditor:belt"):
        answers = {}
        for index, reason in ((0, "not of the caller"), (10**6, "absent")):
            answer = await client.get(f"/v1/audit/proof/{index}", headers=bearer(role))
            answers[index] = {**answer.json(), "request_id": ""}
            assert (404, "record_unknown") == (answer.status_code, answers[index]["code"])
            assert ("refused", reason) == (last(gateway)["outcome"], last(gateway)["reason"])
        assert answers[0] == answers[10**6]


async def test_an_auditor_proves_any_record(gateway: Gateway, client: httpx.AsyncClient) -> None:
    """A refusal with its reason too."""
    refused = await client.post("/predict", content=b"image", headers=of("eve", "operator"))
    assert 403 == refused.status_code
    index = refused.headers["x-audit-index"]
    assert 404 == (await client.get(f"/v1/audit/proof/{index}", headers=CLIENT)).status_code
    own = await client.get(f"/v1/audit/proof/{index}", headers=of("eve", "operator"))
    assert 404 == own.status_code
    response = await client.get(f"/v1/audit/proof/{index}", headers=AUDITOR)
    proved = check_proof(response.content, log=KEY)
    assert ("eve", "not_permitted") == (proved.members["subject"], proved.members["reason"])


async def test_a_record_of_another_ledger_waits_for_its_checkpoint(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    """Only its own gateway signs it; the caller comes back."""
    store_events(gateway.engine, [event(0, **OWN)], "other", is_signed=False)
    path = "/v1/audit/proof/0?origin=other"
    answer = await client.get(path, headers=CLIENT)
    assert (503, "not_ready", "5") == (
        answer.status_code, answer.json()["code"], answer.headers["retry-after"],
    )  # fmt: skip
    store_events(gateway.engine, [event(1)], "other")
    answer = await client.get(path, headers=CLIENT)
    assert 200 == answer.status_code
    assert "other" == check_proof(answer.content, log=signer_of("other").verifier).origin


async def test_a_proof_that_cannot_be_made_is_told_and_recorded(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    """Nothing leaves that does not verify; why is for the ledger."""
    await client.get("/v1/model", headers=CLIENT)
    assert 200 == (await client.get("/v1/audit/proof/0", headers=CLIENT)).status_code
    with gateway.engine.begin() as connection:
        connection.execute(update(audit_checkpoints).values(note="nonsense"))
    answer = await client.get("/v1/audit/proof/0", headers=CLIENT)
    assert (500, "ledger_broken") == (answer.status_code, answer.json()["code"])
    assert "no proof: " in last(gateway)["reason"]
    assert "no proof: " not in answer.text


async def test_a_database_that_fails_is_told(gateway: Gateway, client: httpx.AsyncClient) -> None:
    """As audit_unavailable, with when to come back."""
    with gateway.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE audit_checkpoints RENAME TO gone")
    answer = await client.get("/v1/audit/checkpoint", headers=CLIENT)
    assert (503, "audit_unavailable", "5") == (
        answer.status_code, answer.json()["code"], answer.headers["retry-after"],
    )  # fmt: skip


async def test_answers_name_their_last_record(gateway: Gateway, client: httpx.AsyncClient) -> None:
    """Predictions, what is said of models, changes, and refusals that have a record of their own."""
    answers = [
        await client.post("/predict", content=b"image", headers=CLIENT),
        await client.get("/v1/model", headers=CLIENT),
        await client.post("/predict", content=b"image", headers=bearer("operator")),
        await client.post("/v1/models/belt/rollback", content=b"x", headers=bearer("operator")),
        await client.post("/v1/models/belt/rollback", headers=bearer("operator")),
    ]
    assert [200, 200, 403, 400, 409] == [answer.status_code for answer in answers]
    records = gateway.records()
    for answer in answers:
        assert "gateway" == answer.headers["x-audit-log"]
        record = records[int(answer.headers["x-audit-index"])]
        assert answer.headers["x-request-id"] == record["request_id"]
        assert "admitted" != record["outcome"]


async def test_answers_without_a_record_for_the_caller_name_none(
    gateway: Gateway, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strangers' and health; nor does an answer that could not be recorded name the record before."""
    append = gateway.audit.append

    async def fail_in_the_end(event: Any) -> int:
        if event.outcome is not Outcome.ADMITTED:
            raise AuditUnavailableError(Code.AUDIT_UNAVAILABLE, "m")
        return await append(event)

    answers = [await client.post("/predict", content=b"image"), await client.get("/livez")]
    answers.append(await client.get("/nowhere", headers=CLIENT))
    monkeypatch.setattr(gateway.audit, "append", fail_in_the_end)
    answers.append(await client.post("/predict", content=b"image", headers=CLIENT))
    assert [401, 200, 404, 503] == [answer.status_code for answer in answers]
    for answer in answers:
        assert not {"x-audit-log", "x-audit-index"} & {*answer.headers}
