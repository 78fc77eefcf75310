"""What `monitor alarms list` says: how alarms stand, who is not told of them, what webhooks have not taken.

Rules: it changes nothing; words first, and the same as JSON values.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Engine

from monitor.alarms import MEMORY, STALE_ALARM, Switch, is_silenced
from monitor.jobs.alarm_details import detail_lines
from monitor.jobs.client_names import Names, read_names_of_versions, with_name
from monitor.jobs.delivering import Waiting, read_waiting
from monitor.jobs.lacks import current_stale
from monitor.records import Alarm, AlarmState, AlarmTransition, Harm, Silence
from monitor.settings import MonitorSettings
from monitor.tables.alarm_queries import list_alarms, list_silences, list_transitions
from monitor.texts import shown
from monitor.webhooks import parse_webhooks

_QUIET = (AlarmState.CLEAR, AlarmState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class AlarmsView:
    """Everything that the list shows.

    stale: whether no monitor ticks now, whatever is stored. clients: who is known of the clients in slices.
    """

    alarms: Sequence[Alarm]
    silences: Sequence[Silence]
    waiting: Sequence[Waiting]
    stale: Switch
    history: Sequence[AlarmTransition]
    clients: Names = field(default_factory=dict)


def read_alarms(
    engine: Engine,
    settings: MonitorSettings,
    *,
    model_name: str | None,
    newest: int,
    now: datetime,
) -> AlarmsView:
    """What is stored now, of one model or of all. newest: how many changes to show.

    Raises SQLAlchemyError, InputError for addresses of webhooks that cannot be used.
    """
    webhooks = parse_webhooks(settings.webhook_urls)
    with engine.connect() as connection:
        alarms = list_alarms(connection, model_name=model_name)
        history = list_transitions(connection, model_name, newest=newest) if newest else []
        of_slices = [(each.model_name, each.model_version, each.slice) for each in alarms]
        of_slices += [(each.model_name, each.model_version, each.slice) for each in history]
        return AlarmsView(
            alarms=alarms,
            silences=list_silences(connection, now=now),
            waiting=read_waiting(connection, webhooks),
            stale=current_stale(connection, settings, now=now),
            history=history,
            clients=read_names_of_versions(connection, of_slices),
        )


def read_stale(engine: Engine, settings: MonitorSettings, *, now: datetime) -> str | None:
    """Why no monitor seems to run now; None if one does, or none ever did. Raises SQLAlchemyError."""
    with engine.connect() as connection:
        switch = current_stale(connection, settings, now=now)
    return switch.why if switch.is_on else None


def describe_alarms(view: AlarmsView, *, now: datetime) -> dict[str, Any]:
    """The view as JSON values; all alarms, whichever state they have."""
    return {
        "alarms": [_described(alarm, view, now) for alarm in view.alarms],
        "silences": [_described_silence(silence) for silence in view.silences],
        "webhooks": [
            {
                "webhook": each.title,
                "waiting": each.count,
                "next_at": None if each.next_at is None else each.next_at.isoformat(),
                "last_error": each.last_error,
            }
            for each in view.waiting
        ],
        "stale": view.stale.why if view.stale.is_on else None,
        "history": [_described_change(change) for change in view.history],
        "clients": dict(view.clients),
    }


def alarm_lines(view: AlarmsView, *, shows_all: bool, now: datetime) -> list[str]:
    """The view as text for people; shows_all: also alarms that are clear or unknown."""
    return [shown(line) for line in _view_lines(view, shows_all=shows_all, now=now)]


def _view_lines(view: AlarmsView, *, shows_all: bool, now: datetime) -> list[str]:
    listed = [a for a in view.alarms if shows_all or a.state not in _QUIET]
    lines = []
    for model_name in dict.fromkeys(alarm.model_name for alarm in listed):
        lines.append(model_name)
        for alarm in listed:
            if alarm.model_name == model_name:
                lines += _lines(alarm, view, now)
    if view.stale.is_on and not any(a.name == STALE_ALARM and a.state.is_active for a in listed):
        lines.append(f"{view.stale.name} now: {view.stale.why}")
    hidden = len(view.alarms) - len(listed)
    if hidden:
        lines.append(f"{hidden} clear or unknown: monitor alarms list --all")
    if not view.alarms:
        lines.append("nothing was judged yet: is `monitor run` running?")
    lines += [f"silence {_silence_line(silence, view.clients)}" for silence in view.silences]
    lines += [_waiting_line(each) for each in view.waiting if each.count]
    if view.history:
        lines += [
            "history",
            *(f"  {_change_line(change, view.clients)}" for change in view.history),
        ]
    return lines


def _lines(alarm: Alarm, view: AlarmsView, now: datetime) -> list[str]:
    name = f"{alarm.name} {with_name(alarm.slice, view.clients)}" if alarm.slice else alarm.name
    harm = "" if alarm.harm is Harm.UNKNOWN else f", {alarm.harm.value}"
    why = f": {alarm.diagnosis}" if alarm.diagnosis else ""
    lines = [f"  {name} {alarm.state.value} since {_time(alarm.since)}{harm}{why}"]
    if alarm.features:
        lines.append(f"    features: {', '.join(alarm.features)}")
    lines += [f"    {line}" for line in detail_lines(alarm)]
    if alarm.acknowledged_at is not None:
        reason = f": {alarm.acknowledged_why}" if alarm.acknowledged_why else ""
        lines.append(
            f"    acknowledged by {alarm.acknowledged_by} at {_time(alarm.acknowledged_at)}{reason}"
        )
    if alarm.state is AlarmState.FIRING and _is_silenced(alarm, view, now):
        lines.append("    silenced: nobody is told of it")
    return lines


def _silence_line(silence: Silence, clients: Names) -> str:
    what = silence.name or "every alarm"
    if silence.slice is not None:
        what += f" {with_name(silence.slice, clients)}" if silence.slice else " of all samples"
    of = f" of {silence.model_name}" if silence.model_name is not None else ""
    why = f": {silence.why}" if silence.why else ""
    return f"{silence.id} by {silence.created_by} until {_time(silence.ends_at)}, {what}{of}{why}"


def _waiting_line(waiting: Waiting) -> str:
    if waiting.next_at is None:
        return f"webhook {waiting.title}: everything was taken"
    error = f", the last time it {waiting.last_error}" if waiting.last_error else ""
    changes = "1 change waits" if waiting.count == 1 else f"{waiting.count} changes wait"
    return f"webhook {waiting.title}: {changes}, next try at {_time(waiting.next_at)}{error}"


def _change_line(change: AlarmTransition, clients: Names) -> str:
    name = f"{change.name} {with_name(change.slice, clients)}" if change.slice else change.name
    states = f"{change.before.value} to {change.after.value}"
    why = f": {change.diagnosis}" if change.diagnosis else ""
    return f"{_time(change.at)} {change.model_name} {name} {states}{why}"


def _described(alarm: Alarm, view: AlarmsView, now: datetime) -> dict[str, Any]:
    return {
        "model": alarm.model_name,
        "version": alarm.model_version,
        "alarm": alarm.name,
        "slice": alarm.slice,
        "state": alarm.state.value,
        "since": alarm.since.isoformat(),
        "features": list(alarm.features),
        "diagnosis": alarm.diagnosis,
        "harm": alarm.harm.value,
        "details": {key: value for key, value in alarm.details.items() if key != MEMORY},
        "quiet_samples": alarm.quiet_samples,
        "acknowledged": None
        if alarm.acknowledged_at is None
        else {
            "at": alarm.acknowledged_at.isoformat(),
            "by": alarm.acknowledged_by,
            "why": alarm.acknowledged_why,
        },
        "silenced": _is_silenced(alarm, view, now),
    }


def _described_silence(silence: Silence) -> dict[str, Any]:
    return {
        "id": silence.id,
        "model": silence.model_name,
        "alarm": silence.name,
        "slice": silence.slice,
        "by": silence.created_by,
        "why": silence.why,
        "created_at": silence.created_at.isoformat(),
        "ends_at": silence.ends_at.isoformat(),
    }


def _described_change(change: AlarmTransition) -> dict[str, Any]:
    return {
        "at": change.at.isoformat(),
        "model": change.model_name,
        "version": change.model_version,
        "alarm": change.name,
        "slice": change.slice,
        "before": change.before.value,
        "after": change.after.value,
        "features": list(change.features),
        "diagnosis": change.diagnosis,
        "harm": change.harm.value,
        "details": dict(change.details),
    }


def _is_silenced(alarm: Alarm, view: AlarmsView, now: datetime) -> bool:
    return is_silenced(
        view.silences,
        model_name=alarm.model_name,
        name=alarm.name,
        slice_text=alarm.slice,
        now=now,
    )


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
