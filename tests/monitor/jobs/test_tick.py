"""One tick against both databases: what it stores, what it shows, and that doing it again is harmless."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection, Engine, text

from gateway.store.database import write_transaction
from gateway.store.records import ModelVersion
from gateway.store.tables import metadata
from monitor.alarms import acknowledge_alarm
from monitor.jobs.judging import read_watched_models
from monitor.jobs.looking import Look, Looker
from monitor.jobs.reference import collect_stored, store_reference
from monitor.jobs.tick import Ticked
from monitor.metrics import MonitorMetrics
from monitor.records import DatabaseUnavailableError, DriftState, Harm, Outcome
from monitor.settings import MonitorSettings
from monitor.tables.alarm_queries import find_alarm, list_alarms, list_transitions, save_alarm
from monitor.tables.drift_queries import find_cursor, list_drift_results, list_states
from tests.monitor.conftest import new_watch

Promote = Callable[[str], None]
AddSamples = Callable[..., datetime]
LONG_AGO = datetime.fromisoformat("2000-01-01T00:00:00+00:00")


class Watched:
    """A watch over the test's database with its metrics at hand."""

    def __init__(self, settings: MonitorSettings) -> None:
        self.registry = CollectorRegistry()
        self.watch = new_watch(settings, MonitorMetrics(self.registry))

    def tick(self, now: datetime) -> Ticked:
        """One tick over the one model."""
        (ticked,) = self.watch.tick(now)
        return ticked

    def value(self, name: str, **labels: str) -> float | None:
        """What the exposition says."""
        return self.registry.get_sample_value(name, labels)

    def alarm(self, name: str, slice_text: str = "") -> float | None:
        """What a gauge of the drift alarm says."""
        return self.value(name, model="conveyor", alarm="drift", slice=slice_text)


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
    assert [] == watched.watch.tick(LONG_AGO)
    assert 1.0 == watched.value("monitor_ticks_total", outcome="no_model")


def test_a_missing_reference_is_shown_and_rings_nothing(
    watched: Watched, promote: Promote, add_samples: AddSamples
) -> None:
    """The alarm is unknown, the reference has 0 samples."""
    promote("1")
    ticked = watched.tick(add_samples(50, drift=1.0))
    assert Outcome.NO_REFERENCE is ticked.outcome
    assert 0.0 == watched.value("monitor_window_samples", model="conveyor", window="reference")
    assert 1.0 == watched.alarm("monitor_alarm_unknown")
    assert 0.0 == watched.alarm("monitor_alarm_active")


@pytest.mark.usefixtures("reference")
def test_a_reference_of_other_preprocessing_judges_nothing(
    engine: Engine, watched: Watched, add_samples: AddSamples
) -> None:
    """Whatever it would find is how the images were read; the reason is told."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE model_versions SET input_height = 640"))
    ticked = watched.tick(add_samples(60, drift=1.0))
    assert (Outcome.UNFIT_REFERENCE, "unknown") == (ticked.outcome, _state(ticked))
    assert ticked.judgement is not None
    assert "another model or preprocessing" in ticked.judgement.unfit
    assert 1.0 == watched.value("monitor_ticks_total", outcome="unfit_reference")


@pytest.mark.usefixtures("reference")
def test_samples_of_the_reference_are_not_judged_by_it(
    watched: Watched, add_samples: AddSamples
) -> None:
    """Compared with itself everything looks normal."""
    first = watched.tick(add_samples(29))
    assert (Outcome.TOO_FEW_SAMPLES, "unknown") == (first.outcome, _state(first))
    ticked = watched.tick(add_samples(1))
    assert ticked.judgement is not None
    assert (Outcome.JUDGED, 30) == (ticked.outcome, ticked.judgement.window.sample_count)
    assert "clear" == _state(ticked)
    assert 30.0 == watched.value("monitor_drift_judged_samples_total")
    assert 200.0 == watched.value("monitor_drift_passed_samples_total", reason="covered")


@pytest.mark.usefixtures("reference")
def test_drift_rings_and_clean_traffic_resolves_it(
    engine: Engine, watched: Watched, add_samples: AddSamples
) -> None:
    """Clean, then dim and blurred, then clean again for as many samples as it takes."""
    states = [_state(watched.tick(add_samples(20))) for _ in range(3)]
    states += [_state(watched.tick(add_samples(20, drift=1.0))) for _ in range(3)]
    assert ["unknown", "clear", "clear", "firing", "firing", "firing"] == states
    states = [_state(watched.tick(add_samples(50))) for _ in range(5)]
    assert ["firing"] * 3 == states[:3]
    assert "resolved" == states[4]
    with engine.connect() as connection:
        transitions = list_transitions(connection, "conveyor", newest=10)
    assert ["clear", "firing", "resolved"] == [t.after.value for t in transitions]
    rang = transitions[1]
    assert "brightness fell from 0.498" in rang.diagnosis
    assert "brightness" == rang.features[0]
    assert Harm.UNKNOWN is rang.harm


@pytest.mark.usefixtures("reference")
def test_what_rang_says_since_when_and_shows_examples(
    engine: Engine, watched: Watched, add_samples: AddSamples
) -> None:
    """About when it changed, with samples from before and after; once it rings these stay."""
    changed_at = add_samples(60)
    watched.tick(changed_at)
    now = add_samples(30, drift=1.0)
    alarm = watched.tick(now).alarm
    assert alarm is not None
    since = datetime.fromisoformat(alarm.details["since"])
    assert timedelta(seconds=20) >= abs(since - changed_at)
    before, after = alarm.details["examples"]["before"], alarm.details["examples"]["after"]
    numbers = [int(request_id[-12:]) for request_id in (*before, *after)]
    assert 3 == len(before) == len(after)
    assert max(numbers[:3]) <= 265
    assert min(numbers[3:]) > 260
    again = watched.tick(add_samples(100, drift=1.0)).alarm
    assert again is not None
    assert (alarm.details["since"], before) == (
        again.details["since"],
        again.details["examples"]["before"],
    )
    assert again.details["examples"]["after"] != after


@pytest.mark.usefixtures("reference")
def test_scores_evidence_and_alarm_are_shown(watched: Watched, add_samples: AddSamples) -> None:
    """What Grafana sees of an alarm that rings."""
    for _ in range(2):
        now = add_samples(60, drift=1.0)
        watched.tick(now + timedelta(seconds=5))
    labels = {"model": "conveyor", "feature": "brightness"}
    score = watched.value("monitor_drift_score", **labels)
    threshold = watched.value("monitor_drift_threshold", **labels)
    effect = watched.value("monitor_drift_effect", **labels)
    assert score is not None
    assert threshold is not None
    assert effect is not None
    assert score > 0.9 > threshold
    assert effect < -0.9
    ratio = watched.value("monitor_drift_evidence_ratio", model="conveyor", slice="")
    assert ratio is not None
    assert ratio >= 0
    assert 1.0 == watched.alarm("monitor_alarm_active")
    assert 0.0 == watched.alarm("monitor_alarm_unknown")
    assert 5.0 == watched.value("monitor_window_age_seconds", model="conveyor")
    assert 200.0 == watched.value("monitor_window_samples", model="conveyor", window="reference")
    assert 60.0 == watched.value("monitor_window_samples", model="conveyor", window="current")
    assert 2.0 == watched.value("monitor_ticks_total", outcome="judged")
    assert 2.0 == watched.value("monitor_tick_duration_seconds_count")
    assert 1.0 == watched.value("monitor_lease_held")
    assert 0.0 == watched.value("monitor_drift_lag_samples", model="conveyor")
    size = watched.value("monitor_drift_state_bytes", model="conveyor")
    assert size is not None
    assert 256_000 > size > 0


@pytest.mark.usefixtures("reference")
def test_a_tick_without_new_samples_stores_nothing(
    engine: Engine, watched: Watched, add_samples: AddSamples
) -> None:
    """Not a row more, and no alarm goes on; the metrics stay."""
    now = add_samples(60, drift=1.0)
    watched.tick(now)
    before = _stored(engine)
    ticked = watched.tick(now + timedelta(minutes=1))
    assert Outcome.NO_NEW_SAMPLES is ticked.outcome
    assert before == _stored(engine)
    assert 0.0 == watched.value("monitor_drift_score", model="conveyor", feature="width")


@pytest.mark.usefixtures("reference")
def test_a_tick_that_dies_before_its_commit_never_was(
    engine: Engine,
    watched: Watched,
    add_samples: AddSamples,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed between reading and the end of its transaction; the next one stores the very same bytes."""
    watched.tick(add_samples(40))
    now = add_samples(60, drift=1.0)
    before = _stored(engine)
    weighed: list[DriftState] = []

    def die(_connection: Connection, states: Iterable[DriftState]) -> None:
        weighed.extend(states)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("monitor.jobs.tick.save_states", die)
        with pytest.raises(KeyboardInterrupt):
            watched.watch.tick(now)
    assert before == _stored(engine)
    watched.tick(now)
    with engine.connect() as connection:
        assert weighed == list_states(connection, "conveyor", "1")


@pytest.mark.usefixtures("reference")
def test_a_restarted_monitor_goes_on_where_it_was(
    watched: Watched, settings: MonitorSettings, add_samples: AddSamples
) -> None:
    """State is in the database: the second process takes over from the first and rings with its evidence."""
    ticked = watched.tick(add_samples(60))
    assert ticked.judgement is not None
    watched.watch.release()
    (again,) = new_watch(settings).tick(add_samples(30, drift=1.0))
    assert "firing" == _state(again)
    assert again.judgement is not None
    assert 90 == again.judgement.judged_samples


@pytest.mark.usefixtures("reference")
def test_no_sample_is_judged_twice_or_left_out(
    engine: Engine, settings: MonitorSettings, add_samples: AddSamples
) -> None:
    """Whatever came between ticks, and in however many of them it was read."""
    watched = Watched(settings.model_copy(update={"max_tick_samples": 25}))
    now = add_samples(90)
    ticks = [watched.tick(now) for _ in range(20)]
    lags = [each.lag for each in ticks]
    last = ticks[-1].judgement
    assert last is not None
    assert 90 == last.judged_samples
    assert 90.0 == watched.value("monitor_drift_judged_samples_total")
    assert sorted(lags, reverse=True) == lags
    assert lags[0] > 0 == lags[-1]
    with engine.connect() as connection:
        (state,) = list_states(connection, "conveyor", "1")
    assert 90 == state.judged_samples


@pytest.mark.usefixtures("reference")
def test_another_version_starts_afresh(
    engine: Engine,
    settings: MonitorSettings,
    watched: Watched,
    promote: Promote,
    add_samples: AddSamples,
) -> None:
    """Its own samples and its own reference; scores of the old one disappear until it has them."""
    watched.tick(add_samples(60, drift=1.0))
    promote("2")
    now = add_samples(200, version="2", drift=1.0)
    ticked = watched.tick(now)
    assert (Outcome.NO_REFERENCE, "unknown") == (ticked.outcome, _state(ticked))
    assert watched.value("monitor_drift_score", model="conveyor", feature="width") is None
    make_reference(engine, settings, now)
    states = [_state(watched.tick(add_samples(20, version="2", drift=1.0))) for _ in range(3)]
    assert ["unknown", "clear", "clear"] == states


@pytest.mark.usefixtures("reference")
def test_a_new_reference_arms_everything_afresh(
    engine: Engine, settings: MonitorSettings, watched: Watched, add_samples: AddSamples
) -> None:
    """Nothing is judged by it at first: unknown, with a transition; then it is judged by the new one."""
    now = add_samples(200, drift=1.0)
    watched.tick(now)
    assert 1.0 == watched.alarm("monitor_alarm_active")
    make_reference(engine, settings, now)
    states = [_state(watched.tick(now)) for _ in range(2)]
    assert ["unknown", "unknown"] == states
    assert 0.0 == watched.alarm("monitor_alarm_active")
    assert 1.0 == watched.alarm("monitor_alarm_unknown")
    assert now.timestamp() == watched.alarm("monitor_alarm_since_timestamp_seconds")
    states = [_state(watched.tick(add_samples(20, drift=1.0))) for _ in range(3)]
    assert ["unknown", "clear", "clear"] == states
    with engine.connect() as connection:
        transitions = list_transitions(connection, "conveyor", newest=10)
    assert ["firing", "unknown", "clear"] == [t.after.value for t in transitions]
    assert "a new reference is in use" == transitions[1].diagnosis


@pytest.mark.usefixtures("reference")
def test_an_alarm_that_was_acknowledged_meanwhile_stays_so(
    engine: Engine, watched: Watched, add_samples: AddSamples
) -> None:
    """Between what a tick reads and what it stores a person took it as known."""
    watched.tick(add_samples(60, drift=1.0))
    with write_transaction(engine) as connection:
        last = find_alarm(connection, "conveyor", "drift")
        assert last is not None
        known, _ = acknowledge_alarm(last, by="ops", why="new lamp", now=LONG_AGO)
        save_alarm(connection, known)
    states = [_state(watched.tick(add_samples(60, drift=1.0))) for _ in range(2)]
    assert ["acknowledged", "acknowledged"] == states
    assert 1.0 == watched.alarm("monitor_alarm_active")


@pytest.mark.usefixtures("reference")
def test_good_news_is_logged_as_information(
    watched: Watched, add_samples: AddSamples, caplog: pytest.LogCaptureFixture
) -> None:
    """An alarm that is resolved must not page anybody."""
    caplog.set_level("INFO")
    for count, drift in ((60, 1.0), (200, 0.0), (200, 0.0)):
        watched.tick(add_samples(count, drift=drift))
    changes = [r for r in caplog.records if r.getMessage().startswith("alarm_changed")]
    assert ["WARNING", "INFO"] == [r.levelname for r in changes]


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
    assert {now + timedelta(days=31)} == times


@pytest.mark.usefixtures("reference")
@pytest.mark.parametrize(
    "broken",
    [
        "UPDATE drift_references SET content = '{}'",
        "UPDATE drift_cursors SET memory = '['",
    ],
)
def test_what_is_broken_is_counted_and_others_go_on(
    engine: Engine, settings: MonitorSettings, add_samples: AddSamples, broken: str
) -> None:
    """It must not look like a quiet model."""
    now = add_samples(60)
    Watched(settings).tick(now)
    with engine.begin() as connection:
        connection.execute(text("UPDATE leases SET expires_at_seconds = 0"))
        connection.execute(text(broken))
    watched = Watched(settings)
    assert Outcome.ERROR is watched.tick(now).outcome
    assert 1.0 == watched.value("monitor_ticks_total", outcome="error")
    assert 1.0 == watched.alarm("monitor_alarm_unknown")


@pytest.mark.usefixtures("reference")
def test_evidence_of_other_bets_begins_anew(
    settings: MonitorSettings, watched: Watched, add_samples: AddSamples
) -> None:
    """An operator ignores another feature: what was weighed on the others says nothing about these."""
    watched.tick(add_samples(60))
    watched.watch.release()
    ignoring = Watched(settings.model_copy(update={"ignored_features": "width"}))
    ticked = ignoring.tick(add_samples(40))
    assert ticked.judgement is not None
    assert 40 == ticked.judgement.judged_samples


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
    assert (Outcome.JUDGED, 59) == (ticked.outcome, ticked.judgement.judged_samples)
    assert 1.0 == watched.value("monitor_drift_passed_samples_total", reason="unreadable")


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
    real = Looker.look

    def look_or_fail(
        self: Looker, connection: Connection, model: ModelVersion, **options: Any
    ) -> Look:
        if model.name == "zebra":
            raise AttributeError("the bug")
        return real(self, connection, model, **options)

    monkeypatch.setattr(Looker, "look", look_or_fail)
    ticked = watched.watch.tick(add_samples(60))
    assert [("zebra", "error"), ("conveyor", "judged")] == [
        (t.model.name, t.outcome.value) for t in ticked
    ]
    assert "AttributeError: the bug" in caplog.text


@pytest.mark.usefixtures("reference")
def test_ignored_features_are_not_judged(
    settings: MonitorSettings, add_samples: AddSamples
) -> None:
    """Neither scored nor shown, and nothing rings for them."""
    ignoring = Watched(settings.model_copy(update={"ignored_features": "brightness, sharpness"}))
    states = [_state(ignoring.tick(add_samples(60, drift=1.0))) for _ in range(3)]
    assert ["clear"] * 3 == states
    assert ignoring.value("monitor_drift_score", model="conveyor", feature="brightness") is None


@pytest.mark.usefixtures("reference")
def test_a_model_taken_out_of_production_is_no_longer_shown(
    engine: Engine, watched: Watched, add_samples: AddSamples
) -> None:
    """A stale score would keep an alert alive."""
    watched.tick(add_samples(60))
    with engine.begin() as connection:
        connection.execute(text("UPDATE model_versions SET stage = 'retired'"))
    assert [] == watched.watch.tick(LONG_AGO)
    assert watched.value("monitor_drift_score", model="conveyor", feature="width") is None
    assert watched.value("monitor_drift_evidence_ratio", model="conveyor", slice="") is None
    assert watched.alarm("monitor_alarm_active") is None


@pytest.mark.usefixtures("reference")
def test_the_alarms_of_a_model_out_of_production_end(
    engine: Engine, watched: Watched, add_samples: AddSamples
) -> None:
    """Once, those of its slices too; or they would ring for ever."""
    watched.tick(add_samples(60, drift=1.0))
    _copy_as_slice(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE model_versions SET stage = 'retired'"))
    for _ in range(2):
        assert [] == watched.watch.tick(LONG_AGO)
    with engine.connect() as connection:
        assert ["resolved"] * 2 == [a.state.value for a in list_alarms(connection)]
        changes = list_transitions(connection, "conveyor", newest=10)
    assert ["firing", "resolved", "resolved"] == [each.after.value for each in changes]
    assert "no longer in production" == changes[-1].diagnosis


@pytest.mark.usefixtures("reference")
def test_the_alarms_of_a_model_that_is_not_watched_any_more_end(
    engine: Engine, settings: MonitorSettings, watched: Watched, add_samples: AddSamples
) -> None:
    """Another model is named; the reason tells it."""
    watched.tick(now := add_samples(60, drift=1.0))
    watched.watch.release()
    assert [] == new_watch(settings.model_copy(update={"model_name": "belt"})).tick(now)
    with engine.connect() as connection:
        (change,) = list_transitions(connection, "conveyor", newest=1)
    assert "resolved" == change.after.value
    assert "no longer watched: MONITOR_MODEL_NAME names another model" == change.diagnosis


@pytest.mark.usefixtures("reference")
def test_the_alarm_of_a_slice_that_is_not_told_apart_any_more_ends(
    engine: Engine, watched: Watched, add_samples: AddSamples
) -> None:
    """As after a new reference without it."""
    watched.tick(add_samples(60, drift=1.0))
    _copy_as_slice(engine)
    watched.tick(add_samples(1, drift=1.0))
    with engine.connect() as connection:
        alarm = find_alarm(connection, "conveyor", "drift", slice="source=cam1")
    assert alarm is not None
    assert "resolved" == alarm.state.value


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


def _copy_as_slice(engine: Engine) -> None:
    """The same alarm of one camera that the reference does not know."""
    with write_transaction(engine) as connection:
        (alarm,) = list_alarms(connection)
        save_alarm(connection, replace(alarm, slice="source=cam1"))


def _stored(engine: Engine) -> tuple[object, ...]:
    with engine.connect() as connection:
        return (
            find_cursor(connection, "conveyor", "1"),
            list_states(connection, "conveyor", "1"),
            list_alarms(connection),
            list_transitions(connection, "conveyor", newest=100),
            list_drift_results(connection, "conveyor", after=LONG_AGO),
        )


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@pytest.mark.usefixtures("reference")
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE model_versions SET class_names = 'x' WHERE name = 'zebra'",
        "UPDATE model_versions SET class_names = CAST(x'ff' AS TEXT) WHERE name = 'zebra'",
        "UPDATE samples SET principal = CAST(x'ff' AS TEXT) "
        "WHERE id = (SELECT max(id) FROM samples)",
        "UPDATE drift_references SET content = CAST(x'ff' AS TEXT) WHERE model_name = 'zebra'",
        "UPDATE drift_states SET evidence = 'x' WHERE slice = 'none of these'",
    ],
)
def test_a_row_that_cannot_be_read_keeps_no_other_model_from_being_judged(
    engine: Engine, watched: Watched, add_samples: AddSamples, change: str
) -> None:
    """SQLite stores any bytes as a text, and fails where it is fetched."""
    with engine.begin() as connection:
        for table in ("model_versions", "drift_references"):
            columns = [c.name for c in metadata.tables[table].columns if c.name != "id"]
            name = "name" if table == "model_versions" else "model_name"
            chosen = ", ".join("'zebra'" if c == name else c for c in columns)
            connection.execute(
                text(f"INSERT INTO {table} ({', '.join(columns)}) SELECT {chosen} FROM {table}")
            )
    now = add_samples(60)
    with engine.begin() as connection:
        connection.execute(text(change))
    ticked = {each.model.name: each for each in watched.watch.tick(now)}
    look = ticked["conveyor"].look
    assert Outcome.JUDGED is ticked["conveyor"].outcome
    assert look is not None
    assert 59 <= look.judged <= 60
