"""The loop of the rules survives what fails, waits when everything is read, and stops at once."""

import threading
from datetime import datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, text

from gateway.store.database import open_database
from gateway.store.tables import metadata
from monitor.jobs import security
from monitor.jobs.security_loop import SecurityLoop
from monitor.metrics import MonitorMetrics
from monitor.settings import MonitorSettings
from tests.monitor.jobs.security_world import add_ledgers
from tests.monitor.security.ledger_events import at, call


class Looped:
    """A loop with a clock that can break and metrics to read."""

    def __init__(self, url: str, *, tick_seconds: float = 3600) -> None:
        self.broken = False
        self.stop = threading.Event()
        self.registry = CollectorRegistry()
        self.loop = SecurityLoop(
            settings=MonitorSettings(database_url=url, tick_seconds=tick_seconds),
            metrics=MonitorMetrics(self.registry),
            clock=self._now,
            stop=self.stop,
        )

    def _now(self) -> datetime:
        if self.broken:
            raise ZeroDivisionError
        return at(10_000)

    def failures(self, outcome: str) -> float | None:
        """How many looks ended so."""
        labels = {"outcome": outcome}
        return self.registry.get_sample_value("monitor_security_failures_total", labels)


def test_a_missing_database_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Counted each time, logged once a cause, and read once it is there."""
    path = tmp_path / "late.db"
    looped = Looped(f"sqlite:///{path}")
    assert looped.loop.step()
    assert looped.loop.step()
    path.touch()
    engine = open_database(f"sqlite:///{path}")
    assert looped.loop.step()
    metadata.create_all(engine)
    add_ledgers(engine, {"gateway": [call(at(0))]})
    assert looped.loop.step()
    engine.dispose()
    assert 3.0 == looped.failures("database_error")
    assert 2 == caplog.text.count("ledgers_not_read outcome=database_error")
    assert 1.0 == looped.registry.get_sample_value("monitor_security_records_total")


def test_a_bug_is_counted_and_does_not_end_the_loop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the traceback."""
    looped = Looped(f"sqlite:///{tmp_path / 'x.db'}")
    looped.broken = True
    assert looped.loop.step()
    assert 1.0 == looped.failures("error")
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_what_is_left_to_read_is_read_at_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the time between looks is; then the loop waits, and stops when it is told."""
    monkeypatch.setattr(security, "BATCH_RECORDS", 10)
    add_ledgers(engine, {"gateway": [call(at(n)) for n in range(95)]})
    looped = Looped(engine.url.render_as_string(hide_password=False))
    # Each look is out of time after its first batch.
    seconds = iter(range(0, 10_000_000, 4000))
    looped.loop._watch._monotonic = lambda: float(next(seconds))
    waiting = threading.Event()

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waiting.set()
            return super().wait(timeout)

    looped.loop._stop = Stop()
    thread = threading.Thread(target=looped.loop.run)
    thread.start()
    assert waiting.wait(timeout=60)
    assert 95.0 == looped.registry.get_sample_value("monitor_security_records_total")
    looped.loop._stop.set()
    thread.join(timeout=60)
    assert not thread.is_alive()


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_database_that_goes_away_and_comes_back_is_read_on(engine: Engine) -> None:
    """From the cursor."""
    add_ledgers(engine, {"gateway": [call(at(0))]})
    looped = Looped(engine.url.render_as_string(hide_password=False))
    assert looped.loop.step()
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE audit_ledgers RENAME TO elsewhere"))
    assert looped.loop.step()
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE elsewhere RENAME TO audit_ledgers"))
    assert looped.loop.step()
    assert 1.0 == looped.failures("database_error")
