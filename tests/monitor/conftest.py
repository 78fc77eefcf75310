"""Fixtures of the monitor's tests: a model in production, samples with and without drift."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from gateway.store.database import write_transaction
from gateway.store.queries.audit import load_audit_records
from gateway.store.queries.models import insert_model_version, promote_version
from gateway.store.queries.samples import insert_samples
from gateway.store.records import ModelVersion, Sample, Stage
from monitor.jobs.lease import new_keeper
from monitor.jobs.ledger import OwnLedger
from monitor.jobs.tick import Watch
from monitor.metrics import MonitorMetrics
from monitor.settings import MonitorSettings

START = datetime(2030, 1, 1, tzinfo=UTC)
AddSamples = Callable[..., datetime]


@pytest.fixture
def settings(engine: Engine, tmp_path: Path) -> MonitorSettings:
    """Defaults over the test's database, with a small window so that few samples do; no ledger is begun."""
    url = engine.url.render_as_string(hide_password=False)
    return MonitorSettings(
        database_url=url,
        window_samples=60,
        min_window_samples=30,
        audit_key_file=tmp_path / "monitor-ledger.key",
    )


@pytest.fixture
def begun(settings: MonitorSettings) -> MonitorSettings:
    """The same with the monitor's ledger begun."""
    own_ledger(settings).begin()
    return settings


def new_watch(settings: MonitorSettings, metrics: MonitorMetrics | None = None) -> Watch:
    """A watch as one process has it, with a name of its own in the lease."""
    metrics = metrics or MonitorMetrics(CollectorRegistry())
    lease = new_keeper(tick_seconds=settings.tick_seconds)
    return Watch(settings=settings, metrics=metrics, lease=lease)


def own_ledger(settings: MonitorSettings, metrics: MonitorMetrics | None = None) -> OwnLedger:
    """The monitor's ledger as a process opens it."""
    metrics = metrics or MonitorMetrics(CollectorRegistry())
    return OwnLedger(settings=settings, metrics=metrics, clock=lambda: datetime.now(UTC))


@pytest.fixture
def recorded(engine: Engine) -> Callable[[], list[dict[str, Any]]]:
    """The bodies of the monitor's own records but for its beginning, in order."""

    def load() -> list[dict[str, Any]]:
        with engine.connect() as connection:
            records = load_audit_records(connection, "monitor", limit=10_000)
        bodies = [json.loads(record.body) for record in records]
        assert "audit.create" == bodies[0]["action"]
        return bodies[1:]

    return load


@pytest.fixture
def promote(engine: Engine) -> Callable[[str], None]:
    """Registers a version of the model `conveyor` and puts it into production."""

    def promote_conveyor(version: str) -> None:
        with write_transaction(engine) as connection:
            insert_model_version(connection, _version(version))
            promote_version(connection, "conveyor", version, now=datetime.now(UTC))

    return promote_conveyor


@pytest.fixture
def add_samples(engine: Engine) -> AddSamples:
    """Stores samples of `conveyor`, a second apart; drift shifts brightness and sharpness. Gives the newest time.

    fields: of each sample.
    """
    rng = np.random.default_rng(11)
    stored = 0

    def add(
        count: int,
        *,
        version: str = "1",
        drift: float = 0.0,
        source: str | None = None,
        **fields: Any,
    ) -> datetime:
        nonlocal stored
        rows: list[Sample] = []
        for _ in range(count):
            stored += 1
            sample = _sample(stored, version, _features(rng, drift))
            rows.append(replace(sample, source=source, **fields))
        with write_transaction(engine) as connection:
            insert_samples(connection, rows)
        return START + timedelta(seconds=stored)

    return add


def _features(rng: np.random.Generator, drift: float) -> dict[str, float | None]:
    return {
        "brightness": 0.5 + 0.05 * float(rng.normal()) - 0.3 * drift,
        "sharpness": 8.0 + float(rng.normal()) - 4.0 * drift,
        "width": 640.0,
        "mean_confidence": None if rng.random() < 0.2 else 0.8 + 0.05 * float(rng.normal()),
    }


def _sample(number: int, version: str, features: Mapping[str, float | None]) -> Sample:
    return Sample(
        request_id=f"00000000-0000-4000-8000-{number:012}",
        received_at=START + timedelta(seconds=number),
        model_name="conveyor",
        model_version=version,
        principal="https://issuer.test#line-1",
        input_sha256="0" * 64,
        features=dict(features),
        detections=((number % 3, 0.9, 0.0, 0.0, 10.0, 10.0),),
        kept_probability=1.0,
        image_probability=0.0,
    )


def _version(version: str) -> ModelVersion:
    return ModelVersion(
        name="conveyor",
        version=version,
        stage=Stage.CANDIDATE,
        file_name=f"conveyor-{version}.sealed",
        plaintext_sha256="0" * 64,
        class_names=("gear", "bolt", "nut"),
        input_size=(320, 320),
        registered_at=START,
    )
