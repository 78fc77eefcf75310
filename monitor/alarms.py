"""Alarms with hysteresis: what one tick found and the last state, to the next state. Pure.

Rules: an alarm is raised after some consecutive ticks above the threshold and cleared after some below, where only
ticks that saw a new sample count; too few samples never clear a raised alarm and turn a clear one unknown; another
model version or a new reference starts afresh, as unknown. Every change of state is a transition.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from monitor.records import Alarm, AlarmState, AlarmTransition

DRIFT_ALARM = "drift"


@dataclass(frozen=True, slots=True)
class AlarmRule:
    """How many consecutive ticks on new samples it takes; both >= 1."""

    raise_after_ticks: int
    clear_after_ticks: int


@dataclass(frozen=True, slots=True)
class Observation:
    """What one tick saw of one model.

    is_enough: whether there was a reference and a large enough window. newest_request_id: of the window's newest
    sample. drifted: the features above their threshold, worst first; empty means below. diagnosis: plain words.
    is_new_reference: the model version was judged before, but never by this reference.
    """

    model_name: str
    model_version: str
    is_enough: bool
    newest_request_id: str | None
    drifted: tuple[str, ...] = ()
    diagnosis: str = ""
    is_new_reference: bool = False


def next_alarm(
    last: Alarm | None, seen: Observation, *, rule: AlarmRule, now: datetime
) -> tuple[Alarm, AlarmTransition | None]:
    """The drift alarm after this tick, and the transition if its state changed.

    last: None if it was never judged. Calling it again with its own result and the same observation changes nothing.
    """
    before = last or _fresh(seen, now)
    after = _judge(_follow(before, seen), seen, rule=rule)
    if after.state is before.state:
        return after, None
    after = replace(after, since=now)
    return after, AlarmTransition(
        model_name=after.model_name,
        name=after.name,
        at=now,
        before=before.state,
        after=after.state,
        model_version=after.model_version,
        features=after.features,
        diagnosis=_reason(before, after, seen),
    )


def _judge(alarm: Alarm, seen: Observation, *, rule: AlarmRule) -> Alarm:
    if not seen.is_enough:
        return _lacking(alarm)
    if seen.newest_request_id == alarm.newest_request_id:
        return alarm
    alarm = replace(alarm, newest_request_id=seen.newest_request_id)
    return _above(alarm, seen, rule) if seen.drifted else _below(alarm, rule)


def _above(alarm: Alarm, seen: Observation, rule: AlarmRule) -> Alarm:
    ticks = min(alarm.above_ticks + 1, rule.raise_after_ticks)
    alarm = replace(alarm, above_ticks=ticks, below_ticks=0)
    if alarm.state is AlarmState.FIRING or ticks == rule.raise_after_ticks:
        return replace(
            alarm, state=AlarmState.FIRING, features=seen.drifted, diagnosis=seen.diagnosis
        )
    return alarm


def _below(alarm: Alarm, rule: AlarmRule) -> Alarm:
    ticks = min(alarm.below_ticks + 1, rule.clear_after_ticks)
    alarm = replace(alarm, above_ticks=0, below_ticks=ticks)
    if ticks == rule.clear_after_ticks:
        return replace(alarm, state=AlarmState.CLEAR, features=(), diagnosis="")
    return alarm


def _lacking(alarm: Alarm) -> Alarm:
    """Too little to judge: a raised alarm stays, a clear one can no longer be vouched for."""
    state = AlarmState.FIRING if alarm.state is AlarmState.FIRING else AlarmState.UNKNOWN
    return replace(alarm, state=state, above_ticks=0, below_ticks=0)


def _follow(alarm: Alarm, seen: Observation) -> Alarm:
    if alarm.model_version == seen.model_version and not seen.is_new_reference:
        return alarm
    return _fresh(seen, alarm.since)


def _fresh(seen: Observation, since: datetime) -> Alarm:
    return Alarm(
        model_name=seen.model_name,
        name=DRIFT_ALARM,
        state=AlarmState.UNKNOWN,
        since=since,
        model_version=seen.model_version,
    )


def _reason(before: Alarm, after: Alarm, seen: Observation) -> str:
    if before.model_version != after.model_version:
        return f"the model version changed from {before.model_version} to {after.model_version}"
    if after.state is AlarmState.UNKNOWN and seen.is_new_reference:
        return "a new reference is in use"
    if after.state is AlarmState.UNKNOWN:
        return "too few samples to judge, or no reference"
    if after.state is AlarmState.CLEAR:
        return "no watched feature exceeds its threshold"
    return after.diagnosis
