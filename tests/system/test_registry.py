"""Versions that take turns in running processes: promoted and rolled back under load, followed, tried on a share."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select

from gateway.dev.plan import free_port
from gateway.store.database import open_database
from gateway.store.tables import samples
from tests.system.conftest import Running, started
from tests.system.test_postgres import serving

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[2]
FOLLOW_SECONDS = 30


def test_no_request_fails_while_versions_take_turns() -> None:
    """Under load from 8 connections; every answer names the version that made it, and memory comes back."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "promotion.py"), "--rounds", "3"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr + done.stdout
    figures = json.loads(done.stdout)
    assert (6, 0, 0) == (figures["swaps"], figures["failed"], figures["mislabelled"])
    assert all(count > 0 for count in figures["answers"].values())
    # Six versions were loaded and let go since; each is about 40 MiB with its threads.
    assert figures["rss_mb_after"] < figures["rss_mb_before"] + 80


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Processes of their own, since what is in production changes; conveyor@2 is sealed beside conveyor@1."""
    keep = {"GATEWAY_SAMPLE_IMAGE_RATE": "1.0"}
    with started(tmp_path_factory.mktemp("registry"), keep) as run:
        signer = Path(run.facts["home"]) / "keys" / "signer.key"
        onnx = ROOT / "examples" / "conveyor" / "conveyor.onnx"
        names = ["--name", "conveyor", "--version", "2"]
        gateway(run, "seal", str(onnx), *names, "--signer", str(signer), "--skip-parity")
        yield run


def gateway(run: Running, *command: str) -> str:
    """A command on the same home; its standard output."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway", *command],
        env={**os.environ, **run.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


def until(answer: Callable[[], httpx.Response], is_so: Callable[[httpx.Response], bool]) -> None:
    """Ask until it is so."""
    end = time.monotonic() + FOLLOW_SECONDS
    while not is_so(answer()):
        assert time.monotonic() < end, "the gateway did not follow"
        time.sleep(0.1)


def test_a_running_gateway_follows_what_commands_do(home: Running, frame: bytes) -> None:
    """Promoted and rolled back at the terminal, without a restart; the ledger says when each was loaded."""
    with home.client() as client:

        def label() -> str:
            answer = client.post("/v1/models/conveyor/predict", content=frame)
            assert 200 == answer.status_code
            return answer.headers["x-model-version"]

        assert "conveyor@1" == label()
        gateway(home, "models", "promote", "conveyor", "2")
        until(lambda: client.post("/predict", content=frame), _is_of("conveyor@2"))
        gateway(home, "models", "rollback", "conveyor")
        until(lambda: client.post("/predict", content=frame), _is_of("conveyor@1"))
    shown = json.loads(gateway(home, "models", "show", "conveyor", "--json"))
    assert [("1", "production"), ("2", "retired")] == [
        (version["version"], version["stage"]) for version in shown["versions"]
    ]
    assert None is shown["rollback_to"]
    loads = [r for r in home.records_of('"models.load"') if r["action"] == "models.load"]
    assert [("answered", "1"), ("answered", "2"), ("answered", "1")] == [
        (r["outcome"], r["model_version"]) for r in loads
    ]


def _is_of(label: str) -> Callable[[httpx.Response], bool]:
    return lambda answer: answer.headers["x-model-version"] == label


def test_a_second_gateway_follows_what_the_first_is_told(home: Running, frame: bytes) -> None:
    """Replicas on one database agree within about a second."""
    environment = home.environment | {"GATEWAY_METRICS_PORT": str(free_port())}
    with serving(environment) as port, home.client("operator") as operator, home.client() as client:
        url = f"https://127.0.0.1:{port}/predict"
        promoted = operator.post("/v1/models/conveyor/promote", json={"version": "2"})
        assert 200 == promoted.status_code
        answer = client.post("/predict", content=frame)
        assert "conveyor@2" == answer.headers["x-model-version"]
        until(lambda: client.post(url, content=frame), _is_of("conveyor@2"))
        assert 200 == operator.post("/v1/models/conveyor/rollback").status_code
        until(lambda: client.post(url, content=frame), _is_of("conveyor@1"))


def test_a_canary_answers_and_a_shadow_only_looks(home: Running, frame: bytes) -> None:
    """Answers, records and samples tell them apart; the windows of the version in production see neither."""
    with home.client("operator") as operator, home.client() as client:
        traffic = "/v1/models/conveyor/traffic"
        body = {"version": "2", "mode": "canary", "share": 1.0}
        assert 200 == operator.post(traffic, json=body).status_code
        canary = client.post("/predict", content=frame)
        assert "conveyor@2" == canary.headers["x-model-version"]
        assert "conveyor@2" == canary.json()["metadata"]["model"]
        records = home.records_of(canary.headers["x-request-id"])
        assert ["2", "2"] == [record["model_version"] for record in records]
        assert 200 == operator.post(traffic, json={"version": "2", "mode": "none"}).status_code
        shadow = {"version": "2", "mode": "shadow", "share": 1}
        assert 200 == operator.post(traffic, json=shadow).status_code
        served = client.post("/predict", content=frame)
        assert "conveyor@1" == served.headers["x-model-version"]
        assert 409 == operator.post("/v1/models/conveyor/retire", json={"version": "1"}).status_code
        taken = operator.post("/v1/models/conveyor/retire", json={"version": "2"})
        assert 200 == taken.status_code
    assert {"canary": "2"} == _modes(home, canary)
    assert {"served": "1", "shadow": "2"} == _modes(home, served)


def _modes(home: Running, answer: httpx.Response) -> dict[str, str]:
    """The samples of a request, by mode, once they are written."""
    engine = open_database(home.facts["database_url"])
    of_request = samples.c.request_id == answer.headers["x-request-id"]
    query = select(samples.c.mode, samples.c.model_version).where(of_request)
    end = time.monotonic() + FOLLOW_SECONDS
    with engine.connect() as connection:
        total = select(func.count()).where(of_request)
        expected = 1 if answer.headers["x-model-version"] == "conveyor@2" else 2
        while connection.execute(total).scalar_one() < expected and time.monotonic() < end:
            connection.rollback()
            time.sleep(0.1)
        found = {row.mode: row.model_version for row in connection.execute(query)}
    engine.dispose()
    return found
