"""What `monitor status` says of a model that nobody watches, and of an alarm that cannot be judged."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, text

from monitor.jobs.judging import read_watched_models
from monitor.jobs.reference import collect_stored, store_reference
from monitor.jobs.status import describe_status, read_status, status_lines
from monitor.jobs.tick import Watch
from monitor.metrics import MonitorMetrics
from monitor.settings import MonitorSettings

Promote = Callable[[str], None]
AddSamples = Callable[..., datetime]

pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


@pytest.fixture
def watch(
    engine: Engine, settings: MonitorSettings, promote: Promote, add_samples: AddSamples
) -> Watch:
    """Version 1 in production with a reference of 200 samples."""
    promote("1")
    now = add_samples(200)
    with engine.connect() as connection:
        (model,) = read_watched_models(connection, settings)
    store_reference(engine, collect_stored(engine, model, newest=200), now=now)
    return Watch(settings=settings, metrics=MonitorMetrics(CollectorRegistry()))


def test_nobody_watching_is_told(
    engine: Engine, settings: MonitorSettings, watch: Watch, add_samples: AddSamples
) -> None:
    """Only once a sample has waited for three ticks: without new samples a tick leaves no trace."""
    judged_at = add_samples(60)
    watch.tick(judged_at)
    late = judged_at + timedelta(hours=1)
    assert "monitor run" not in _text(engine, settings, late)
    newest = add_samples(1)
    soon = newest + timedelta(seconds=170)
    assert "monitor run" not in _text(engine, settings, soon)
    line = "last tick  2030-01-01 00:04:20 UTC with new samples, newer ones wait: is `monitor run`"
    assert line in _text(engine, settings, late)
    (model,) = describe_status(read_status(engine, settings))["models"]
    assert model["last_tick_at"] == "2030-01-01T00:04:20+00:00"


def test_a_raised_alarm_says_what_it_rang_for(
    engine: Engine, settings: MonitorSettings, watch: Watch, add_samples: AddSamples
) -> None:
    """Beside what drifts now, where that is something else."""
    for _ in range(2):
        watch.tick(add_samples(60, drift=1.0))
    now = add_samples(60, drift=-1.0)
    watch.tick(now)
    rang = "(when it rang: images are darker and blurrier than the reference)"
    assert f"images are brighter and sharper than the reference {rang}" in _text(
        engine, settings, now
    )


def test_why_it_is_unknown_is_said(
    engine: Engine, settings: MonitorSettings, watch: Watch, add_samples: AddSamples
) -> None:
    """Too early to say, then too few samples; broken ones are counted."""
    watch.tick(add_samples(60))
    now = add_samples(1)
    assert "not judged often enough yet" in _text(engine, settings, now)
    for _ in range(3):
        watch.tick(add_samples(1))
    with engine.begin() as connection:
        connection.execute(text("UPDATE samples SET features = '[]' WHERE id > 203"))
    watch.tick(now)
    shown = _text(engine, settings, now)
    assert "too few samples to judge, or no reference" in shown
    assert "more cannot be read" in shown
    assert "cannot be judged now: 0 of 30 samples of conveyor 1" in shown


def _text(engine: Engine, settings: MonitorSettings, now: datetime) -> str:
    return "\n".join(status_lines(read_status(engine, settings), settings=settings, now=now))
