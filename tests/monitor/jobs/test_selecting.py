"""Making references of stored samples: which are taken, and when they must not be."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from gateway.store.database import write_transaction
from gateway.store.queries.models import find_production_version
from gateway.store.records import ModelVersion, Stage
from monitor.jobs import selecting
from monitor.jobs.collected import Collected, Layout
from monitor.jobs.selecting import MAX_LOOKED_AT, Selection, collect_stored, utc_time
from monitor.records import Alarm, AlarmState, AlarmTransition, InputError, NotReadyError
from monitor.tables.alarm_queries import insert_transition, save_alarm
from monitor.windows.slicing import parse_bands

NOW = datetime(2030, 1, 1, tzinfo=UTC)
Promote = Callable[[str], None]
AddSamples = Callable[..., datetime]

only_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


def test_stored_samples_are_covered_until_the_newest(
    engine: Engine, promote: Promote, add_samples: AddSamples
) -> None:
    """So that they are not compared with themselves."""
    promote("1")
    newest = add_samples(150)
    collected = collect_stored(engine, _production(engine), newest=100)
    assert (100, 100, newest) == (
        collected.summary.sample_count,
        collected.seen,
        collected.covers_until,
    )
    assert NOW + timedelta(seconds=51) == collected.summary.covers_from


def test_a_period_is_taken(engine: Engine, promote: Promote, add_samples: AddSamples) -> None:
    """From its first second up to but not including the last, among many others."""
    promote("1")
    add_samples(1500)
    since, until = NOW + timedelta(seconds=700), NOW + timedelta(seconds=850)
    collected = _of_period(engine, Selection(since=since, until=until))
    assert (150, since) == (collected.summary.sample_count, collected.summary.covers_from)
    assert until - timedelta(seconds=1) == collected.covers_until
    assert "from 2030-01-01 00:11:40 to 2030-01-01 00:14:09 UTC" in collected.source


@only_sqlite
def test_a_period_may_be_open(engine: Engine, promote: Promote, add_samples: AddSamples) -> None:
    """To either side."""
    promote("1")
    newest = add_samples(1500)
    after = _of_period(engine, Selection(since=NOW + timedelta(seconds=1400)))
    assert (101, newest) == (after.summary.sample_count, after.covers_until)
    before = _of_period(engine, Selection(until=NOW + timedelta(seconds=200)))
    assert 199 == before.summary.sample_count


@only_sqlite
def test_of_a_busy_period_some_are_drawn(
    engine: Engine, promote: Promote, add_samples: AddSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From all of it, and of every camera, in a bounded number; ids are read a piece at a time."""
    monkeypatch.setattr(selecting, "_IDS_AT_ONCE", 100)
    promote("1")
    for source in itertools.islice(itertools.cycle("ab"), 1000):
        add_samples(1, source=source)
    seen: list[int] = []
    collected = collect_stored(
        engine,
        _production(engine),
        newest=400,
        selection=Selection(since=NOW),
        on_progress=seen.append,
    )
    assert (400, [400]) == (collected.summary.sample_count, seen)
    assert ["", "source=a", "source=b"] == sorted(s.slice.text for s in collected.summary.slices)


@only_sqlite
def test_rows_that_hold_no_sample_do_not_hide_a_period(
    engine: Engine, promote: Promote, add_samples: AddSamples
) -> None:
    """Where its beginning is looked for, and inside it."""
    promote("1")
    add_samples(1500)
    with engine.begin() as connection:
        connection.execute(text("UPDATE samples SET features = '[' WHERE id % 5 = 0"))
    since, until = NOW + timedelta(seconds=701), NOW + timedelta(seconds=901)
    collected = _of_period(engine, Selection(since=since, until=until))
    assert 160 == collected.summary.sample_count


@only_sqlite
def test_one_camera_or_client_alone(
    engine: Engine, promote: Promote, add_samples: AddSamples
) -> None:
    """The others are not normal, or have a reference of their own."""
    promote("1")
    add_samples(120, source="a")
    add_samples(130, source="b", principal="other")
    model = _production(engine)
    of_a = collect_stored(engine, model, selection=Selection(source="a"))
    assert (120, True) == (of_a.summary.sample_count, " of source a, " in of_a.source)
    of_other = collect_stored(engine, model, selection=Selection(client="other"))
    assert (130, True) == (
        of_other.summary.sample_count,
        " of client d9298a10d1b07358, " in of_other.source,
    )
    with pytest.raises(NotReadyError, match="only 0 samples of conveyor 1 of source c are stored"):
        collect_stored(engine, model, selection=Selection(source="c"))


@only_sqlite
def test_samples_are_thinned_as_a_tick_thins_them(
    engine: Engine, promote: Promote, add_samples: AddSamples
) -> None:
    """By the time between those of a camera, and by how likely they were to be stored; it is told."""
    promote("1")
    add_samples(300, source="a")
    add_samples(200, kept_probability=0.5)
    model = _production(engine)
    selection = Selection(thin_seconds=10.0)
    collected = collect_stored(engine, model, selection=selection)
    assert 200 < collected.summary.sample_count < 230
    soon, over_kept = collected.notes
    assert "that follow another of their camera too soon (MONITOR_THIN_SECONDS)" in soon
    assert "that were likelier to be stored than others" in over_kept
    with pytest.raises(NotReadyError, match=r"of 300 samples .* only 30 are left, .* 270 samples"):
        collect_stored(
            engine,
            model,
            selection=replace(selection, source="a", until=NOW + timedelta(seconds=301)),
        )


def test_too_few_stored_samples_are_refused(
    engine: Engine, promote: Promote, add_samples: AddSamples
) -> None:
    """With how many there are and how many it takes."""
    promote("1")
    add_samples(99)
    with pytest.raises(NotReadyError, match="only 99 samples of conveyor 1 are stored"):
        collect_stored(engine, _production(engine), newest=1000)


@only_sqlite
def test_each_band_of_hours_needs_its_samples(
    engine: Engine, promote: Promote, add_samples: AddSamples
) -> None:
    """All of these are of the first hour of a day."""
    promote("1")
    add_samples(200)
    layout = Layout(bands=parse_bands("06-18,18-06"))
    with pytest.raises(NotReadyError, match="only 0 at 06-18 UTC, 200 at 18-06 UTC"):
        collect_stored(engine, _production(engine), layout=layout)


@pytest.mark.parametrize(
    ("state", "version", "slice_text", "force", "is_refused"),
    [
        ("firing", "1", "", False, True),
        ("acknowledged", "1", "", False, True),
        ("firing", "1", "source=a", False, True),
        ("firing", "1", "", True, False),
        ("firing", "0", "", False, False),
        ("clear", "1", "", False, False),
        ("resolved", "1", "", False, False),
    ],
)
@only_sqlite
def test_drift_is_not_made_normal_unasked(
    engine: Engine,
    promote: Promote,
    add_samples: AddSamples,
    state: str,
    version: str,
    slice_text: str,
    force: bool,
    is_refused: bool,
) -> None:
    """While this version's alarm rings only with force; the period is named either way."""
    promote("1")
    add_samples(100)
    with engine.begin() as connection:
        save_alarm(connection, replace(_alarm(AlarmState(state), version), slice=slice_text))
    model, period = _production(engine), "from 2030-01-01 00:00:01 to 2030-01-01 00:01:40"
    if is_refused:
        with pytest.raises(InputError, match=rf"is {state} since .* {period} .* --force"):
            collect_stored(engine, model, newest=100, force=force)
    else:
        assert period in collect_stored(engine, model, newest=100, force=force).source


@pytest.mark.parametrize("newest", [99, MAX_LOOKED_AT + 1, -1])
def test_impossible_numbers_are_refused(sqlite_engine: Engine, newest: int) -> None:
    """Before anything is read."""
    with pytest.raises(InputError, match="a reference is made of 100 to 20000 samples"):
        collect_stored(sqlite_engine, _model(), newest=newest)


@pytest.mark.parametrize("time", ["2030-01-31T06:00Z", "2030-01-31T07:00+01:00"])
def test_times_have_a_zone(time: str) -> None:
    """And are compared in UTC."""
    assert datetime(2030, 1, 31, 6, tzinfo=UTC) == utc_time(time, option="--since")


@pytest.mark.parametrize(
    ("time", "problem"),
    [
        ("yesterday", "is no time"),
        ("2030-01-31", "has no zone"),
        ("2030-01-31T06:00", "has no zone"),
    ],
)
def test_times_that_could_be_any_are_refused(time: str, problem: str) -> None:
    """With how to write them."""
    with pytest.raises(InputError, match=rf"--since .* {problem}: write 2030-01-31T06:00Z"):
        utc_time(time, option="--since")


def _of_period(engine: Engine, selection: Selection) -> Collected:
    return collect_stored(engine, _production(engine), selection=selection)


def _production(engine: Engine) -> ModelVersion:
    with engine.connect() as connection:
        found = find_production_version(connection, "conveyor")
    assert found is not None
    return found


def _model() -> ModelVersion:
    return ModelVersion(
        name="conveyor",
        version="1",
        stage=Stage.PRODUCTION,
        file_name="x",
        plaintext_sha256="0" * 64,
        class_names=(),
        input_size=(320, 320),
        registered_at=NOW,
    )


def _alarm(state: AlarmState, version: str) -> Alarm:
    return Alarm(
        model_name="conveyor",
        name="drift",
        state=state,
        since=NOW,
        model_version=version,
        diagnosis="images are darker",
    )


def test_what_only_part_of_the_samples_have_is_left_out_and_told(
    engine: Engine, promote: Callable[[str], None], add_samples: Callable[..., datetime]
) -> None:
    """An upgrade was in between; a sample of the future is left out, too."""
    promote("1")
    add_samples(100)
    features = {"brightness": 0.5, "sharpness": 8.0, "width": 640.0, "mean_confidence": None}
    now = add_samples(100, features=features | {"haze": 0.1})
    add_samples(1)
    model = _production(engine)
    collected = collect_stored(engine, model, newest=1000, now=now)
    assert 200 == collected.summary.sample_count
    assert "haze" not in collected.summary.slices[0].strata[0].features
    assert collected.notes[-1].startswith("left out haze: part of the samples do not have them")


@only_sqlite
def test_a_time_when_the_alarm_rang_is_not_made_normal_later(
    engine: Engine, promote: Promote, add_samples: AddSamples
) -> None:
    """Though it is over: before and after it samples are taken, of that time only by force."""
    promote("1")
    add_samples(600)
    model = _production(engine)
    with write_transaction(engine) as connection:
        for seconds, before, after in (
            (200, AlarmState.CLEAR, AlarmState.FIRING),
            (250, AlarmState.FIRING, AlarmState.ACKNOWLEDGED),
            (300, AlarmState.ACKNOWLEDGED, AlarmState.RESOLVED),
        ):
            insert_transition(
                connection,
                AlarmTransition(
                    model_name="conveyor", name="drift", at=NOW + timedelta(seconds=seconds),
                    before=before, after=after, model_version="1", features=(), diagnosis="darker",
                ),
            )  # fmt: skip
    with pytest.raises(InputError, match=r"rang from .* 00:03:20 to .* 00:05:00 UTC.* --since and"):
        collect_stored(engine, model)
    assert 600 == collect_stored(engine, model, force=True).summary.sample_count
    early = Selection(until=NOW + timedelta(seconds=200))
    late = Selection(since=NOW + timedelta(seconds=301))
    assert 199 == _of_period(engine, early).summary.sample_count
    assert 300 == _of_period(engine, late).summary.sample_count


@only_sqlite
def test_a_rare_camera_is_looked_for_further(
    engine: Engine, promote: Promote, add_samples: AddSamples
) -> None:
    """Among the newest there are few of it, which is not all that is stored."""
    promote("1")
    add_samples(120, source="rare")
    add_samples(400)
    model = _production(engine)
    with pytest.raises(
        NotReadyError, match=r"only 0 samples .* are among the newest 300, .*--newest"
    ):
        collect_stored(engine, model, newest=300, selection=Selection(source="rare"))
    found = collect_stored(engine, model, newest=1000, selection=Selection(source="rare"))
    assert 120 == found.summary.sample_count
