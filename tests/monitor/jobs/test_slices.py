"""Cameras and clients on their own: one that changes rings alone, and what a reference no longer knows ends."""

from collections.abc import Callable
from datetime import datetime

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from monitor.jobs.collected import Layout
from monitor.jobs.judging import read_watched_models
from monitor.jobs.reference import collect_stored, store_reference
from monitor.jobs.tick import Ticked
from monitor.metrics import MonitorMetrics
from monitor.settings import MonitorSettings
from monitor.tables.alarm_queries import list_alarms, list_transitions
from monitor.tables.drift_queries import list_drift_results, list_states
from tests.monitor.conftest import new_watch

Promote = Callable[[str], None]
AddSamples = Callable[..., datetime]
LONG_AGO = datetime.fromisoformat("2000-01-01T00:00:00+00:00")

pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


class World:
    """Two cameras of one client, and a watch over them."""

    def __init__(self, engine: Engine, settings: MonitorSettings, add_samples: AddSamples) -> None:
        self.engine = engine
        self.add_samples = add_samples
        self.registry = CollectorRegistry()
        settings = settings.model_copy(update={"thin_seconds": 0.0})
        self.settings = settings
        self.watch = new_watch(settings, MonitorMetrics(self.registry))

    def add(self, count: int, *, drift_of_b: float = 0.0) -> datetime:
        """As many samples of each camera, in turn."""
        now = LONG_AGO
        for _ in range(count // 10):
            self.add_samples(10, source="a")
            now = self.add_samples(10, source="b", drift=drift_of_b)
        return now

    def refer(self, now: datetime, *, max_slices: int) -> None:
        """A reference of everything so far."""
        with self.engine.connect() as connection:
            (model,) = read_watched_models(connection, self.settings)
        layout = Layout(max_slices=max_slices)
        collected = collect_stored(self.engine, model, newest=2000, layout=layout, force=True)
        store_reference(self.engine, collected, now=now)

    def tick(self, now: datetime) -> Ticked:
        """One tick over the one model."""
        (ticked,) = self.watch.tick(now)
        return ticked

    def active(self, slice_text: str) -> float | None:
        """What the gauge of a slice's alarm says; None where it is not shown."""
        labels = {"model": "conveyor", "alarm": "drift", "slice": slice_text}
        return self.registry.get_sample_value("monitor_alarm_active", labels)


@pytest.fixture
def world(
    engine: Engine, settings: MonitorSettings, promote: Promote, add_samples: AddSamples
) -> World:
    """Version 1 in production with a reference that tells both cameras apart."""
    promote("1")
    world = World(engine, settings, add_samples)
    world.refer(world.add(400), max_slices=16)
    return world


def _states(ticked: Ticked) -> dict[str, str]:
    return {alarm.slice: alarm.state.value for alarm in ticked.alarms}


def test_the_camera_that_changed_rings_and_the_other_does_not(world: World) -> None:
    """All samples together may ring, too."""
    assert {"": "clear", "source=a": "clear", "source=b": "clear"} == _states(
        world.tick(world.add(60))
    )
    ticked = world.tick(world.add(60, drift_of_b=1.0))
    states = _states(ticked)
    assert ("clear", "firing") == (states["source=a"], states["source=b"])
    assert (0.0, 1.0) == (world.active("source=a"), world.active("source=b"))
    assert ticked.is_firing
    of_b = next(alarm for alarm in ticked.alarms if alarm.slice == "source=b")
    assert "brightness fell from" in of_b.diagnosis
    with world.engine.connect() as connection:
        results = list_drift_results(connection, "conveyor", after=LONG_AGO, slice_text="source=b")
        quiet = list_drift_results(connection, "conveyor", after=LONG_AGO, slice_text="source=a")
    assert "brightness" in {each.score.feature for each in results}
    assert [] == quiet


def test_each_slice_counts_its_own_samples(world: World) -> None:
    """And all samples count all."""
    world.tick(world.add(60))
    with world.engine.connect() as connection:
        counts = {s.slice: s.judged_samples for s in list_states(connection, "conveyor", "1")}
    assert {"": 120, "source=a": 60, "source=b": 60} == counts


def test_a_slice_that_the_next_reference_does_not_know_ends(world: World) -> None:
    """Its alarm is over, with why, and is no longer shown; its evidence is gone."""
    now = world.add(60, drift_of_b=1.0)
    world.tick(now)
    world.refer(now, max_slices=0)
    assert "resolved" == _states(world.tick(now))["source=b"]
    assert world.active("source=b") is None
    with world.engine.connect() as connection:
        assert [""] == [each.slice for each in list_states(connection, "conveyor", "1")]
        changes = [
            each
            for each in list_transitions(connection, "conveyor", newest=20)
            if each.slice == "source=b"
        ]
    why = "source=b: the reference of conveyor@1 does not tell it apart"
    assert why == changes[-1].diagnosis
    for _ in range(2):
        world.tick(world.add(20))
    with world.engine.connect() as connection:
        again = [a for a in list_alarms(connection) if a.slice == "source=b"]
    assert ["resolved"] == [alarm.state.value for alarm in again]
    assert now == again[0].since


def test_no_more_slices_are_watched_than_the_settings_say(world: World) -> None:
    """Whatever the reference tells apart: each takes its share of the level."""
    settings = world.settings.model_copy(update={"max_slices": 1})
    watch = new_watch(settings)
    (ticked,) = watch.tick(world.add(60))
    assert 2 == len(ticked.alarms)
