"""The loop survives what fails, reports when due, and stops at once."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from gateway.audit.details import parse_detail
from gateway.store.database import open_database, write_transaction
from gateway.store.tables import metadata
from monitor.jobs.judging import read_watched_models
from monitor.jobs.lease import new_keeper
from monitor.jobs.loop import Loop
from monitor.jobs.reference import collect_stored, store_reference
from monitor.metrics import MonitorMetrics
from monitor.records import Report
from monitor.settings import MonitorSettings
from monitor.tables.queries import insert_report
from tests.monitor.conftest import own_ledger

NOW = datetime(2030, 1, 1, tzinfo=UTC)
Promote = Callable[[str], None]
AddSamples = Callable[..., datetime]


class Looped:
    """A loop with a clock to set and metrics to read."""

    def __init__(self, settings: MonitorSettings) -> None:
        self.now = NOW
        self.stop = threading.Event()
        self.registry = CollectorRegistry()
        metrics = MonitorMetrics(self.registry)
        self.loop = Loop(
            settings=settings,
            metrics=metrics,
            environment={},
            clock=lambda: self.now,
            stop=self.stop,
            ledger=own_ledger(settings, metrics),
        )

    def ticks(self, outcome: str) -> float | None:
        """How many ticks ended so."""
        return self.registry.get_sample_value("monitor_ticks_total", {"outcome": outcome})

    def judged(self) -> float | None:
        """How many samples were judged."""
        return self.registry.get_sample_value("monitor_drift_judged_samples_total")

    def reports(self, outcome: str) -> float | None:
        """How many reports ended so."""
        return self.registry.get_sample_value("monitor_reports_total", {"outcome": outcome})


def test_a_missing_database_is_waited_for(tmp_path: Path) -> None:
    """Counted while it is absent; judged once it is there; never created by the monitor."""
    path = tmp_path / "late.db"
    looped = Looped(MonitorSettings(database_url=f"sqlite:///{path}"))
    looped.loop.step()
    assert not path.exists()
    path.touch()
    engine = open_database(f"sqlite:///{path}")
    looped.loop.step()
    metadata.create_all(engine)
    looped.loop.step()
    engine.dispose()
    assert (looped.ticks("database_error"), looped.ticks("no_model")) == (2.0, 1.0)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_locked_database_is_tried_again(
    engine: Engine,
    settings: MonitorSettings,
    promote: Promote,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another process holds the write lock longer than we wait."""
    monkeypatch.setattr("gateway.store.database.BUSY_TIMEOUT_SECONDS", 0.1)
    promote("1")
    looped = Looped(settings)
    with write_transaction(engine):
        looped.loop.step()
    looped.loop.step()
    assert (looped.ticks("database_error"), looped.ticks("no_reference")) == (1.0, 1.0)


def test_a_restarted_database_is_found_again(engine: Engine, settings: MonitorSettings) -> None:
    """No connection is kept from one tick to the next."""
    looped = Looped(settings)
    looped.loop.step()
    engine.dispose()
    looped.loop.step()
    assert looped.ticks("no_model") == 2.0


def test_a_bug_in_a_tick_is_counted_and_does_not_end_the_loop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A clock that fails stands for any bug; the log has the traceback."""
    looped = Looped(MonitorSettings(database_url=f"sqlite:///{tmp_path / 'x.db'}"))
    looped.now = None  # type: ignore[assignment]  # the bug
    (tmp_path / "x.db").touch()
    engine = open_database(f"sqlite:///{tmp_path / 'x.db'}")
    metadata.create_all(engine)
    engine.dispose()
    assert looped.loop.step() == []
    assert looped.ticks("error") == 1.0
    assert "Traceback" in caplog.text


def test_stop_ends_a_waiting_loop_at_once(tmp_path: Path) -> None:
    """With an hour between ticks."""
    settings = MonitorSettings(database_url=f"sqlite:///{tmp_path / 'x.db'}", tick_seconds=3600)
    looped = Looped(settings)
    thread = threading.Thread(target=looped.loop.run)
    thread.start()
    looped.stop.set()
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_a_backlog_is_caught_up_without_waiting(
    engine: Engine, settings: MonitorSettings, promote: Promote, add_samples: AddSamples
) -> None:
    """Tick follows tick while samples are left unread, an hour or not; and it stops at once when asked."""
    _refer(engine, settings, promote, add_samples)
    add_samples(95)
    update = {"tick_seconds": 3600.0, "max_tick_samples": 10, "thin_seconds": 0.0}
    looped = Looped(settings.model_copy(update=update))
    thread = threading.Thread(target=looped.loop.run)
    thread.start()
    deadline = time.monotonic() + 30
    while looped.judged() != 95.0 and time.monotonic() < deadline:
        time.sleep(0.01)
    looped.stop.set()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert 95.0 == looped.judged()


def test_a_stopped_monitor_gives_the_lease_back(engine: Engine, settings: MonitorSettings) -> None:
    """The next one acts at once."""
    looped = Looped(settings.model_copy(update={"tick_seconds": 3600.0}))
    looped.loop.step()
    assert not new_keeper(tick_seconds=1.0).ask(engine).is_held
    looped.stop.set()
    looped.loop.run()
    assert new_keeper(tick_seconds=1.0).ask(engine).is_held


def test_a_standby_makes_no_reports(
    engine: Engine,
    settings: MonitorSettings,
    promote: Promote,
    add_samples: AddSamples,
    tmp_path: Path,
) -> None:
    """The monitor that acts makes them."""
    in_the_way = tmp_path / "reports"
    in_the_way.write_text("")
    looped = _judged(engine, settings, promote, add_samples, in_the_way)
    assert new_keeper(tick_seconds=60.0).ask(engine).is_held
    assert [] == looped.loop.step()
    assert (1.0, 0.0) == (looped.ticks("standby"), looped.reports("failed"))


def test_a_stopped_loop_does_not_tick(tmp_path: Path) -> None:
    """Stopped before it began."""
    looped = Looped(MonitorSettings(database_url=f"sqlite:///{tmp_path / 'x.db'}"))
    looped.stop.set()
    looped.loop.run()
    assert looped.ticks("database_error") == 0.0


def test_a_failed_report_is_counted_and_not_retried_at_once(
    engine: Engine,
    settings: MonitorSettings,
    promote: Promote,
    add_samples: AddSamples,
    tmp_path: Path,
) -> None:
    """A file where the folder should be stands for a full disk; the next try is an hour later."""
    in_the_way = tmp_path / "reports"
    in_the_way.write_text("")
    looped = _judged(engine, settings, promote, add_samples, in_the_way)
    for minutes, failed in ((0, 1.0), (59, 1.0), (61, 2.0)):
        looped.now = NOW + timedelta(minutes=minutes)
        looped.loop.step()
        assert (minutes, looped.reports("failed")) == (minutes, failed)
    assert looped.ticks("error") == 0.0


def test_no_report_is_made_before_it_is_due(
    engine: Engine,
    settings: MonitorSettings,
    promote: Promote,
    add_samples: AddSamples,
    tmp_path: Path,
) -> None:
    """The last one is remembered in the database, so a restart makes no extra one."""
    in_the_way = tmp_path / "reports"
    in_the_way.write_text("")
    looped = _judged(engine, settings, promote, add_samples, in_the_way)
    with engine.begin() as connection:
        insert_report(connection, _report(NOW - timedelta(hours=23)))
    looped.loop.step()
    assert looped.reports("failed") == 0.0
    looped.now = NOW + timedelta(hours=1)
    looped.loop.step()
    assert looped.reports("failed") == 1.0


def _judged(
    engine: Engine,
    settings: MonitorSettings,
    promote: Promote,
    add_samples: AddSamples,
    reports_folder: Path,
) -> Looped:
    _refer(engine, settings, promote, add_samples)
    add_samples(60)
    own_ledger(settings).begin()
    update = {"report_every_hours": 24.0, "reports_folder": reports_folder}
    return Looped(settings.model_copy(update=update))


def _refer(
    engine: Engine, settings: MonitorSettings, promote: Promote, add_samples: AddSamples
) -> None:
    promote("1")
    now = add_samples(200)
    with engine.connect() as connection:
        (model,) = read_watched_models(connection, settings)
    store_reference(engine, collect_stored(engine, model, newest=200), now=now)


def _report(created_at: datetime) -> Report:
    return Report(
        created_at=created_at,
        model_name="conveyor",
        model_version="1",
        reference_id=1,
        window_count=60,
        drifted_features=0,
        html_file="a.html",
        json_file="a.json",
    )


def test_a_report_that_cannot_be_recorded_is_not_made(
    engine: Engine,
    settings: MonitorSettings,
    promote: Promote,
    add_samples: AddSamples,
    tmp_path: Path,
) -> None:
    """Judging goes on, and it is tried again an hour later."""
    looped = _judged(engine, settings, promote, add_samples, tmp_path / "reports")
    settings.audit_key_file.unlink()
    (ticked,) = looped.loop.step()
    assert ticked.alarm is not None
    assert 1.0 == looped.reports("failed")
    assert not (tmp_path / "reports").exists()
    assert 0.0 == looped.ticks("error")


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_start_and_stop_are_on_record(
    begun: MonitorSettings, recorded: Callable[[], list[dict[str, Any]]]
) -> None:
    """With what it was told, and who runs it."""
    looped = Looped(begun.model_copy(update={"tick_seconds": 3600.0}))
    thread = threading.Thread(target=looped.loop.run)
    thread.start()
    while not recorded():
        time.sleep(0.01)
    looped.stop.set()
    thread.join(timeout=10)
    start, stop = recorded()
    assert ("monitor.start", "monitor.stop") == (start["action"], stop["action"])
    assert ("operating-system", "monitor") == (start["issuer"], start["client_id"])
    assert {"configuration", "version", "ledger"} == set(parse_detail(start["detail"]))
