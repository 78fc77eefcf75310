"""What the monitor lacks rings, whatever else is broken; see test_alarms for what rings when."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, text

from gateway.store.database import write_transaction
from monitor.jobs.lacks import LackWatch
from monitor.metrics import MonitorMetrics
from monitor.records import Alarm, AlarmState
from monitor.settings import MonitorSettings
from monitor.tables.alarm_queries import find_alarm, save_alarm
from tests.monitor.conftest import START

pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
ALARM = (
    "INSERT INTO alarms (model_name, name, slice, state, since, model_version, features, diagnosis, harm, details, "
    "armed_samples, quiet_samples) VALUES ('retired', 'drift', '', 'raised', '2020-01-01 00:00:00', '1', '[]', '', "
    "'unknown', '{}', 0, 0)"
)


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("alarms", ALARM),
        ("model_versions", "UPDATE model_versions SET class_names = 'x' WHERE version = '2'"),
    ],
)
def test_a_row_that_cannot_be_read_keeps_nothing_from_ringing(
    engine: Engine,
    settings: MonitorSettings,
    promote: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
    table: str,
    change: str,
) -> None:
    """It is logged once and counted at each look."""
    promote("2")
    promote("1")
    with engine.begin() as connection:
        connection.execute(text(change.replace(":0", r"\:0")))
    registry = CollectorRegistry()
    lacks = LackWatch(settings=settings, metrics=MonitorMetrics(registry))
    for hours in (0, 24):
        lacks.look(engine, START + timedelta(hours=hours))
    assert AlarmState.FIRING is _state(engine, "conveyor")
    assert 1 == caplog.text.count(f"row_unreadable table={table}")
    labels = {"table": table}
    assert 2.0 == registry.get_sample_value("monitor_unreadable_rows_total", labels)


def test_nothing_ends_for_a_version_that_cannot_be_read(
    engine: Engine, settings: MonitorSettings, promote: Callable[[str], None]
) -> None:
    """It may be in production still."""
    promote("1")
    with write_transaction(engine) as connection:
        save_alarm(connection, Alarm("conveyor", "samples", AlarmState.FIRING, START, "1"))
        connection.execute(text("UPDATE model_versions SET stage = 'x'"))
    LackWatch(settings=settings, metrics=MonitorMetrics(CollectorRegistry())).look(engine, START)
    assert AlarmState.FIRING is _state(engine, "conveyor")


def _state(engine: Engine, model: str) -> AlarmState:
    with engine.connect() as connection:
        alarm = find_alarm(connection, model, "samples")
    assert alarm is not None
    return alarm.state
