"""What the monitor knows about each watched model, read without changing anything, as JSON values and as text."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine

from gateway.store.records import ModelVersion
from monitor.alarms import DRIFT_ALARM
from monitor.jobs.judging import Judgement, ReferenceCache, judge, read_watched_models
from monitor.jobs.report import why_not_ready
from monitor.records import Alarm, AlarmState, AlarmTransition, FeatureScore, Report
from monitor.reports.document import worst_first
from monitor.settings import MonitorSettings
from monitor.tables.alarm_queries import find_alarm, list_transitions
from monitor.tables.queries import find_last_report

SHOWN_SCORES = 8
LATE_TICKS = 3


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One watched model: what its data say now, what the last tick stored, the last report.

    last_transition: the alarm's latest change of state.
    """

    judgement: Judgement
    alarm: Alarm | None
    last_report: Report | None
    last_transition: AlarmTransition | None


def read_status(engine: Engine, settings: MonitorSettings) -> list[ModelStatus]:
    """The status of every watched model; empty if none is in production."""
    with engine.connect() as connection:
        models = read_watched_models(connection, settings)
        return [_read_model(connection, model, settings) for model in models]


def describe_status(statuses: Sequence[ModelStatus]) -> dict[str, Any]:
    """The status as JSON values."""
    return {"models": [_describe(status) for status in statuses]}


def status_lines(
    statuses: Sequence[ModelStatus], *, settings: MonitorSettings, now: datetime
) -> list[str]:
    """The status as text for people."""
    return [line for status in statuses for line in _lines(status, settings, now)]


def _read_model(
    connection: Connection, model: ModelVersion, settings: MonitorSettings
) -> ModelStatus:
    transitions = list_transitions(connection, model.name, newest=1)
    return ModelStatus(
        judgement=judge(connection, model, settings=settings, find_reference=ReferenceCache()),
        alarm=find_alarm(connection, model.name, DRIFT_ALARM),
        last_report=find_last_report(connection, model.name),
        last_transition=transitions[-1] if transitions else None,
    )


def _describe(status: ModelStatus) -> dict[str, Any]:
    judgement, alarm = status.judgement, status.alarm
    reference, newest = judgement.reference, judgement.window.newest_received_at
    ticked_at, changed = judgement.last_judged_at, status.last_transition
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
        "bad_samples": judgement.window.bad_count,
        "last_tick_at": None if ticked_at is None else ticked_at.isoformat(),
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
            "reason": "" if changed is None else changed.diagnosis,
        },
        "last_report": None if status.last_report is None else status.last_report.html_file,
    }


def _lines(status: ModelStatus, settings: MonitorSettings, now: datetime) -> list[str]:
    judgement = status.judgement
    lines = [f"{judgement.model.name} {judgement.model.version}", _alarm_line(status)]
    lines.extend(_last_tick_lines(status, settings, now))
    if judgement.reference is not None:
        reference = judgement.reference
        lines.append(f"  reference  {reference.window.sample_count} samples: {reference.source}")
    newest = judgement.window.newest_received_at
    age = "" if newest is None else f", newest {(now - newest).total_seconds():.0f} s ago"
    bad_count = judgement.window.bad_count
    bad = f", {bad_count} more cannot be read" if bad_count else ""
    lines.append(f"  window     {judgement.window.sample_count} samples{age}{bad}")
    if not judgement.is_enough:
        return [*lines, f"  {why_not_ready(judgement, settings)}"]
    if judgement.diagnosis:
        lines.append(f"  now        {judgement.diagnosis}")
    lines.append(f"  {'feature':<28} {'score':>6} {'limit':>6}")
    return lines + [_score_line(score) for score in worst_first(judgement.scores)[:SHOWN_SCORES]]


def _last_tick_lines(status: ModelStatus, settings: MonitorSettings, now: datetime) -> list[str]:
    """The last tick that saw a new sample, and a warning if samples wait for the next one too long."""
    judgement, alarm = status.judgement, status.alarm
    ticked_at, newest = judgement.last_judged_at, judgement.window.newest_received_at
    if alarm is None or ticked_at is None:
        return []
    line = f"  last tick  {ticked_at:%Y-%m-%d %H:%M:%S} UTC with new samples"
    # A quiet tick stores nothing: only a sample that nobody judged tells that nobody is watching.
    is_waiting = judgement.window.newest_request_id != alarm.newest_request_id
    patience = timedelta(seconds=LATE_TICKS * settings.tick_seconds)
    if newest is None or not judgement.is_enough or not is_waiting or now - newest < patience:
        return [line]
    if now - ticked_at < patience:
        return [line]
    return [f"{line}, newer ones wait: is `monitor run` running?"]


def _alarm_line(status: ModelStatus) -> str:
    alarm, changed = status.alarm, status.last_transition
    if alarm is None:
        return "  drift      never judged: is `monitor run` running?"
    why = f": {alarm.diagnosis}" if alarm.diagnosis else ""
    if alarm.state is AlarmState.UNKNOWN:
        is_told = changed is not None and changed.after is AlarmState.UNKNOWN
        why = (
            f": {changed.diagnosis}"
            if changed is not None and is_told
            else ": not judged often enough yet"
        )
    elif changed is not None and changed.diagnosis not in ("", alarm.diagnosis) and why:
        why += f" (when it rang: {changed.diagnosis})"
    return f"  {alarm.name:<10} {alarm.state.value} since {alarm.since:%Y-%m-%d %H:%M:%S} UTC{why}"


def _score_line(score: FeatureScore) -> str:
    mark = "  drifted" if score.is_drifted else ""
    return f"  {score.feature:<28} {score.score:>6.3f} {score.threshold:>6.3f}{mark}"
