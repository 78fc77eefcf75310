"""What the alarm of a slice is told by a look: whether it rang, what differs, since when, with examples. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.store.records import ModelVersion
from monitor.alarms import DRIFT_ALARM, Watched
from monitor.drift.evidence import log10_by_feature
from monitor.jobs.comparing import Compared, leading_features
from monitor.jobs.weighing import Plan, Remembered, Weighed
from monitor.records import Alarm, AlarmState, Harm

# So many samples are described at least, also where the evidence rose within fewer.
_MIN_DESCRIBED = 8
_ENDED = (AlarmState.UNKNOWN, AlarmState.RESOLVED)
_SHOWN = (AlarmState.PENDING, AlarmState.FIRING, AlarmState.ACKNOWLEDGED)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a slice's samples show. newest: its newest judged ones. told: those that the alarm's words are about."""

    newest: Compared
    told: Compared


def is_shown(plan: Plan, weighed: Weighed, alarm: Alarm | None) -> bool:
    """Whether anything points to a change of a slice, or did: then its samples are compared for people."""
    is_alarming = alarm is not None and alarm.state in _SHOWN
    return is_alarming or is_alarmed(plan, weighed)


def is_alarmed(plan: Plan, weighed: Weighed) -> bool:
    """Whether the evidence of this look is worth a word."""
    return weighed.fired is not None or weighed.largest >= plan.level.pending


def described_ids(weighed: Weighed) -> tuple[int, ...]:
    """The judged samples since the evidence was lowest, before it rang or until now."""
    then = _then(weighed)
    return then.window[-max(_MIN_DESCRIBED, then.low_samples) :]


def leading_of(plan: Plan, weighed: Weighed) -> tuple[str, ...]:
    """The features that most of the evidence came from when it rang, or comes from now."""
    if weighed.fired is not None:
        return leading_features(weighed.fired.by_feature)
    return leading_features(log10_by_feature(plan.bets, weighed.evidence))


def tell(
    plan: Plan,
    weighed: Weighed,
    shown: Shown | None,
    *,
    model: ModelVersion,
    alarm: Alarm | None,
    examples: Sequence[str],
    min_samples: int,
    is_new_reference: bool,
) -> Watched:
    """What the alarm of a slice is told.

    shown: None where nothing points to a change. alarm: as it stands. examples: request ids of the reference, where no
    sample from before the change is known. min_samples: judged, before it is said that nothing points to a change.
    """
    leading = leading_of(plan, weighed) if is_alarmed(plan, weighed) else ()
    return Watched(
        model_name=model.name,
        model_version=model.version,
        slice=plan.slice_text,
        is_judged=weighed.judged_samples >= min_samples or weighed.fired is not None,
        newest_request_id=weighed.remembered.newest_request_id,
        judged=weighed.judged,
        armed_samples=_then(weighed).armed_samples,
        evidence_ratio=weighed.largest / plan.level.firing,
        has_fired=weighed.fired is not None,
        is_above=shown is not None and bool(shown.newest.drifted),
        features=leading,
        diagnosis=_words(shown, leading),
        harm=Harm.UNKNOWN if shown is None else shown.told.verdict.harm,
        details={} if shown is None else _details(weighed, shown, alarm, examples),
        is_new_reference=is_new_reference,
    )


def unjudged(model: ModelVersion, slice_text: str, *, is_new_reference: bool = False) -> Watched:
    """What the alarm of a slice is told that cannot be judged."""
    return Watched(
        model_name=model.name,
        model_version=model.version,
        slice=slice_text,
        is_judged=False,
        newest_request_id=None,
        is_new_reference=is_new_reference,
    )


def left_over(
    alarms: Mapping[str, Alarm], model: ModelVersion, known: Sequence[str]
) -> tuple[Watched, ...]:
    """What alarms are told of slices that the reference does not tell apart any more: they end."""
    return tuple(
        ended(alarm, f"{text}: the reference of {model.label} does not tell it apart")
        for text, alarm in alarms.items()
        if text not in known and alarm.state not in _ENDED
    )


def left_behind(
    alarms: Iterable[Alarm], in_production: Mapping[str, str], watched: Collection[str]
) -> tuple[Watched, ...]:
    """What drift alarms are told of models that are not watched any more: they end.

    in_production: versions by model. watched: the names of models.
    """
    return tuple(
        ended(
            alarm,
            "no longer watched: MONITOR_MODEL_NAME names another model"
            if alarm.model_name in in_production
            else "no longer in production",
        )
        for alarm in alarms
        if alarm.name == DRIFT_ALARM
        and alarm.model_name not in watched
        and alarm.state not in _ENDED
    )


def ended(alarm: Alarm, why: str) -> Watched:
    """What an alarm is told that nobody looks at any more."""
    return Watched(
        model_name=alarm.model_name,
        model_version=alarm.model_version,
        slice=alarm.slice,
        is_judged=False,
        newest_request_id=alarm.newest_request_id,
        ended=why,
    )


def _then(weighed: Weighed) -> Remembered:
    return weighed.remembered if weighed.fired is None else weighed.fired.then


def _words(shown: Shown | None, leading: Sequence[str]) -> str:
    if shown is None or not leading:
        return ""
    return (
        shown.told.explained.sentence or f"{', '.join(leading)}: differently than in the reference"
    )


def _details(
    weighed: Weighed, shown: Shown, alarm: Alarm | None, examples: Sequence[str]
) -> dict[str, Any]:
    then = _then(weighed)
    since = None if then.low_at is None else then.low_at.isoformat()
    before = list(then.before or examples[:3])
    if alarm is not None and alarm.state.is_active:
        # It rings again for what it rings for: since when is known from the first time.
        since = alarm.details.get("since", since)
        before = alarm.details.get("examples", {}).get("before", before)
    return {
        "since": since,
        "samples": shown.told.window.sample_count,
        **shown.told.explained.describe(),
        "harm": shown.told.verdict.describe(),
        "examples": {"before": before, "after": list(shown.told.furthest)},
    }
