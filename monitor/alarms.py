"""Alarms: what a look found and the last state, to the next state; acknowledging and silencing. Pure.

Rules: the drift alarm of a model or slice is pending while the evidence is a tenth of what ringing needs, rings when it
is enough, and is resolved only by judged samples that bring no such evidence again: too little data never resolves it.
While it rings, what nobody was told yet rings anew, also where a person knew of what was told: that it is harmful, or
other features in front. Another model version or a new reference starts afresh, as unknown. Every change of state is
one transition; the same input twice changes nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from monitor.records import Alarm, AlarmState, AlarmTransition, Harm, NotReadyError, Silence

DRIFT_ALARM = "drift"
# Too few samples of a model were judged.
SAMPLES_ALARM = "samples"
# No monitor ticked.
STALE_ALARM = "stale"
# Where an alarm has the name of its model, the one about the monitor has this: no model can be called so.
ABOUT_MONITOR = "(monitor)"

# Of the evidence that ringing needs: where it is pending, and below which it no longer is. Between them it stays as it
# was, so that evidence that hovers about one of them does not flap.
PENDING_RATIO = 0.1
CLEAR_RATIO = 0.01
# Of the samples that it took to ring. A change that is still there brings as much again in about as many.
QUIET_FACTOR = 3
# Times clear_after_samples. What it took to ring counts from when the alarm was armed, which may be months before the
# change: without a bound such an alarm would not be resolved for as long.
MAX_QUIET_FACTOR = 10
# Of the features that most evidence comes from: another change has others in front.
_LEADING = 3
# In the details of an alarm: what it remembers for itself, told to nobody.
MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class AlarmRule:
    """clear_after_samples: judged without enough evidence to ring, before an alarm is resolved; >= 1."""

    clear_after_samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What one tick found of one slice of a model version.

    is_judged: whether there is a reference, and anything was ever judged by it. newest_request_id: of the newest judged
    sample. judged: samples judged in this tick. armed_samples: since the evidence was last begun anew; where has_fired,
    how many it took. evidence_ratio: the largest evidence in this tick over what ringing needs. has_fired: whether it
    was enough. is_above: whether any windowed score exceeds its threshold now. features, diagnosis, harm, details: what
    differs. is_new_reference: whether this is the first tick by another reference than before. ended: why it is over.
    """

    model_name: str
    model_version: str
    slice: str = ""
    is_judged: bool
    newest_request_id: str | None
    judged: int = 0
    armed_samples: int = 0
    evidence_ratio: float = 0.0
    has_fired: bool = False
    is_above: bool = False
    features: tuple[str, ...] = ()
    diagnosis: str = ""
    harm: Harm = Harm.UNKNOWN
    details: Mapping[str, Any] = field(default_factory=dict)
    is_new_reference: bool = False
    ended: str = ""


@dataclass(frozen=True, slots=True)
class Switch:
    """An alarm that is on or off.

    is_on: whether it should ring now. why: in words, shown while it rings. details: kept in any state.
    """

    model_name: str
    name: str
    is_on: bool
    why: str
    model_version: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


def next_alarm(
    last: Alarm | None, watched: Watched, *, rule: AlarmRule, now: datetime
) -> tuple[Alarm, AlarmTransition | None]:
    """The drift alarm after this tick, and the transition if its state changed.

    last: None if it was never judged. Calling it again with its own result and the same tick changes nothing.
    """
    before = last or _fresh(watched, now)
    after = _judge(_follow(before, watched), watched, rule=rule)
    again = _news(before, watched) if before.state.is_active and after.state.is_active else ""
    if after.state is before.state and not again:
        return replace(after, since=before.since), None
    after = replace(after, since=now)
    reason = f"{again}: {after.diagnosis}" if again else _reason(before, after, watched)
    return after, _transition(before, after, reason)


def switch_alarm(
    last: Alarm | None, switch: Switch, *, now: datetime
) -> tuple[Alarm, AlarmTransition | None]:
    """A simple alarm after a look, and the transition if its state changed. It rings while it is on."""
    before = last or _plain(switch, AlarmState.UNKNOWN, now)
    state = _switched(before.state, is_on=switch.is_on)
    after = _plain(switch, state, before.since)
    if state is before.state:
        return _as_known(before, after), None
    after = replace(after, since=now)
    return after, _transition(before, after, switch.why)


def acknowledge_alarm(
    last: Alarm, *, by: str, why: str, now: datetime
) -> tuple[Alarm, AlarmTransition]:
    """The alarm once a person knows of it. Raises NotReadyError unless it rings and nobody did yet.

    by: the account; it stays out of the transition, which goes into logs and to webhooks.
    """
    if last.state is AlarmState.ACKNOWLEDGED:
        raise NotReadyError(
            f"{alarm_title(last)} is acknowledged since {last.acknowledged_at:%Y-%m-%d %H:%M:%S} UTC"
        )
    if last.state is not AlarmState.FIRING:
        raise NotReadyError(
            f"{alarm_title(last)} is {last.state.value}: only an alarm that is firing is acknowledged"
        )
    after = replace(
        last,
        state=AlarmState.ACKNOWLEDGED,
        since=now,
        acknowledged_at=now,
        acknowledged_by=by,
        acknowledged_why=why,
    )
    return after, _transition(last, after, f"acknowledged: {why}" if why else "acknowledged")


def is_silenced(
    silences: Iterable[Silence], *, model_name: str, name: str, slice_text: str, now: datetime
) -> bool:
    """Whether nobody is told of an alarm now."""
    return any(
        now < each.ends_at
        and each.model_name in (None, model_name)
        and each.name in (None, name)
        and each.slice in (None, slice_text)
        for each in silences
    )


def alarm_title(alarm: Alarm) -> str:
    """How an alarm is named to people: its name, its model and its slice."""
    return f"the alarm {alarm.name} of {alarm.model_name}" + (
        f", {alarm.slice}" if alarm.slice else ""
    )


def _judge(alarm: Alarm, watched: Watched, *, rule: AlarmRule) -> Alarm:
    if watched.ended:
        return _emptied(alarm, _at_rest(alarm.state, otherwise=AlarmState.UNKNOWN))
    if not watched.is_judged:
        # Too little to judge: an alarm that rings goes on, any other can no longer be vouched for.
        return alarm if alarm.state.is_active else _emptied(alarm, AlarmState.UNKNOWN)
    is_known = watched.newest_request_id == alarm.newest_request_id
    # What rings counts samples: the same tick again must not count them twice.
    if is_known and not watched.has_fired and (not watched.judged or alarm.state.is_active):
        return alarm
    alarm = replace(alarm, newest_request_id=watched.newest_request_id)
    if watched.has_fired:
        return _rung(alarm, watched)
    if alarm.state.is_active:
        return _quiet(alarm, watched, rule)
    return _resting(alarm, watched)


def _rung(alarm: Alarm, watched: Watched) -> Alarm:
    """Enough evidence: it rings, or goes on ringing, with what is found now.

    What nobody was told yet rings anew: what a person took as known was another change.
    """
    features, is_harmful = _told(alarm) if alarm.state.is_active else ((), False)
    if not alarm.state.is_active or _news(alarm, watched):
        alarm = replace(
            alarm,
            state=AlarmState.FIRING,
            acknowledged_at=None,
            acknowledged_by=None,
            acknowledged_why=None,
        )
        features = tuple(dict.fromkeys((*features, *watched.features[:_LEADING])))
        is_harmful = is_harmful or watched.harm is Harm.HARMFUL
    told = {"features": list(features), "is_harmful": is_harmful}
    found = _found(alarm, watched)
    return replace(
        found,
        details={**found.details, MEMORY: told},
        armed_samples=watched.armed_samples,
        quiet_samples=0,
    )


def _news(alarm: Alarm, watched: Watched) -> str:
    """What differs from all that was told since it rings, in words; empty if nothing does."""
    if not (watched.is_judged and watched.has_fired):
        return ""
    features, is_harmful = _told(alarm)
    if watched.harm is Harm.HARMFUL and not is_harmful:
        return "it makes the model worse now"
    leading = watched.features[:_LEADING]
    if leading and features and not set(leading) & set(features):
        return "other features changed"
    return ""


def _told(alarm: Alarm) -> tuple[tuple[str, ...], bool]:
    """The features that were told to lead since it rings, and whether it was told to be harmful."""
    told = alarm.details.get(MEMORY)
    features = told.get("features") if isinstance(told, dict) else None
    if not isinstance(told, dict) or not isinstance(features, list):
        return alarm.features[:_LEADING], alarm.harm is Harm.HARMFUL
    return tuple(filter(lambda name: isinstance(name, str), features)), told.get(
        "is_harmful"
    ) is True


def _quiet(alarm: Alarm, watched: Watched, rule: AlarmRule) -> Alarm:
    quiet = alarm.quiet_samples + watched.judged
    is_over = (
        quiet >= needed_quiet(alarm, rule)
        and not watched.is_above
        and watched.evidence_ratio < PENDING_RATIO
    )
    if is_over:
        return _emptied(alarm, AlarmState.RESOLVED)
    alarm = replace(alarm, quiet_samples=quiet)
    if not watched.diagnosis:
        return alarm
    # What was told since it rings stays known: news found meanwhile rings with the next evidence that is enough.
    kept = {key: alarm.details[key] for key in (MEMORY,) if key in alarm.details}
    return replace(_found(alarm, watched), details={**watched.details, **kept})


def needed_quiet(alarm: Alarm, rule: AlarmRule) -> int:
    """How many judged samples without enough evidence to ring resolve an alarm that rings."""
    taken = QUIET_FACTOR * alarm.armed_samples
    least = rule.clear_after_samples
    return max(least, min(taken, MAX_QUIET_FACTOR * least))


def _resting(alarm: Alarm, watched: Watched) -> Alarm:
    is_pending = watched.evidence_ratio >= PENDING_RATIO or (
        alarm.state is AlarmState.PENDING and watched.evidence_ratio >= CLEAR_RATIO
    )
    if is_pending:
        return _found(replace(alarm, state=AlarmState.PENDING), watched)
    return _emptied(alarm, _at_rest(alarm.state, otherwise=AlarmState.CLEAR))


def _found(alarm: Alarm, watched: Watched) -> Alarm:
    return replace(
        alarm,
        features=watched.features,
        diagnosis=watched.diagnosis,
        harm=watched.harm,
        details=watched.details,
    )


def _emptied(alarm: Alarm, state: AlarmState) -> Alarm:
    """What was found is history then, in the transitions."""
    return Alarm(
        model_name=alarm.model_name,
        name=alarm.name,
        state=state,
        since=alarm.since,
        model_version=alarm.model_version,
        slice=alarm.slice,
        newest_request_id=alarm.newest_request_id,
    )


def _follow(alarm: Alarm, watched: Watched) -> Alarm:
    if alarm.model_version == watched.model_version and not watched.is_new_reference:
        return alarm
    return _fresh(watched, alarm.since)


def _fresh(watched: Watched, since: datetime) -> Alarm:
    return Alarm(
        model_name=watched.model_name,
        name=DRIFT_ALARM,
        state=AlarmState.UNKNOWN,
        since=since,
        model_version=watched.model_version,
        slice=watched.slice,
    )


def _reason(before: Alarm, after: Alarm, watched: Watched) -> str:
    if watched.ended:
        return watched.ended
    if after.state in (AlarmState.FIRING, AlarmState.PENDING):
        return after.diagnosis
    if before.model_version != after.model_version:
        return f"the model version changed from {before.model_version} to {after.model_version}"
    if watched.is_new_reference:
        return "a new reference is in use"
    if after.state is AlarmState.UNKNOWN:
        return "too few samples to judge, or no reference"
    if after.state is AlarmState.RESOLVED:
        quiet = before.quiet_samples + watched.judged
        return f"{quiet} samples in a row brought no such evidence again"
    return "nothing points to a change"


def _switched(before: AlarmState, *, is_on: bool) -> AlarmState:
    if is_on:
        return before if before.is_active else AlarmState.FIRING
    return _at_rest(before, otherwise=AlarmState.CLEAR)


def _at_rest(before: AlarmState, *, otherwise: AlarmState) -> AlarmState:
    return AlarmState.RESOLVED if before.is_active or before is AlarmState.RESOLVED else otherwise


def _plain(switch: Switch, state: AlarmState, since: datetime) -> Alarm:
    return Alarm(
        model_name=switch.model_name,
        name=switch.name,
        state=state,
        since=since,
        model_version=switch.model_version,
        diagnosis=switch.why if state.is_active else "",
        details=switch.details,
    )


def _as_known(before: Alarm, after: Alarm) -> Alarm:
    return replace(
        after,
        acknowledged_at=before.acknowledged_at,
        acknowledged_by=before.acknowledged_by,
        acknowledged_why=before.acknowledged_why,
    )


def _transition(before: Alarm, after: Alarm, diagnosis: str) -> AlarmTransition:
    # Whoever is told that it is over is told of what.
    told = before if before.state.is_active and not after.state.is_active else after
    return AlarmTransition(
        model_name=after.model_name,
        name=after.name,
        at=after.since,
        before=before.state,
        after=after.state,
        model_version=after.model_version,
        features=told.features,
        diagnosis=diagnosis,
        slice=after.slice,
        harm=told.harm,
        details={name: value for name, value in told.details.items() if name != MEMORY},
    )
