"""Two monitors over one database: one acts, the other stands by, and nothing is judged twice."""

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection, Engine, text

from gateway.store.records import ModelVersion
from monitor.jobs.judging import read_watched_models
from monitor.jobs.looking import Look, Looker
from monitor.jobs.reference import collect_stored, store_reference
from monitor.metrics import MonitorMetrics
from monitor.settings import MonitorSettings
from monitor.tables.alarm_queries import list_transitions
from monitor.tables.drift_queries import find_cursor, list_states
from tests.monitor.conftest import new_watch

Promote = Callable[[str], None]
AddSamples = Callable[..., datetime]


class Monitor:
    """A watch with what it shows."""

    def __init__(self, settings: MonitorSettings) -> None:
        self.registry = CollectorRegistry()
        self.watch = new_watch(settings, MonitorMetrics(self.registry))

    @property
    def is_holder(self) -> bool:
        """What the metric says."""
        return self.registry.get_sample_value("monitor_lease_held") == 1.0

    def active(self) -> float | None:
        """What the alarm's gauge says; None where it is not shown."""
        labels = {"model": "conveyor", "alarm": "drift", "slice": ""}
        return self.registry.get_sample_value("monitor_alarm_active", labels)


@pytest.fixture
def now(
    engine: Engine, settings: MonitorSettings, promote: Promote, add_samples: AddSamples
) -> datetime:
    """Version 1 in production with a reference, and 60 samples that drifted."""
    promote("1")
    made_at = add_samples(200)
    with engine.connect() as connection:
        (model,) = read_watched_models(connection, settings)
    store_reference(engine, collect_stored(engine, model, newest=200), now=made_at)
    return add_samples(60, drift=1.0)


def test_one_acts_and_the_other_says_once_that_it_stands_by(
    settings: MonitorSettings, now: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    """Ticks of the other store and show nothing."""
    caplog.set_level("INFO")
    first, second = Monitor(settings), Monitor(settings)
    assert 1 == len(first.watch.tick(now))
    assert [[], []] == [second.watch.tick(now) for _ in range(2)]
    assert (True, False) == (first.is_holder, second.is_holder)
    assert (1.0, None) == (first.active(), second.active())
    assert 1 == caplog.text.count("standing_by: another monitor holds the lease until")
    assert second.watch.standby is not None


def test_a_holder_that_is_gone_is_followed_and_its_evidence_goes_on(
    engine: Engine, settings: MonitorSettings, now: datetime, add_samples: AddSamples
) -> None:
    """The follower does not judge again what was judged, and the first shows no alarm any more once it is back."""
    first, second = Monitor(settings), Monitor(settings)
    first.watch.tick(now)
    assert [] == second.watch.tick(now)
    _expire(engine)
    later = add_samples(10, drift=1.0)
    (ticked,) = second.watch.tick(later)
    assert ticked.look is not None
    assert (10, True) == (ticked.look.judged, second.is_holder)
    assert [] == first.watch.tick(later)
    assert (False, None) == (first.is_holder, first.active())
    with engine.connect() as connection:
        (state,) = list_states(connection, "conveyor", "1")
    assert 70 == state.judged_samples


def test_one_that_slept_between_reading_and_storing_writes_nothing(
    engine: Engine,
    settings: MonitorSettings,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its lease ran out meanwhile, and the other monitor stored the same samples."""
    first, second = Monitor(settings), Monitor(settings)
    real = Looker.look

    def slept(self: Looker, connection: Connection, model: ModelVersion, **options: Any) -> Look:
        look = real(self, connection, model, **options)
        connection.rollback()
        monkeypatch.undo()
        _expire(engine)
        second.watch.tick(now)
        return look

    monkeypatch.setattr(Looker, "look", slept)
    assert [] == first.watch.tick(now)
    assert "lease_lost: another monitor took the lease" in caplog.text
    assert (False, True) == (first.is_holder, second.is_holder)
    with engine.connect() as connection:
        (state,) = list_states(connection, "conveyor", "1")
        changes = list_transitions(connection, "conveyor", newest=10)
    assert 60 == state.judged_samples
    assert ["firing"] == [each.after.value for each in changes]


def test_both_at_once_for_a_while_judge_each_sample_once(
    engine: Engine, settings: MonitorSettings, add_samples: AddSamples, now: datetime
) -> None:
    """Whoever has the lease in each moment, and though it runs out again and again."""
    settings = settings.model_copy(update={"max_tick_samples": 20})
    add_samples(100)
    judged: list[int] = []
    failures: list[BaseException] = []

    def work(monitor: Monitor) -> None:
        try:
            for number in range(300):
                looks = [ticked.look for ticked in monitor.watch.tick(now)]
                judged.extend(look.judged for look in looks if look is not None)
                if number % 3 == 0:
                    _expire(engine)
                if sum(judged) >= 160:
                    break
        except BaseException as exc:  # noqa: BLE001  (told below)
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(Monitor(settings),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == failures
    with engine.connect() as connection:
        cursor = find_cursor(connection, "conveyor", "1")
        (state,) = list_states(connection, "conveyor", "1")
    assert cursor is not None
    assert 160 == cursor.judged_samples == state.judged_samples == sum(judged)


def _expire(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE leases SET expires_at_seconds = 0"))
