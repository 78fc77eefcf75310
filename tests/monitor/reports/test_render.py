"""Drawing Evidently's HTML in a process of its own: what it survives, how it ends."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from monitor.drift.scores import score_window
from monitor.ranks import rank_values
from monitor.records import (
    FeatureArray,
    Reference,
    ReportError,
    ReportToolMissingError,
    Window,
)
from monitor.reports.document import ReportContent
from monitor.reports.render import Rendered, _child_environment, _job, render_html
from monitor.summaries import (
    ALL_SAMPLES,
    HOURS_OF_DAY,
    Fit,
    ReferenceSummary,
    SliceSummary,
    Stratum,
)
from monitor.windows.fitting import to_values

NOW = datetime(2030, 1, 1, tzinfo=UTC)
MISSING = -np.inf


def test_awkward_columns_do_not_break_the_report(tmp_path: Path) -> None:
    """Constants, values half missing or missing on one side, an unseen class, huge numbers, one changed width."""
    pytest.importorskip("evidently")
    rng = np.random.default_rng(5)
    half = rng.normal(size=40)
    half[:20] = MISSING
    content = _content(
        {
            "brightness": (rng.normal(size=120), rng.normal(3.0, size=40)),
            "constant": (np.full(120, 640.0), np.full(40, 640.0)),
            "changed": (np.full(120, 640.0), np.full(40, 1280.0)),
            "half": (rng.normal(size=120), half),
            "gone": (rng.normal(size=120), np.full(40, MISSING)),
            "never": (np.full(120, MISSING), np.full(40, MISSING)),
            "shorter": (rng.normal(size=60), rng.normal(size=40)),
            "one_left": (rng.normal(size=120), np.array([1.0, *[MISSING] * 39])),
            "class_count_other": (np.zeros(120), rng.poisson(1.0, size=40).astype(np.float64)),
            "huge": (np.full(120, 1e300), rng.normal(size=40) * 1e300),
        }
    )
    rendered = _render(content, tmp_path)
    html = rendered.html_file.read_text(encoding="utf-8")
    assert "<html" in html
    assert rendered.drawn == (
        *("brightness", "constant", "changed", "half", "shorter", "one_left"),
        "class_count_other",
    )


def test_no_name_can_put_a_script_into_the_page(tmp_path: Path) -> None:
    """A feature and a model that are named to end Evidently's own script."""
    pytest.importorskip("evidently")
    hostile = "</script><script>alert(1)</script>"
    numbers = (np.arange(120.0), np.arange(40.0))
    content = _content({"fine": numbers, hostile: numbers})
    content = replace(content, model_name=hostile, model_version=f'"{hostile}')
    rendered = _render(content, tmp_path)
    html = rendered.html_file.read_text(encoding="utf-8")
    assert "alert(1)</script>" not in html
    assert rendered.drawn == ("fine",)


def test_what_evidently_is_told_cannot_end_a_script() -> None:
    """Evidently writes what it is told into a script as it is."""
    content = replace(_small(), model_name="</script>&\"'é")
    metadata = {"model": r"\u003c/script\u003e\u0026\u0022\u0027é", "version": "1"}
    assert _job(content)["metadata"] == metadata


def test_nothing_to_draw_is_said(tmp_path: Path) -> None:
    """No column has numbers on both sides."""
    content = _content({"gone": (np.zeros(120), np.full(40, MISSING))})
    with pytest.raises(ReportError, match="nothing to draw"):
        _render(content, tmp_path)


def test_a_slow_report_is_ended(tmp_path: Path) -> None:
    """The import alone takes longer than this."""
    with pytest.raises(ReportError, match=r"took more than 0\.2 s"):
        _render(_small(), tmp_path, timeout_seconds=0.2)


def test_a_stopping_monitor_does_not_wait_for_its_report(tmp_path: Path) -> None:
    """SIGTERM ends the drawing process too."""
    with pytest.raises(ReportError, match="stopped"):
        _render(_small(), tmp_path, should_stop=lambda: True)


def test_a_failing_process_is_reported_with_its_last_words(tmp_path: Path) -> None:
    """Here an interpreter without its library stands for any failure."""
    with pytest.raises(ReportError, match="drawing the report failed: "):
        _render(_small(), tmp_path, environment={"PYTHONHOME": "/nonexistent"})


def test_without_the_extra_the_message_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reports are optional."""
    monkeypatch.setattr("monitor.reports.render.find_spec", lambda _name: None)
    with pytest.raises(ReportToolMissingError, match=r"pip install 'gatewatch\[reports\]'"):
        _render(_small(), tmp_path)


def test_the_process_learns_no_settings() -> None:
    """A database URL may hold a password; telemetry is off."""
    child = _child_environment(
        {"MONITOR_DATABASE_URL": "secret", "GATEWAY_X": "secret", "HOME": "/h", "PYTHONPATH": "x"}
    )
    assert child.pop("PYTHONPATH") != "x"
    assert child == {"HOME": "/h", "DO_NOT_TRACK": "1"}


def _small() -> ReportContent:
    return _content({"a": (np.arange(120.0), np.arange(40.0))})


def _render(
    content: ReportContent,
    folder: Path,
    *,
    timeout_seconds: float = 120.0,
    environment: dict[str, str] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Rendered:
    return render_html(
        content,
        folder=folder,
        environment=environment or {},
        timeout_seconds=timeout_seconds,
        should_stop=should_stop,
    )


def _summary(before: Window) -> ReferenceSummary:
    ranked = {
        name: rank_values(to_values(values), limit=200) for name, values in before.features.items()
    }
    stratum = Stratum(HOURS_OF_DAY, ranked)
    return ReferenceSummary(
        sample_count=before.sample_count,
        fit=Fit(class_shares={}),
        slices=(SliceSummary(ALL_SAMPLES, (stratum,)),),
    )


def _content(columns: dict[str, tuple[FeatureArray, FeatureArray]]) -> ReportContent:
    before = Window(features={n: c[0] for n, c in columns.items()}, sample_count=120)
    after = Window(features={n: c[1] for n, c in columns.items()}, sample_count=40)
    return ReportContent(
        created_at=NOW,
        model_name="conveyor",
        model_version="1",
        reference=Reference(
            id=1,
            model_name="conveyor",
            model_version="1",
            created_at=NOW,
            source="images/train",
            covers_until=None,
            summary=_summary(before),
        ),
        before=before,
        window=after,
        alpha=0.001,
        scores=score_window(
            _summary(before).slices[0].strata[0].features,
            after,
            features=tuple(columns),
            alpha=0.001,
        ),
        drifted=(),
        diagnosis="",
        alarm=None,
        transitions=(),
    )
