"""What `monitor status` says of a model that nobody watches, and of an alarm that cannot be judged."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from gateway.store.database import write_transaction
from monitor.jobs.judging import read_watched_models
from monitor.jobs.lease import DRIFT_LEASE
from monitor.jobs.reference import collect_stored, store_reference
from monitor.jobs.status import describe_status, read_status, status_lines
from monitor.jobs.tick import Watch
from monitor.settings import MonitorSettings
from monitor.tables.alarm_queries import list_alarms
from monitor.tables.lease_queries import find_renewed_at
from tests.monitor.conftest import new_watch

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
    return new_watch(settings)


def test_nobody_watching_is_told(
    engine: Engine, settings: MonitorSettings, watch: Watch, add_samples: AddSamples
) -> None:
    """Once no monitor looked for three ticks, and how many samples wait for one."""
    watch.tick(add_samples(60))
    ticked_at = _ticked_at(engine)
    add_samples(7)
    late, soon = ticked_at + timedelta(hours=1), ticked_at + timedelta(seconds=170)
    assert "is `monitor run` running?" not in _text(engine, settings, soon)
    shown = _text(engine, settings, late)
    assert f"last tick  {ticked_at:%Y-%m-%d %H:%M:%S} UTC: is `monitor run` running?" in shown
    assert "judged     60 samples, 200 passed over (200 covered), 7 wait" in shown
    (model,) = describe_status(read_status(engine, settings))["models"]
    assert ticked_at.isoformat() == model["last_tick_at"]
    assert "2030-01-01T00:04:20+00:00" == model["last_judged_at"]
    assert (60, 200, 7) == (
        model["judged_samples"],
        model["passed_samples"],
        model["waiting_samples"],
    )


def test_before_the_first_tick_the_newest_samples_are_shown(
    engine: Engine, settings: MonitorSettings, watch: Watch, add_samples: AddSamples
) -> None:
    """And that nobody judged them."""
    assert watch.standby is None
    now = add_samples(60, drift=1.0)
    shown = _text(engine, settings, now)
    assert "drift      never judged: is `monitor run` running?" in shown
    assert "window     60 samples, newest 0 s ago" in shown
    assert "brightness" in shown


def test_an_alarm_that_rings_says_what_it_rang_for(
    engine: Engine, settings: MonitorSettings, watch: Watch, add_samples: AddSamples
) -> None:
    """Beside what differs now; with harm, examples and how far the evidence is."""
    now = add_samples(64, drift=1.0)
    watch.tick(now)
    shown = _text(engine, settings, now)
    assert "drift      firing since 2030-01-01 00:04:24 UTC: brightness fell from" in shown
    assert "now        brightness fell from" in shown
    assert "of what ringing needs" in shown
    (model,) = describe_status(read_status(engine, settings))["models"]
    alarm = model["alarm"]
    assert ("firing", "harmless") == (alarm["state"], alarm["harm"])
    assert "memory" not in alarm["details"]
    assert "             changed since 2030-01-01 00:03:21 UTC" in shown.splitlines()
    assert "             harmless: confidence would have shown a large loss in 60 samples" in shown
    assert "             examples: 00000000-0000-4000-8000-" in shown
    assert 3 == len(alarm["details"]["examples"]["after"])
    (evidence,) = model["evidence"]
    assert ("", 64) == (evidence["slice"], evidence["judged_samples"])
    assert 0 > evidence["log10_ratio"]
    brightness = next(s for s in model["scores"] if s["feature"] == "brightness")
    assert -0.9 > brightness["effect"]


def test_why_it_is_unknown_is_said(
    engine: Engine, settings: MonitorSettings, watch: Watch, add_samples: AddSamples
) -> None:
    """Too few samples, then a reference of another preprocessing."""
    watch.tick(now := add_samples(1))
    shown = _text(engine, settings, now)
    assert "drift      unknown since" in shown
    assert "cannot be judged now: 1 of 30 samples of conveyor 1" in shown
    with engine.begin() as connection:
        connection.execute(text("UPDATE model_versions SET input_height = 640"))
    watch.tick(now)
    shown = _text(engine, settings, now)
    assert "cannot be judged now: reference 1 was made by another model or preprocessing" in shown


def test_sources_that_the_reference_does_not_know_are_listed(
    engine: Engine, settings: MonitorSettings, watch: Watch, add_samples: AddSamples
) -> None:
    """With how many samples each has."""
    add_samples(1, source="camera-9")
    now = add_samples(30)
    watch.tick(now)
    line = "sources    that the reference does not tell apart: camera-9 (1)"
    assert line in _text(engine, settings, now)
    (model,) = describe_status(read_status(engine, settings))["models"]
    assert {"camera-9": 1} == model["unknown_sources"]


def test_no_stored_text_steers_a_terminal(
    engine: Engine, settings: MonitorSettings, watch: Watch, add_samples: AddSamples
) -> None:
    """Diagnoses, the words on the reference, sources that somebody wrote into what is remembered."""
    add_samples(60, source="line-7")
    watch.tick(add_samples(60, drift=1))
    bad = "\x1b[2J\n\u202eall is well"
    with write_transaction(engine) as connection:
        for statement in (
            "UPDATE alarms SET diagnosis = :bad, state = 'firing'",
            "UPDATE drift_references SET source = :bad",
            "UPDATE drift_cursors SET memory = replace(memory, 'line-7', :escaped)",
        ):
            values = {"bad": bad, "escaped": json.dumps(bad)[1:-1]}
            used = {name: values[name] for name in values if f":{name}" in statement}
            connection.execute(text(statement), used)
    statuses = read_status(engine, settings)
    shown = status_lines(statuses, settings=settings, now=_ticked_at(engine))
    assert all(line.isprintable() for line in shown)
    assert 3 == sum("\\x1b[2J\\x0a\\u202e" in line for line in shown)


def test_features_that_samples_do_not_have_are_named(
    engine: Engine, settings: MonitorSettings, watch: Watch, add_samples: AddSamples
) -> None:
    """A gateway of another release rings nothing; what a new reference would watch is told, too."""
    watch.tick(now := add_samples(60))
    older = {"brightness": 0.5, "width": 640.0, "mean_confidence": 0.8, "haze": 0.1}
    for _ in range(3):
        watch.tick(now := add_samples(60, features=older | {"brightness": None}))
        watch.tick(now)
    with engine.connect() as connection:
        assert all("sharpness" not in alarm.features for alarm in list_alarms(connection))
    (model,) = describe_status(read_status(engine, settings))["models"]
    assert (["sharpness"], ["haze"]) == (model["lacking_features"], model["unwatched_features"])
    shown = _text(engine, settings, now)
    assert "lacking    sharpness: part of the newest samples do not have them" in shown
    assert "unwatched  a new reference would watch 1 more features: haze" in shown


def test_a_broken_reference_hides_nothing_else(
    engine: Engine, settings: MonitorSettings, watch: Watch, add_samples: AddSamples
) -> None:
    """Model, version, reference, cause and fix are told, and its alarm still."""
    watch.tick(now := add_samples(60, drift=1.0))
    with engine.begin() as connection:
        connection.execute(text("UPDATE drift_references SET content = '{}'"))
    (status,) = read_status(engine, settings)
    assert "conveyor 1, reference 1: a stored reference cannot be read" in status.problem
    shown = _text(engine, settings, now)
    assert "drift      firing" in shown
    assert "make a new one with `monitor reference`" in shown


def _ticked_at(engine: Engine) -> datetime:
    with engine.connect() as connection:
        found = find_renewed_at(connection, DRIFT_LEASE)
    assert found is not None
    return found


def _text(engine: Engine, settings: MonitorSettings, now: datetime) -> str:
    return "\n".join(status_lines(read_status(engine, settings), settings=settings, now=now))
