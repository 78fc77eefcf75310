"""One tick against both databases: what it stores, what it shows, and that doing it again is harmless."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection, Engine, text

from gateway.store.records import ModelVersion
from gateway.store.tables import metadata
from monitor.jobs.judging import Judgement, judge, read_watched_models
from monitor.jobs.reference import collect_stored, store_reference
from monitor.jobs.tick import Ticked, Watch
from monitor.metrics import MonitorMetrics
from monitor.records import AlarmState, DatabaseUnavailableError, Outcome
from monitor.settings import MonitorSettings
from monitor.tables.alarm_queries import list_alarms, list_transitions
from monitor.tables.drift_queries import list_drift_results

Promote = Callable[[str], None]
AddSamples = Callable[..., datetime]
LONG_AGO = datetime.fromisoformat("2000-01-01T00:00:00+00:00")


class Watched:
    """A watch over the test's database with its metrics at hand."""

    def __init__(self, settings: MonitorSettings) -> None:
        self.registry = CollectorRegistry()
        self.watch = Watch(settings=settings, metrics=MonitorMetrics(self.registry))

    def tick(self, now: datetime) -> Ticked:
        """One tick over the one model."""
        (ticked,) = self.watch.tick(now)
        return ticked

    def value(self, name: str, **labels: str) -> float | None:
        """What the exposition says."""
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
def watched(settings: MonitorSettings) -> Watched:
    """A watch with the test's settings."""
    return Watched(settings)


@pytest.fixture
def reference(
    engine: Engine, settings: MonitorSettings, promote: Promote, add_samples: AddSamples
) -> datetime:
    """Version 1 in production with a reference of 200 samples; the time of its newest."""
    promote("1")
    now = add_samples(200)
    make_reference(engine, settings, now)
    return now


def make_reference(engine: Engine, settings: MonitorSettings, now: datetime) -> None:
    """A reference of the newest stored samples."""
    with engine.connect() as connection:
        (model,) = read_watched_models(connection, settings)
    collected = collect_stored(engine, model, newest=200, force=True)
    store_reference(engine, collected, now=now)


def test_without_a_model_in_production_nothing_is_judged(watched: Watched) -> None:
    """Counted, so that an empty dashboard is explained."""
    assert watched.watch.tick(LONG_AGO) == []
    assert watched.value("monitor_ticks_total", outcome="no_model") == 1.0


def test_a_missing_reference_is_shown_and_raises_nothing(
    watched: Watched, promote: Promote, add_samples: AddSamples
) -> None:
    """The alarm is unknown, the reference has 0 samples."""
    promote("1")
    ticked = watched.tick(add_samples(50, drift=1.0))
    assert ticked.outcome is Outcome.NO_REFERENCE
    assert watched.value("monitor_window_samples", model="conveyor", window="reference") == 0.0
    assert watched.value("monitor_window_samples", model="conveyor", window="current") == 50.0
    assert watched.value("monitor_alarm_unknown", model="conveyor", alarm="drift", slice="") == 1.0
    assert watched.value("monitor_alarm_active", model="conveyor", alarm="drift", slice="") == 0.0


@pytest.mark.usefixtures("reference")
def test_samples_of_the_reference_are_not_judged_by_it(
    watched: Watched, add_samples: AddSamples
) -> None:
    """Compared with itself everything looks normal."""
    assert watched.tick(add_samples(29)).outcome is Outcome.TOO_FEW_SAMPLES
    ticked = watched.tick(add_samples(1))
    assert ticked.judgement is not None
    assert (ticked.outcome, ticked.judgement.window.sample_count) == (Outcome.JUDGED, 30)


@pytest.mark.usefixtures("reference")
def test_drift_raises_the_alarm_and_clean_traffic_clears_it(
    engine: Engine, watched: Watched, add_samples: AddSamples
) -> None:
    """Clean, then dim and blurred, then clean again until the window has refilled."""
    states = [_state(watched.tick(add_samples(20))) for _ in range(6)]
    states += [_state(watched.tick(add_samples(20, drift=1.0))) for _ in range(3)]
    states += [_state(watched.tick(add_samples(20))) for _ in range(6)]
    expected = ["unknown"] * 3 + ["clear"] * 3 + ["clear", "firing", "firing"]
    assert states[:9] == expected
    assert states[9:] == ["firing"] * 4 + ["clear"] * 2
    with engine.connect() as connection:
        transitions = list_transitions(connection, "conveyor", newest=10)
    assert [t.after.value for t in transitions] == ["clear", "firing", "clear"]
    assert transitions[1].diagnosis == "images are darker and blurrier than the reference"
    assert set(transitions[1].features) == {"brightness", "sharpness"}


@pytest.mark.usefixtures("reference")
def test_scores_and_alarm_are_shown(watched: Watched, add_samples: AddSamples) -> None:
    """What Grafana sees of a raised alarm."""
    for _ in range(2):
        now = add_samples(60, drift=1.0)
        watched.tick(now + timedelta(seconds=5))
    labels = {"model": "conveyor", "feature": "brightness"}
    score = watched.value("monitor_drift_score", **labels)
    threshold = watched.value("monitor_drift_threshold", **labels)
    assert score is not None
    assert threshold is not None
    assert score > 0.9 > threshold
    assert watched.value("monitor_alarm_active", model="conveyor", alarm="drift", slice="") == 1.0
    assert watched.value("monitor_alarm_unknown", model="conveyor", alarm="drift", slice="") == 0.0
    assert watched.value("monitor_window_age_seconds", model="conveyor") == 5.0
    assert watched.value("monitor_window_samples", model="conveyor", window="reference") == 200.0
    assert watched.value("monitor_ticks_total", outcome="judged") == 2.0
    assert watched.value("monitor_tick_duration_seconds_count") == 2.0


@pytest.mark.usefixtures("reference")
def test_a_tick_without_new_samples_stores_nothing(
    engine: Engine, watched: Watched, add_samples: AddSamples
) -> None:
    """Not a row more, and the alarm's streak does not grow; the metrics stay."""
    now = add_samples(60, drift=1.0)
    watched.tick(now)
    before = _stored(engine)
    ticked = watched.tick(now + timedelta(minutes=1))
    assert ticked.outcome is Outcome.NO_NEW_SAMPLES
    assert _stored(engine) == before
    assert watched.value("monitor_drift_score", model="conveyor", feature="width") == 0.0


@pytest.mark.usefixtures("reference")
def test_a_restarted_monitor_goes_on_where_it_was(
    watched: Watched, settings: MonitorSettings, add_samples: AddSamples
) -> None:
    """State is in the database: a second process counts the second tick above."""
    watched.tick(add_samples(60, drift=1.0))
    ticked = Watched(settings).tick(add_samples(1, drift=1.0))
    assert _state(ticked) == "firing"


@pytest.mark.usefixtures("reference")
def test_another_version_starts_afresh(
    engine: Engine,
    settings: MonitorSettings,
    watched: Watched,
    promote: Promote,
    add_samples: AddSamples,
) -> None:
    """Its own samples and its own reference; scores of the old one disappear until it has them."""
    for _ in range(2):
        watched.tick(add_samples(60, drift=1.0))
    promote("2")
    now = add_samples(200, version="2", drift=1.0)
    ticked = watched.tick(now)
    assert (ticked.outcome, _state(ticked)) == (Outcome.NO_REFERENCE, "unknown")
    assert watched.value("monitor_drift_score", model="conveyor", feature="width") is None
    make_reference(engine, settings, now)
    states = [_state(watched.tick(add_samples(60, version="2", drift=1.0))) for _ in range(3)]
    assert states == ["unknown", "unknown", "clear"]


@pytest.mark.usefixtures("reference")
def test_a_new_reference_resets_a_raised_alarm(
    engine: Engine, settings: MonitorSettings, watched: Watched, add_samples: AddSamples
) -> None:
    """Its window is empty at first: unknown, with a transition; then it is judged by the new one."""
    watched.tick(add_samples(200, drift=1.0))
    now = add_samples(200, drift=1.0)
    watched.tick(now)
    assert watched.value("monitor_alarm_active", model="conveyor", alarm="drift", slice="") == 1.0
    make_reference(engine, settings, now)
    states = [_state(watched.tick(now)) for _ in range(2)]
    assert states == ["unknown", "unknown"]
    assert watched.value("monitor_alarm_active", model="conveyor", alarm="drift", slice="") == 0.0
    assert watched.value("monitor_alarm_unknown", model="conveyor", alarm="drift", slice="") == 1.0
    since = watched.value(
        "monitor_alarm_since_timestamp_seconds", model="conveyor", alarm="drift", slice=""
    )
    assert since == now.timestamp()
    states = [_state(watched.tick(add_samples(60, drift=1.0))) for _ in range(3)]
    assert states == ["unknown", "unknown", "clear"]
    with engine.connect() as connection:
        transitions = list_transitions(connection, "conveyor", newest=10)
    assert [t.after.value for t in transitions] == ["firing", "unknown", "clear"]
    assert transitions[1].diagnosis == "a new reference is in use"


@pytest.mark.usefixtures("reference")
def test_a_raised_alarm_that_cannot_be_judged_is_unknown_too(
    engine: Engine, watched: Watched, add_samples: AddSamples
) -> None:
    """It stays raised, and both metrics say so."""
    watched.tick(add_samples(60, drift=1.0))
    now = add_samples(60, drift=1.0)
    watched.tick(now)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM samples WHERE id > 210"))
    watched.tick(now)
    assert watched.value("monitor_alarm_active", model="conveyor", alarm="drift", slice="") == 1.0
    assert watched.value("monitor_alarm_unknown", model="conveyor", alarm="drift", slice="") == 1.0


@pytest.mark.usefixtures("reference")
def test_good_news_is_logged_as_information(
    watched: Watched, add_samples: AddSamples, caplog: pytest.LogCaptureFixture
) -> None:
    """An alarm that clears must not page anybody."""
    caplog.set_level("INFO")
    for drift in (1.0, 1.0, 0.0, 0.0, 0.0):
        watched.tick(add_samples(60, drift=drift))
    levels = [r.levelname for r in caplog.records if r.getMessage().startswith("alarm_changed")]
    assert levels == ["WARNING", "INFO"]


@pytest.mark.usefixtures("reference")
def test_old_scores_are_forgotten(
    engine: Engine, watched: Watched, add_samples: AddSamples
) -> None:
    """After keep_results_days; alarms and their history stay."""
    now = add_samples(60)
    watched.tick(now)
    add_samples(1)
    watched.tick(now + timedelta(days=31))
    with engine.connect() as connection:
        times = {r.ticked_at for r in list_drift_results(connection, "conveyor", after=LONG_AGO)}
    assert times == {now + timedelta(days=31)}


@pytest.mark.usefixtures("reference")
def test_a_broken_reference_is_counted_and_others_go_on(
    engine: Engine, watched: Watched, add_samples: AddSamples
) -> None:
    """It must not look like a quiet model."""
    now = add_samples(60)
    with engine.begin() as connection:
        connection.execute(text("UPDATE drift_references SET content = '{}'"))
    assert watched.tick(now).outcome is Outcome.ERROR
    assert watched.value("monitor_ticks_total", outcome="error") == 1.0
    assert watched.value("monitor_alarm_unknown", model="conveyor", alarm="drift", slice="") == 1.0


@pytest.mark.usefixtures("reference")
def test_a_row_that_holds_no_sample_is_left_out_and_counted(
    engine: Engine, watched: Watched, add_samples: AddSamples
) -> None:
    """The others are judged."""
    now = add_samples(60)
    with engine.begin() as connection:
        connection.execute(text("UPDATE samples SET features = '[]' WHERE id = 250"))
    ticked = watched.tick(now)
    assert ticked.judgement is not None
    assert (ticked.outcome, ticked.judgement.window.sample_count) == (Outcome.JUDGED, 59)
    assert watched.value("monitor_window_bad_samples", model="conveyor") == 1.0


@pytest.mark.usefixtures("reference")
def test_a_bug_about_one_model_leaves_the_others_watched(
    engine: Engine,
    watched: Watched,
    add_samples: AddSamples,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Counted and logged with its traceback; the model after it is judged."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO model_versions (name, version, stage, file_name, plaintext_sha256, "
                "class_names, input_height, input_width, registered_at) "
                "SELECT 'zebra', version, stage, file_name, plaintext_sha256, class_names, "
                "input_height, input_width, registered_at FROM model_versions"
            )
        )
        earlier = "UPDATE model_versions SET registered_at = '2000-01-01 00:00:00' "
        connection.execute(text(earlier + "WHERE name = 'zebra'"))

    def judge_or_fail(connection: Connection, model: ModelVersion, **options: Any) -> Judgement:
        if model.name == "zebra":
            raise AttributeError("the bug")
        return judge(connection, model, **options)

    monkeypatch.setattr("monitor.jobs.tick.judge", judge_or_fail)
    ticked = watched.watch.tick(add_samples(60))
    assert [(t.model.name, t.outcome.value) for t in ticked] == [
        ("zebra", "error"),
        ("conveyor", "judged"),
    ]
    assert "AttributeError: the bug" in caplog.text


@pytest.mark.usefixtures("reference")
def test_ignored_features_are_not_judged(
    engine: Engine, settings: MonitorSettings, add_samples: AddSamples
) -> None:
    """Neither scored nor shown."""
    ignoring = Watched(settings.model_copy(update={"ignored_features": "brightness, sharpness"}))
    states = [_state(ignoring.tick(add_samples(60, drift=1.0))) for _ in range(3)]
    assert states == ["unknown", "unknown", "clear"]
    assert ignoring.value("monitor_drift_score", model="conveyor", feature="brightness") is None


@pytest.mark.usefixtures("reference")
def test_a_model_taken_out_of_production_is_no_longer_shown(
    engine: Engine, watched: Watched, add_samples: AddSamples
) -> None:
    """A stale score would keep an alert alive."""
    watched.tick(add_samples(60))
    with engine.begin() as connection:
        connection.execute(text("UPDATE model_versions SET stage = 'retired'"))
    assert watched.watch.tick(LONG_AGO) == []
    assert watched.value("monitor_drift_score", model="conveyor", feature="width") is None
    assert watched.value("monitor_alarm_active", model="conveyor", alarm="drift", slice="") is None


def test_a_database_without_tables_is_one_error_with_its_fix(
    engine: Engine, watched: Watched
) -> None:
    """Migrations have not run yet."""
    metadata.drop_all(engine)
    with pytest.raises(DatabaseUnavailableError, match="gateway db upgrade"):
        watched.watch.tick(LONG_AGO)


def _state(ticked: Ticked) -> str:
    assert ticked.alarm is not None
    return ticked.alarm.state.value


def _stored(engine: Engine) -> tuple[object, ...]:
    with engine.connect() as connection:
        return (
            list_alarms(connection),
            list_transitions(connection, "conveyor", newest=100),
            list_drift_results(connection, "conveyor", after=LONG_AGO),
        )


def test_states_have_the_names_that_dashboards_use() -> None:
    """Stored as text; renaming one would orphan rows."""
    assert [state.value for state in AlarmState] == ["unknown", "clear", "firing"]
