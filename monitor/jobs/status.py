"""What the monitor knows about each watched model, read without changing anything, as JSON values and as text."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine

from gateway.store.queries.samples import count_samples_after
from gateway.store.records import ModelVersion
from monitor.alarms import DRIFT_ALARM, MEMORY
from monitor.jobs.alarm_details import detail_lines
from monitor.jobs.client_names import Names, read_client_names, slices_in_words, with_name
from monitor.jobs.intake import MAX_COUNTED_LAG, unknown_sources
from monitor.jobs.judging import (
    Judgement,
    ReferenceCache,
    SliceEvidence,
    judge,
    passed_over,
    read_watched_models,
)
from monitor.jobs.lease import DRIFT_LEASE
from monitor.jobs.report import why_not_ready
from monitor.records import (
    Alarm,
    AlarmState,
    AlarmTransition,
    DatabaseUnavailableError,
    FeatureScore,
    Harm,
    MonitorError,
    Report,
)
from monitor.reports.document import worst_first
from monitor.settings import MonitorSettings
from monitor.tables.alarm_queries import list_alarms, list_transitions
from monitor.tables.lease_queries import find_renewed_at
from monitor.tables.queries import find_last_report, find_reference_id
from monitor.texts import shown

SHOWN_SCORES = 8
SHOWN_SOURCES = 8
LATE_TICKS = 3


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One watched model: what its data say now, what ticks stored, the last report.

    alarms: of drift, by slice. last_transition: the latest change of the one about all samples. ticked_at: when any
    monitor last looked. waiting: samples that no tick looked at yet, up to a million. problem: why nothing can be
    said, and what to do; empty if something can. clients: who is known of the clients in slices.
    """

    judgement: Judgement
    alarms: tuple[Alarm, ...]
    last_report: Report | None
    last_transition: AlarmTransition | None
    ticked_at: datetime | None
    waiting: int
    problem: str = ""
    clients: Names = field(default_factory=dict)

    @property
    def alarm(self) -> Alarm | None:
        """The one about all samples."""
        return next((alarm for alarm in self.alarms if not alarm.slice), None)


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
    return [shown(line) for status in statuses for line in _lines(status, settings, now)]


def _read_model(
    connection: Connection, model: ModelVersion, settings: MonitorSettings
) -> ModelStatus:
    judgement, problem = _try_judge(connection, model, settings)
    transitions = list_transitions(connection, model.name, newest=1, name=DRIFT_ALARM, slice="")
    alarms = list_alarms(connection, model_name=model.name)
    waiting = 0
    if judgement.cursor is not None:
        waiting = count_samples_after(
            connection,
            model.name,
            model.version,
            after_id=judgement.cursor.last_sample_id,
            limit=MAX_COUNTED_LAG,
        )
    return ModelStatus(
        judgement=judgement,
        alarms=tuple(alarm for alarm in alarms if alarm.name == DRIFT_ALARM),
        last_report=find_last_report(connection, model.name),
        last_transition=transitions[-1] if transitions else None,
        ticked_at=find_renewed_at(connection, DRIFT_LEASE),
        waiting=waiting,
        problem=problem,
        clients=read_client_names(
            connection, model.name, model.version, _slices(judgement, alarms)
        ),
    )


def _try_judge(
    connection: Connection, model: ModelVersion, settings: MonitorSettings
) -> tuple[Judgement, str]:
    """What is broken of one model hides no other."""
    try:
        return judge(connection, model, settings=settings, find_reference=ReferenceCache()), ""
    except DatabaseUnavailableError:
        raise
    except MonitorError as exc:
        reference_id = find_reference_id(connection, model.name, model.version)
        problem = f"{model.name} {model.version}, reference {reference_id}: {exc}"
        return Judgement(model=model, reference=None), problem


def _slices(judgement: Judgement, alarms: Sequence[Alarm]) -> list[str]:
    reference = judgement.reference
    told_apart = [] if reference is None else reference.summary.slices
    in_words = [] if reference is None else slices_in_words(reference.source)
    return [*(each.slice for each in alarms), *(each.slice.text for each in told_apart), *in_words]


def _describe(status: ModelStatus) -> dict[str, Any]:
    judgement = status.judgement
    changed = status.last_transition
    reason = "" if changed is None else changed.diagnosis
    alarm = status.alarm
    return {
        "model": judgement.model.name,
        "version": judgement.model.version,
        "reference": _describe_reference(judgement),
        "judged_samples": judgement.judged_samples,
        "problem": status.problem,
        "passed_samples": 0 if judgement.cursor is None else judgement.cursor.passed_samples,
        "passed_over": passed_over(judgement.cursor),
        "lacking_features": list(judgement.compared.lacking),
        "unwatched_features": list(judgement.compared.unwatched),
        "waiting_samples": status.waiting,
        "unknown_sources": _unknown_sources(judgement),
        "window_samples": judgement.window.sample_count,
        "newest_received_at": _iso(judgement.window.newest_received_at),
        "last_judged_at": _iso(judgement.last_judged_at),
        "last_tick_at": _iso(status.ticked_at),
        "is_enough": judgement.is_enough,
        "drifted": list(judgement.drifted),
        "diagnosis": judgement.diagnosis,
        "scores": [_describe_score(score) for score in worst_first(judgement.scores)],
        "evidence": [_describe_evidence(each) for each in judgement.slices],
        "alarm": None if alarm is None else _describe_alarm(alarm) | {"reason": reason},
        "slices": [_describe_alarm(each) for each in status.alarms if each.slice],
        "clients": dict(status.clients),
        "last_report": None if status.last_report is None else status.last_report.html_file,
    }


def _describe_reference(judgement: Judgement) -> dict[str, Any] | None:
    reference = judgement.reference
    if reference is None:
        return None
    return {
        "id": reference.id,
        "samples": reference.summary.sample_count,
        "source": reference.source,
        "created_at": reference.created_at.isoformat(),
        "slices": [each.slice.text for each in reference.summary.slices[1:]],
        "unfit": judgement.unfit,
    }


def _describe_score(score: FeatureScore) -> dict[str, Any]:
    return {
        "feature": score.feature,
        "score": score.score,
        "threshold": score.threshold,
        "effect": score.effect,
        "evidence": score.evidence,
    }


def _describe_evidence(each: SliceEvidence) -> dict[str, Any]:
    return {
        "slice": each.slice_text,
        "judged_samples": each.judged_samples,
        "log10_ratio": each.log10_ratio,
        "leading": list(each.leading),
    }


def _describe_alarm(alarm: Alarm) -> dict[str, Any]:
    return {
        "name": alarm.name,
        "slice": alarm.slice,
        "state": alarm.state.value,
        "since": alarm.since.isoformat(),
        "model_version": alarm.model_version,
        "features": list(alarm.features),
        "diagnosis": alarm.diagnosis,
        "harm": alarm.harm.value,
        "details": {key: value for key, value in alarm.details.items() if key != MEMORY},
    }


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _unknown_sources(judgement: Judgement) -> dict[str, int]:
    return {} if judgement.cursor is None else unknown_sources(judgement.cursor)


def _lines(status: ModelStatus, settings: MonitorSettings, now: datetime) -> list[str]:
    judgement = status.judgement
    lines = [
        f"{judgement.model.name} {judgement.model.version}",
        _alarm_line(status),
        *([] if status.alarm is None else _detail_lines(status.alarm)),
        *_slice_lines(status),
        *_tick_lines(status, settings, now),
    ]
    if status.problem:
        return [*lines, f"  broken     {status.problem}"]
    if judgement.reference is not None:
        reference = judgement.reference
        lines.append(f"  reference  {reference.summary.sample_count} samples: {reference.source}")
        lines.append(_judged_line(status))
        lines.extend(_source_lines(judgement))
        lines.extend(_feature_lines(judgement))
    lines.append(_window_line(judgement, now))
    if not judgement.is_enough:
        return [*lines, f"  {why_not_ready(judgement, settings)}"]
    if judgement.diagnosis:
        lines.append(f"  now        {judgement.diagnosis}")
    lines.append(f"  {'feature':<28} {'score':>6} {'limit':>6} {'effect':>6}")
    return lines + [_score_line(score) for score in worst_first(judgement.scores)[:SHOWN_SCORES]]


def _alarm_line(status: ModelStatus) -> str:
    alarm, changed = status.alarm, status.last_transition
    if alarm is None:
        return "  drift      never judged: is `monitor run` running?"
    why = f": {alarm.diagnosis}" if alarm.diagnosis else ""
    if alarm.state is AlarmState.UNKNOWN:
        is_told = changed is not None and changed.after is AlarmState.UNKNOWN
        why = f": {changed.diagnosis}" if changed is not None and is_told else ""
    harm = f" ({alarm.harm.value})" if why and alarm.harm is not Harm.UNKNOWN else ""
    return f"  {alarm.name:<10} {alarm.state.value} since {alarm.since:%Y-%m-%d %H:%M:%S} UTC{why}{harm}"


def _slice_lines(status: ModelStatus) -> list[str]:
    """Those slices of which there is anything to say, and how far all samples are from ringing."""
    lines = []
    for alarm in status.alarms:
        if alarm.slice and (alarm.state.is_active or alarm.state is AlarmState.PENDING):
            name, since = with_name(alarm.slice, status.clients), f"{alarm.since:%Y-%m-%d %H:%M:%S}"
            lines.append(f"  {name:<10} {alarm.state.value} since {since} UTC: {alarm.diagnosis}")
            lines += _detail_lines(alarm)
    of_all = status.judgement.slices[0] if status.judgement.slices else None
    if of_all is not None and of_all.log10_ratio is not None:
        lines.append(f"  evidence   10^{of_all.log10_ratio:.1f} of what ringing needs")
    return lines


def _detail_lines(alarm: Alarm) -> list[str]:
    return [f"             {line}" for line in detail_lines(alarm)]


def _tick_lines(status: ModelStatus, settings: MonitorSettings, now: datetime) -> list[str]:
    """The last tick of any monitor, and a warning if it was too long ago."""
    if status.ticked_at is None:
        return []
    line = f"  last tick  {status.ticked_at:%Y-%m-%d %H:%M:%S} UTC"
    patience = timedelta(seconds=LATE_TICKS * settings.tick_seconds)
    if now - status.ticked_at < patience:
        return [line]
    return [f"{line}: is `monitor run` running?"]


def _judged_line(status: ModelStatus) -> str:
    judgement = status.judgement
    passed = 0 if judgement.cursor is None else judgement.cursor.passed_samples
    waiting = f", {status.waiting} wait" if status.waiting else ""
    counts = [f"{count} {why}" for why, count in passed_over(judgement.cursor).items()]
    reasons = f" ({', '.join(counts)})" if counts else ""
    return f"  judged     {judgement.judged_samples} samples, {passed} passed over{reasons}{waiting}".replace(
        "_", " "
    )


def _feature_lines(judgement: Judgement) -> list[str]:
    lines = []
    if judgement.compared.lacking:
        names = ", ".join(judgement.compared.lacking)
        lines.append(
            f"  lacking    {names}: part of the newest samples do not have them, is a gateway older?"
        )
    if judgement.compared.unwatched:
        count, names = len(judgement.compared.unwatched), ", ".join(judgement.compared.unwatched)
        lines.append(f"  unwatched  a new reference would watch {count} more features: {names}")
    return lines


def _source_lines(judgement: Judgement) -> list[str]:
    sources = _unknown_sources(judgement)
    if not sources:
        return []
    most = sorted(sources, key=lambda name: (-sources[name], name))[:SHOWN_SOURCES]
    told = ", ".join(f"{name or '(others)'} ({sources[name]})" for name in most)
    return [f"  sources    that the reference does not tell apart: {told}"]


def _window_line(judgement: Judgement, now: datetime) -> str:
    newest = judgement.window.newest_received_at
    age = "" if newest is None else f", newest {(now - newest).total_seconds():.0f} s ago"
    return f"  window     {judgement.window.sample_count} samples{age}"


def _score_line(score: FeatureScore) -> str:
    mark = "  drifted" if score.is_drifted else ""
    return f"  {score.feature:<28} {score.score:>6.3f} {score.threshold:>6.3f} {score.effect:>6.2f}{mark}"
