"""Publishing one report: the files first, then the row that makes them known."""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine

from gateway.store.database import write_transaction
from monitor.alarms import DRIFT_ALARM
from monitor.jobs.judging import Judgement
from monitor.records import DriftResult, NotReadyError, Report, ReportError
from monitor.reports.document import ReportContent, report_document
from monitor.reports.files import report_stem, write_atomically
from monitor.reports.render import render_html
from monitor.reports.timeline import timeline_svg
from monitor.settings import MonitorSettings
from monitor.summaries import ALL_SAMPLES
from monitor.tables.alarm_queries import find_alarm, list_transitions
from monitor.tables.drift_queries import list_drift_results
from monitor.tables.queries import find_last_report, insert_report
from monitor.windows.sides import reference_window

TIMELINE_SPAN = timedelta(days=7)
SHOWN_TRANSITIONS = 50
# Of the reference; its stored form keeps hardly more of each feature.
DRAWN_VALUES = 1000


def publish_report(
    engine: Engine,
    judgement: Judgement,
    *,
    settings: MonitorSettings,
    environment: Mapping[str, str],
    now: datetime,
    should_stop: Callable[[], bool],
) -> Report:
    """Write the HTML, the JSON twin and the timeline of one judgement, and record them.

    Raises NotReadyError if the model cannot be judged yet, ReportError if drawing or writing fails.
    """
    content, history = _read_content(engine, judgement, settings=settings, now=now)
    folder = settings.reports_folder
    stem = report_stem(content.model_name, content.model_version, now)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Inside the reports folder, so that the finished file can be renamed into place.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".report-") as private:
            rendered = render_html(
                content,
                folder=Path(private),
                environment=environment,
                timeout_seconds=settings.report_timeout_seconds,
                should_stop=should_stop,
            )
            rendered.html_file.replace(folder / f"{stem}.html")
        _write_companions(folder, stem, content, history, drawn=rendered.drawn)
    except OSError as exc:
        raise ReportError(f"the report could not be written to {folder}: {exc}") from exc
    report = Report(
        created_at=now,
        model_name=content.model_name,
        model_version=content.model_version,
        reference_id=content.reference.id,
        window_count=content.window.sample_count,
        drifted_features=len(content.drifted),
        html_file=f"{stem}.html",
        json_file=f"{stem}.json",
    )
    # Dying before this commit leaves complete files that no row names; after it the row names complete files.
    with write_transaction(engine) as connection:
        insert_report(connection, report)
    return report


def is_report_due(engine: Engine, model_name: str, *, every: timedelta, now: datetime) -> bool:
    """Whether the last report of a model is that old, or there is none."""
    with engine.connect() as connection:
        last = find_last_report(connection, model_name)
    return last is None or now >= last.created_at + every


def _read_content(
    engine: Engine, judgement: Judgement, *, settings: MonitorSettings, now: datetime
) -> tuple[ReportContent, list[DriftResult]]:
    if judgement.reference is None or not judgement.is_enough:
        raise NotReadyError(why_not_ready(judgement, settings))
    name = judgement.model.name
    with engine.connect() as connection:
        alarm = find_alarm(connection, name, DRIFT_ALARM)
        transitions = list_transitions(connection, name, newest=SHOWN_TRANSITIONS)
        history = list_drift_results(connection, name, after=now - TIMELINE_SPAN)
    content = ReportContent(
        created_at=now,
        model_name=name,
        model_version=judgement.model.version,
        reference=judgement.reference,
        before=reference_window(
            judgement.reference.summary,
            ALL_SAMPLES,
            count=DRAWN_VALUES,
            hours={at.astimezone(UTC).hour for at in judgement.window.received_at},
        ),
        window=judgement.window,
        alpha=settings.alpha,
        scores=judgement.scores,
        drifted=judgement.drifted,
        diagnosis=judgement.diagnosis,
        alarm=alarm,
        transitions=transitions,
    )
    return content, history


def why_not_ready(judgement: Judgement, settings: MonitorSettings) -> str:
    """What is missing before this model can be judged, and how to get it."""
    model = judgement.model
    if judgement.reference is None:
        return (
            f"cannot be judged now: no reference for {model.name} {model.version}: make one with "
            "`monitor reference --from dataset FOLDER` or `monitor reference --from samples`"
        )
    if judgement.unfit:
        return f"cannot be judged now: {judgement.unfit}"
    return (
        f"cannot be judged now: {judgement.judged_samples} of {settings.min_window_samples} "
        f"samples of {model.name} {model.version} (MONITOR_MIN_WINDOW_SAMPLES): send more traffic"
    )


def _write_companions(
    folder: Path,
    stem: str,
    content: ReportContent,
    history: list[DriftResult],
    *,
    drawn: Sequence[str],
) -> None:
    title = f"{content.model_name}: drift score over threshold, last {TIMELINE_SPAN.days} days"
    write_atomically(folder / f"{stem}.svg", timeline_svg(history, title=title))
    document = report_document(
        content,
        not_drawn=[score.feature for score in content.scores if score.feature not in drawn],
        files={"html": f"{stem}.html", "timeline": f"{stem}.svg"},
    )
    # The same JSON, but harmless to whoever pastes it into a page: names of classes are the model maker's.
    text = json.dumps(document, indent=2, ensure_ascii=False).replace("<", "\\u003c")
    write_atomically(folder / f"{stem}.json", text + "\n")
