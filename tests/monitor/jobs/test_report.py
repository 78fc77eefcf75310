"""Publishing a report: files first, then the row; nothing half-written is left behind."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, text

from monitor.jobs.judging import Judgement, ReferenceCache, judge, read_watched_models
from monitor.jobs.reference import collect_stored, store_reference
from monitor.jobs.report import is_report_due, publish_report
from monitor.metrics import MonitorMetrics
from monitor.records import NotReadyError, Report, ReportError
from monitor.settings import MonitorSettings
from monitor.tables.queries import find_last_report
from tests.monitor.conftest import new_watch

NOW = datetime(2030, 1, 2, tzinfo=UTC)
STEM = "conveyor-1-20300102T000000000Z"
Promote = Callable[[str], None]
AddSamples = Callable[..., datetime]

pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


@pytest.fixture
def reports_folder(tmp_path: Path) -> Path:
    """Does not exist yet."""
    return tmp_path / "var" / "reports"


@pytest.fixture
def report_settings(settings: MonitorSettings, reports_folder: Path) -> MonitorSettings:
    """The test's settings with a reports folder."""
    return settings.model_copy(update={"reports_folder": reports_folder})


def test_a_report_is_three_files_and_a_row(
    engine: Engine,
    report_settings: MonitorSettings,
    reports_folder: Path,
    promote: Promote,
    add_samples: AddSamples,
) -> None:
    """Evidently's HTML, our JSON twin and the timeline, of a window that drifted."""
    pytest.importorskip("evidently")
    _reference(engine, report_settings, promote, add_samples)
    watch = new_watch(report_settings, MonitorMetrics(CollectorRegistry()))
    for minute in range(2):
        add_samples(60, drift=1.0)
        watch.tick(NOW - timedelta(minutes=2 - minute))
    report = _publish(engine, report_settings)
    assert sorted(path.name for path in reports_folder.iterdir()) == [
        f"{STEM}.html",
        f"{STEM}.json",
        f"{STEM}.svg",
    ]
    html = (reports_folder / report.html_file).read_text(encoding="utf-8")
    assert "brightness" in html
    document = json.loads((reports_folder / report.json_file).read_text(encoding="utf-8"))
    assert document["created_at"] == "2030-01-02T00:00:00+00:00"
    assert document["model"] == {"name": "conveyor", "version": "1"}
    assert set(document["drifted"]) == {"brightness", "sharpness"}
    assert document["alarm"]["state"] == "firing"
    assert [each["after"] for each in document["transitions"]] == ["firing"]
    assert document["features"][0]["is_drifted"] is True
    assert document["not_drawn"] == []
    with engine.connect() as connection:
        assert find_last_report(connection, "conveyor") == report


def test_a_class_name_reaches_no_page_as_markup(
    engine: Engine,
    report_settings: MonitorSettings,
    reports_folder: Path,
    promote: Promote,
    add_samples: AddSamples,
) -> None:
    """It appears in the diagnosis, and there escaped."""
    pytest.importorskip("evidently")
    _reference(engine, report_settings, promote, add_samples)
    add_samples(60, drift=1.0)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE model_versions SET class_names = :names"),
            {"names": json.dumps(["<b>gear", "<b>bolt", "<b>nut"])},
        )
        connection.execute(
            text("UPDATE samples SET detections = '[]' WHERE id > 200"),
        )
    report = _publish(engine, report_settings)
    for path in reports_folder.iterdir():
        assert "<b>" not in path.read_text(encoding="utf-8")
    document = json.loads((reports_folder / report.json_file).read_text(encoding="utf-8"))
    assert "objects of class <b>" in document["diagnosis"]


def test_a_failed_report_leaves_nothing(
    engine: Engine,
    report_settings: MonitorSettings,
    reports_folder: Path,
    promote: Promote,
    add_samples: AddSamples,
) -> None:
    """No file, no private folder, no row."""
    _reference(engine, report_settings, promote, add_samples)
    add_samples(60)
    with pytest.raises(ReportError, match="stopped"):
        _publish(engine, report_settings, should_stop=lambda: True)
    assert list(reports_folder.iterdir()) == []
    with engine.connect() as connection:
        assert find_last_report(connection, "conveyor") is None


def test_a_folder_that_cannot_be_made_is_named(
    engine: Engine,
    report_settings: MonitorSettings,
    reports_folder: Path,
    promote: Promote,
    add_samples: AddSamples,
) -> None:
    """A file stands in its way."""
    _reference(engine, report_settings, promote, add_samples)
    add_samples(60)
    reports_folder.parent.write_text("")
    with pytest.raises(ReportError, match="could not be written to"):
        _publish(engine, report_settings)


def test_without_a_reference_the_message_says_how_to_make_one(
    engine: Engine, report_settings: MonitorSettings, promote: Promote, add_samples: AddSamples
) -> None:
    """Nothing is drawn."""
    promote("1")
    add_samples(60)
    with pytest.raises(NotReadyError, match="monitor reference --from dataset"):
        _publish(engine, report_settings)


def test_with_too_few_samples_the_message_says_how_many(
    engine: Engine, report_settings: MonitorSettings, promote: Promote, add_samples: AddSamples
) -> None:
    """And which setting holds the number."""
    _reference(engine, report_settings, promote, add_samples)
    add_samples(5)
    with pytest.raises(NotReadyError, match=r"5 of 30 samples of .* \(MONITOR_MIN_WINDOW_SAMPLES"):
        _publish(engine, report_settings)


def test_the_first_report_is_due_at_once(engine: Engine) -> None:
    """There is none to wait for."""
    assert is_report_due(engine, "conveyor", every=timedelta(days=365), now=NOW)


def _reference(
    engine: Engine, settings: MonitorSettings, promote: Promote, add_samples: AddSamples
) -> None:
    promote("1")
    now = add_samples(200)
    with engine.connect() as connection:
        (model,) = read_watched_models(connection, settings)
    store_reference(engine, collect_stored(engine, model, newest=200), now=now)


def _judgement(engine: Engine, settings: MonitorSettings) -> Judgement:
    with engine.connect() as connection:
        (model,) = read_watched_models(connection, settings)
        return judge(connection, model, settings=settings, find_reference=ReferenceCache())


def _publish(
    engine: Engine,
    settings: MonitorSettings,
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> Report:
    return publish_report(
        engine,
        _judgement(engine, settings),
        settings=settings,
        environment={},
        now=NOW,
        should_stop=should_stop,
    )
