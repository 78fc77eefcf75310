"""What the monitor knows about each watched model, read without changing anything, as JSON values and as text."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine

from monitor.alarms import DRIFT_ALARM
from monitor.jobs.judging import Judgement, ReferenceCache, judge, read_watched_models
from monitor.jobs.report import why_not_ready
from monitor.records import Alarm, FeatureScore, Report
from monitor.reports.document import worst_first
from monitor.settings import MonitorSettings
from monitor.tables.queries import find_alarm, find_last_report

SHOWN_SCORES = 8


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One watched model: what its data say now, what the last tick stored, the last report."""

    judgement: Judgement
    alarm: Alarm | None
    last_report: Report | None


def read_status(engine: Engine, settings: MonitorSettings) -> list[ModelStatus]:
    """The status of every watched model; empty if none is in production."""
    with engine.connect() as connection:
        return [
            ModelStatus(
                judgement=judge(
                    connection, model, settings=settings, find_reference=ReferenceCache()
                ),
                alarm=find_alarm(connection, model.name, DRIFT_ALARM),
                last_report=find_last_report(connection, model.name),
            )
            for model in read_watched_models(connection, settings)
        ]


def describe_status(statuses: Sequence[ModelStatus]) -> dict[str, Any]:
    """The status as JSON values."""
    return {"models": [_describe(status) for status in statuses]}


def status_lines(
    statuses: Sequence[ModelStatus], *, settings: MonitorSettings, now: datetime
) -> list[str]:
    """The status as text for people."""
    return [line for status in statuses for line in _lines(status, settings, now)]


def _describe(status: ModelStatus) -> dict[str, Any]:
    judgement, alarm = status.judgement, status.alarm
    reference, newest = judgement.reference, judgement.window.newest_received_at
    return {
        "model": judgement.model.name,
        "version": judgement.model.version,
        "reference": None
        if reference is None
        else {
            "id": reference.id,
            "samples": reference.window.sample_count,
            "source": reference.source,
            "created_at": reference.created_at.isoformat(),
        },
        "window_samples": judgement.window.sample_count,
        "newest_received_at": None if newest is None else newest.isoformat(),
        "is_enough": judgement.is_enough,
        "drifted": list(judgement.drifted),
        "diagnosis": judgement.diagnosis,
        "scores": [
            {"feature": s.feature, "score": s.score, "threshold": s.threshold}
            for s in worst_first(judgement.scores)
        ],
        "alarm": None
        if alarm is None
        else {
            "name": alarm.name,
            "state": alarm.state.value,
            "since": alarm.since.isoformat(),
            "model_version": alarm.model_version,
            "features": list(alarm.features),
            "diagnosis": alarm.diagnosis,
        },
        "last_report": None if status.last_report is None else status.last_report.html_file,
    }


def _lines(status: ModelStatus, settings: MonitorSettings, now: datetime) -> list[str]:
    judgement = status.judgement
    lines = [f"{judgement.model.name} {judgement.model.version}", _alarm_line(status.alarm)]
    if judgement.reference is not None:
        reference = judgement.reference
        lines.append(f"  reference  {reference.window.sample_count} samples: {reference.source}")
    newest = judgement.window.newest_received_at
    age = "" if newest is None else f", newest {(now - newest).total_seconds():.0f} s ago"
    lines.append(f"  window     {judgement.window.sample_count} samples{age}")
    if not judgement.is_enough:
        return [*lines, f"  {why_not_ready(judgement, settings)}"]
    if judgement.diagnosis:
        lines.append(f"  now        {judgement.diagnosis}")
    lines.append(f"  {'feature':<28} {'score':>6} {'limit':>6}")
    return lines + [_score_line(score) for score in worst_first(judgement.scores)[:SHOWN_SCORES]]


def _alarm_line(alarm: Alarm | None) -> str:
    if alarm is None:
        return "  drift      never judged: is `monitor run` running?"
    why = f": {alarm.diagnosis}" if alarm.diagnosis else ""
    return f"  {alarm.name:<10} {alarm.state.value} since {alarm.since:%Y-%m-%d %H:%M:%S} UTC{why}"


def _score_line(score: FeatureScore) -> str:
    mark = "  drifted" if score.is_drifted else ""
    return f"  {score.feature:<28} {score.score:>6.3f} {score.threshold:>6.3f}{mark}"
