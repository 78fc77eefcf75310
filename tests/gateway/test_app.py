"""The composition root, with the demo model and everything real but the socket."""

import asyncio
import hashlib
import json
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from rich.console import Console
from sqlalchemy import Engine, select, update
from starlette.applications import Starlette

from gateway.app import Opened, built
from gateway.audit.details import parse_detail
from gateway.audit.emergency import EmergencyFile, read_outage
from gateway.commands.opening import open_keks, open_trusted_signers, opened_store, utc_now
from gateway.commands.samples import write_image
from gateway.dev.home import gateway_overrides, layout_of, prepare
from gateway.errors import AuditUnavailableError, Code, GatewayError
from gateway.metrics import GatewayMetrics
from gateway.models.changes import promote
from gateway.models.loading import worker_count
from gateway.settings import GatewaySettings, read_settings
from gateway.store.database import write_transaction
from gateway.store.embeddings import unpack_embedding
from gateway.store.queries.audit import load_audit_records
from gateway.store.tables import model_versions, sample_keys, samples
from tests.gateway.sealed_versions import conveyor_facts, seal_version

FRAME = Path(__file__).resolve().parents[2] / "examples" / "conveyor" / "frame.jpg"


@pytest.fixture
def anyio_backend() -> str:
    """The event loop that the gateway runs on."""
    return "asyncio"


def settings_below(home: Path) -> GatewaySettings:
    """Settings that keep everything in one folder and take any metrics port."""
    layout = layout_of(home)
    return read_settings({}, **gateway_overrides(layout), metrics_port=0, workers=1)


@pytest.fixture(scope="module")
def prepared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A development home; copied, never changed."""
    home = tmp_path_factory.mktemp("prepared")
    prepare(layout_of(home), settings_below(home), clock=utc_now, console=Console(quiet=True))
    return home


@pytest.fixture
def home(prepared_home: Path, tmp_path: Path) -> Path:
    """A copy for one test."""
    return Path(shutil.copytree(prepared_home, tmp_path / "home"))


@pytest.fixture
def settings(home: Path) -> GatewaySettings:
    """The settings of home."""
    return settings_below(home)


def opened_of(settings: GatewaySettings, store: Engine) -> Opened:
    """What the serving command opens."""
    return Opened(
        public_url="https://localhost",
        metrics=GatewayMetrics(CollectorRegistry()),
        store=store,
        keks=open_keks(settings),
        trusted_signers=open_trusted_signers(settings),
    )


@asynccontextmanager
async def running(settings: GatewaySettings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the built application, between its start and its stop."""
    with opened_store(settings) as store:
        opened = opened_of(settings, store)
        with built(settings, opened, clock=utc_now) as app:
            async with app.router.lifespan_context(app), _client(app) as client:
                yield client


def _client(app: Starlette) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://localhost")


def bearer(home: Path, role: str = "client") -> dict[str, str]:
    """The header with a role's development token."""
    return {"Authorization": f"Bearer {(home / 'tokens' / f'{role}.jwt').read_text()}"}


def ledger(settings: GatewaySettings) -> list[dict[str, Any]]:
    """The bodies of all audit records."""
    with opened_store(settings) as store, store.connect() as connection:
        records = load_audit_records(connection, "gateway", limit=100)
    return [json.loads(record.body) for record in records]


@pytest.mark.anyio
async def test_an_image_goes_the_whole_way(settings: GatewaySettings, home: Path) -> None:
    """Answered with what the demo model sees, recorded between start and stop, sampled with its features."""
    watched = settings.model_copy(update={"source_header": "X-Camera"})
    async with running(watched) as client:
        assert (await client.get("/readyz")).status_code == 200
        headers = {**bearer(home), "X-Camera": "cam-3"}
        answer = await client.post("/predict", content=FRAME.read_bytes(), headers=headers)
    assert answer.status_code == 200
    assert answer.json()["metadata"]["model"] == "conveyor@1"
    assert answer.json()["images"][0]["results"]
    assert [(r["action"], r["outcome"]) for r in ledger(settings)][-4:] == [
        ("gateway.start", "answered"),
        ("predict", "admitted"),
        ("predict", "answered"),
        ("gateway.stop", "answered"),
    ]
    with opened_store(settings) as store, store.connect() as connection:
        (sample,) = connection.execute(select(samples)).all()
    assert sample.request_id == answer.headers["x-request-id"]
    assert json.loads(sample.features)["brightness"] > 0
    assert len(json.loads(sample.detections)) == len(answer.json()["images"][0]["results"])
    assert json.loads(sample.features)["candidate_count"] >= len(json.loads(sample.detections))
    assert "cam-3" == sample.source
    assert unpack_embedding(sample.embedding).any()


@pytest.mark.anyio
async def test_a_signed_claim_names_the_camera(settings: GatewaySettings, home: Path) -> None:
    """Whatever the caller's header says."""
    watched = settings.model_copy(update={"source_header": "X-Camera", "source_claim": "sub"})
    async with running(watched) as client:
        headers = {**bearer(home), "X-Camera": "cam-3"}
        await client.post("/predict", content=FRAME.read_bytes(), headers=headers)
    with opened_store(settings) as store, store.connect() as connection:
        (sample,) = connection.execute(select(samples)).all()
    assert ledger(settings)[-2]["subject"] == sample.source


@pytest.mark.anyio
async def test_a_token_without_the_claim_names_no_camera(
    settings: GatewaySettings, home: Path
) -> None:
    """Its header does not take the place of what nobody signed."""
    watched = settings.model_copy(update={"source_header": "X-Camera", "source_claim": "camera"})
    async with running(watched) as client:
        headers = {**bearer(home), "X-Camera": "cam-3"}
        await client.post("/predict", content=FRAME.read_bytes(), headers=headers)
    with opened_store(settings) as store, store.connect() as connection:
        (sample,) = connection.execute(select(samples)).all()
    assert sample.source is None


@pytest.mark.anyio
async def test_a_kept_image_can_be_looked_at_later(
    settings: GatewaySettings, home: Path, tmp_path: Path
) -> None:
    """It is encrypted in the database, and its key is stored before it."""
    keeping = settings.model_copy(update={"sample_image_rate": 1.0})
    async with running(keeping) as client:
        answer = await client.post("/predict", content=FRAME.read_bytes(), headers=bearer(home))
    write_image(settings, answer.headers["x-request-id"], tmp_path / "seen.jpg")
    assert (tmp_path / "seen.jpg").read_bytes() == FRAME.read_bytes()
    stored = (home / "gatewatch.db").read_bytes()
    assert FRAME.read_bytes()[1000:1064] not in stored


@pytest.mark.anyio
async def test_every_start_has_a_sample_key_of_its_own(settings: GatewaySettings) -> None:
    """No two processes share one."""
    for _ in range(2):
        async with running(settings):
            pass
    with opened_store(settings) as store, store.connect() as connection:
        assert len(connection.execute(select(sample_keys)).all()) == 2


@pytest.mark.anyio
async def test_metrics_are_served_beside_the_calls(settings: GatewaySettings, home: Path) -> None:
    """On a listener of their own, with the model and the calls so far."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    async with running(settings.model_copy(update={"metrics_port": port})) as client:
        await client.post("/predict", content=b"no image", headers=bearer(home))
        async with httpx.AsyncClient() as scraper:
            text = (await scraper.get(f"http://127.0.0.1:{port}/metrics")).text
        assert (await client.get("/metrics")).status_code == 404
    assert "gateway_ready 1.0" in text
    assert (
        'gateway_model_info{engine="openvino",model="conveyor",precision="f32",version="1"} 1.0'
    ) in text
    assert (
        'gateway_requests_total{code="image_unsupported",route="/predict",status="415"} 1.0'
    ) in text


@pytest.mark.anyio
async def test_a_gateway_that_cannot_record_its_start_does_not_open(
    settings: GatewaySettings,
) -> None:
    """The ledger fails closed before the first call."""
    with opened_store(settings) as store:
        opened = opened_of(settings, store)
        with built(settings, opened, clock=utc_now) as app:
            with write_transaction(store) as connection:
                connection.exec_driver_sql("DROP TABLE audit_records")
            with pytest.raises(AuditUnavailableError):
                async with app.router.lifespan_context(app):
                    pytest.fail("it opened")


@pytest.mark.anyio
@pytest.mark.parametrize("becomes", ["nothing", "folder"])
async def test_without_its_database_it_is_not_ready_and_answers_nothing(
    settings: GatewaySettings, home: Path, becomes: str
) -> None:
    """A load balancer then sends nothing here, and whoever calls all the same is not told a result."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(running(settings))
        database, aside = home / "gatewatch.db", home / "aside.db"
        database.rename(aside)
        if becomes == "folder":
            database.mkdir()
        answer = await client.post("/predict", content=FRAME.read_bytes(), headers=bearer(home))
        assert (answer.status_code, answer.json()["code"]) == (503, "audit_unavailable")
        assert (await client.get("/readyz")).status_code == 503
        if becomes == "folder":
            database.rmdir()
        aside.rename(database)


def starting_refused(settings: GatewaySettings) -> GatewayError:
    """The error that ends a start."""
    with opened_store(settings) as store:
        opened = opened_of(settings, store)
        with pytest.raises(GatewayError) as caught, built(settings, opened, clock=utc_now):
            pytest.fail("it was built")
    return caught.value


def test_without_a_production_version_it_does_not_start(settings: GatewaySettings) -> None:
    """The message names both commands that put one there."""
    error = starting_refused(settings.model_copy(update={"model_name": "absent"}))
    assert (error.code, error.message) == (
        Code.MODEL_UNKNOWN,
        "no version of 'absent' is in production: seal one (`gateway seal`) "
        "and promote it (`gateway models promote`)",
    )


def test_a_file_that_is_not_the_registered_one_is_refused(settings: GatewaySettings) -> None:
    """Also if a trusted signer sealed it under the same name and version: it is not what was promoted."""
    with opened_store(settings) as store, write_transaction(store) as connection:
        connection.execute(update(model_versions).values(plaintext_sha256="00" * 32))
    error = starting_refused(settings)
    assert (error.code, error.reason) == (Code.SEALED_MODEL_REFUSED, "digest_not_registered")


def test_a_sealed_file_that_was_changed_is_refused(settings: GatewaySettings) -> None:
    """One bit in the middle."""
    file = settings.models_folder / "conveyor-1.sealed"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert starting_refused(settings).code is Code.SEALED_MODEL_REFUSED
    last = ledger(settings)[-1]
    assert (last["action"], last["outcome"], last["model_name"], last["code"], last["reason"]) == (
        "gateway.start", "failed", "conveyor", "sealed_model_refused", "body_chunk",
    )  # fmt: skip


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_key_set_that_others_may_change_is_refused(settings: GatewaySettings, mode: int) -> None:
    """They would decide whose tokens are believed."""
    settings.jwks_file.chmod(mode)
    assert starting_refused(settings).message == (
        f"GATEWAY_JWKS_FILE: {settings.jwks_file} can be changed by others; chmod it to 0644"
    )


def test_without_a_file_for_outages_it_does_not_start(settings: GatewaySettings) -> None:
    """It could not be made when it is needed."""
    settings.audit_emergency_file.unlink()
    refusal = starting_refused(settings)
    assert refusal.code is Code.LEDGER_BROKEN
    assert "run `gateway audit create`" in refusal.message


@pytest.mark.anyio
async def test_an_outage_that_ended_a_gateway_is_recorded_by_the_next(
    settings: GatewaySettings,
) -> None:
    """Before its start."""
    file = EmergencyFile(settings.audit_emergency_file, clock=utc_now)
    file.note(reason="database or disk is full", refused=3)
    file.close()
    async with running(settings):
        pass
    actions = [record["action"] for record in ledger(settings)]
    assert actions.index("audit.outage") < actions.index("gateway.start")
    assert read_outage(settings.audit_emergency_file) is None


def test_a_refusal_that_cannot_be_recorded_keeps_its_own_cause(settings: GatewaySettings) -> None:
    """Which is what the operator mends."""
    with opened_store(settings) as store, write_transaction(store) as connection:
        connection.exec_driver_sql("DROP TABLE audit_records")
    unknown = settings.model_copy(update={"model_name": "absent"})
    assert starting_refused(unknown).code is Code.MODEL_UNKNOWN


def test_a_sealed_file_that_is_missing_is_named(settings: GatewaySettings) -> None:
    """With its path."""
    (settings.models_folder / "conveyor-1.sealed").unlink()
    error = starting_refused(settings)
    assert error.message.startswith("the sealed file of conveyor@1 cannot be read")
    assert "conveyor-1.sealed" in error.reason


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"keys":[]}', b"x" * 10_000_000])
def test_a_key_set_that_is_missing_or_bad_ends_the_start(
    settings: GatewaySettings, content: bytes | None
) -> None:
    """A gateway that could believe no token does not serve."""
    settings.jwks_file.unlink()
    if content is not None:
        settings.jwks_file.write_bytes(content)
    assert starting_refused(settings).code is Code.SETTINGS_INVALID


@pytest.mark.parametrize(
    "sizes", ["320,abc", "-320", "3.2", "\uff13\uff12\uff10", "0x140", "9" * 5000]
)
def test_image_sizes_that_are_no_numbers_are_refused(settings: GatewaySettings, sizes: str) -> None:
    """By the setting's name."""
    error = starting_refused(settings.model_copy(update={"image_sizes": sizes}))
    assert error.message.startswith("GATEWAY_IMAGE_SIZES: ")


def test_a_taken_metrics_port_is_named_with_its_setting(settings: GatewaySettings) -> None:
    """Whoever starts a second gateway reads what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = starting_refused(settings.model_copy(update={"metrics_port": port}))
    assert f"port {port}" in error.message
    assert "GATEWAY_METRICS_PORT" in error.message


def test_workers_are_what_is_set_or_one_a_core(settings: GatewaySettings) -> None:
    """A container that may use two cores runs two."""
    assert worker_count(settings.model_copy(update={"workers": 5})) == 5
    assert worker_count(settings.model_copy(update={"workers": 0})) >= 1


def seal_another(settings: GatewaySettings, home: Path, name: str, version: str) -> None:
    """The demo model under another name or version."""
    seal_version(settings, *conveyor_facts(name, version), keys=home / "keys")


@pytest.mark.anyio
async def test_an_operator_changes_what_answers_without_a_restart(
    settings: GatewaySettings, home: Path
) -> None:
    """Loaded, committed and swapped in the running process; a rollback goes back."""
    seal_another(settings, home, "conveyor", "2")
    url = "/v1/models/conveyor"
    async with running(settings) as client:
        headers = bearer(home, "operator")
        promoted = await client.post(f"{url}/promote", json={"version": "2"}, headers=headers)
        assert promoted.status_code == 200
        after = await client.post("/predict", content=FRAME.read_bytes(), headers=bearer(home))
        assert after.headers["x-model-version"] == "conveyor@2"
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.post(f"{url}/rollback", headers=headers)).status_code == 200
        back = await client.get("/v1/model", headers=headers)
        assert (back.json()["version"], back.headers["x-model-version"]) == ("1", "conveyor@1")
    with opened_store(settings) as store, store.connect() as connection:
        found = connection.execute(select(samples.c.model_version)).scalars().all()
    assert found == ["2"]


@pytest.mark.anyio
async def test_several_models_answer_under_their_names(
    settings: GatewaySettings, home: Path
) -> None:
    """Each that is in production, soon after the start, which waits for the default alone."""
    seal_another(settings, home, "belt", "7")
    with opened_store(settings) as store:
        promote(store, "belt", "7", clock=utc_now)
    headers, path = bearer(home), "/v1/models/belt/predict"
    async with running(settings.model_copy(update={"model_names": "belt,absent"})) as client:
        answer = await client.post(path, content=FRAME.read_bytes(), headers=headers)
        async with asyncio.timeout(20):
            while answer.status_code != 200:
                assert answer.json()["code"] == "model_unknown"
                await asyncio.sleep(0.05)
                answer = await client.post(path, content=FRAME.read_bytes(), headers=headers)
        default = await client.post("/predict", content=FRAME.read_bytes(), headers=headers)
    assert answer.headers["x-model-version"] == "belt@7"
    assert default.headers["x-model-version"] == "conveyor@1"


@pytest.mark.anyio
async def test_a_start_says_what_was_opened_and_told(settings: GatewaySettings) -> None:
    """Keys, model and configuration are on record before the door opens, the start itself last."""
    before = len(ledger(settings))
    async with running(settings):
        opening = ledger(settings)[before:]
    actions = ["issuer.keys", "keys.use", "models.load", "keys.use", "gateway.start"]
    assert actions == [body["action"] for body in opening]
    details = [parse_detail(body["detail"]) for body in opening]
    (kek,) = open_keks(settings)
    (signer,) = open_trusted_signers(settings)
    assert (settings.issuer,) == details[0]["issuer"]
    assert ((kek.kek_id,), ("open-model",)) == (details[1]["kek"], details[1]["use"])
    assert (signer.signer_id,) == details[2]["signer"]
    assert ((kek.kek_id,), ("wrap-sample-key",)) == (details[3]["kek"], details[3]["use"])
    assert {"configuration", "policy", "version", "ledger", "keks", "signers"} == set(details[4])
    assert details[4] == parse_detail(ledger(settings)[-1]["detail"])


@pytest.mark.anyio
async def test_another_policy_shows_at_the_next_start(
    settings: GatewaySettings, tmp_path: Path
) -> None:
    """Its own record, and another digest of the configuration; the issuer's keys are no news."""
    async with running(settings):
        pass
    policy = tmp_path / "policy.toml"
    policy.write_text("# as before, but written down\n", encoding="utf-8")
    policy.chmod(0o644)
    before = len(ledger(settings))
    async with running(settings.model_copy(update={"policy_file": str(policy)})):
        opening = ledger(settings)[before:]
    digest = hashlib.sha256(policy.read_bytes()).hexdigest()
    assert f"before=none after={digest}" == opening[0]["detail"]
    actions = ["policy.change", "keys.use", "models.load", "keys.use", "gateway.start"]
    assert actions == [body["action"] for body in opening]
    starts = [body["detail"] for body in ledger(settings) if body["action"] == "gateway.start"]
    assert 2 == len({parse_detail(detail)["configuration"] for detail in starts})


@pytest.mark.anyio
async def test_an_older_copy_of_the_database_is_not_served(
    settings: GatewaySettings, home: Path, tmp_path: Path
) -> None:
    """The witness file has the checkpoint of the last stop; nothing is recorded on top of the copy."""
    older = tmp_path / "older"
    shutil.copytree(home, older)
    async with running(settings) as client:
        await client.get("/v1/models", headers=bearer(home))
    written = ledger(settings)
    shutil.copy(settings.audit_witness_file, older / "witness")
    rolled_back = settings_below(older)
    before = ledger(rolled_back)
    error = starting_refused(rolled_back)
    assert Code.LEDGER_BROKEN is error.code
    assert f"it has {len(before)} records, and {len(written)} were signed" in error.message
    assert before == ledger(rolled_back)
