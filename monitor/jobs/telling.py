"""What the alarm of a slice is told by a look: whether it rang, what differs, since when, with examples. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.store.records import ModelVersion
from monitor.alarms import CLEAR_RATIO, DRIFT_ALARM, Watched
from monitor.drift.diagnosis import MAX_SENTENCE_CHARACTERS
from monitor.drift.evidence import log10_by_feature, log10_total
from monitor.jobs.beginning import FIRST_ID, Beginning
from monitor.jobs.comparing import Compared, leading_features
from monitor.jobs.weighing import Plan, Weighed
from monitor.records import Alarm, AlarmState, Harm

# Of fewer samples it is said how few they are; nor do fewer tell that a change is over.
_FEW_SAMPLES = 8
# What was harmful is called harmless by no fewer: a verdict that flaps is a page that flaps.
_MIN_HARMLESS = 50
_ENDED = (AlarmState.UNKNOWN, AlarmState.RESOLVED)
_SHOWN = (AlarmState.PENDING, AlarmState.FIRING, AlarmState.ACKNOWLEDGED)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a slice's samples show.

    newest: its newest judged ones. told: those that the alarm's words are about, since beginning; both None where there
    is nothing to tell.
    """

    newest: Compared
    told: Compared | None = None
    beginning: Beginning | None = None


def is_shown(plan: Plan, weighed: Weighed, alarm: Alarm | None) -> bool:
    """Whether anything points to a change of a slice, or did: then its samples are compared for people."""
    is_alarming = alarm is not None and alarm.state in _SHOWN
    return is_alarming or is_alarmed(plan, weighed)


def is_alarmed(plan: Plan, weighed: Weighed) -> bool:
    """Whether the evidence of this look is worth a word."""
    return weighed.fired is not None or weighed.largest >= plan.level.pending


def is_told(plan: Plan, weighed: Weighed, alarm: Alarm | None) -> bool:
    """Whether there is something to tell: a first word, or news of what rings as long as it may still be there.

    Once there is next to no evidence that it is, what was told last stays, until it is resolved.
    """
    clear = CLEAR_RATIO * plan.level.firing
    if weighed.fired is not None or alarm is None or not alarm.state.is_active:
        is_pending = alarm is not None and alarm.state is AlarmState.PENDING
        return is_alarmed(plan, weighed) or (is_pending and weighed.largest >= clear)
    is_begun = weighed.remembered.armed_samples < _FEW_SAMPLES
    return weighed.judged > 0 and (is_begun or 10.0 ** log10_total(weighed.evidence) >= clear)


def leading_of(plan: Plan, weighed: Weighed, alarm: Alarm | None) -> tuple[str, ...]:
    """The features that most of the evidence came from when it rang; while it rings, what it rang for; or from now."""
    if weighed.fired is not None:
        return leading_features(weighed.fired.by_feature)
    if alarm is not None and alarm.state.is_active and alarm.features:
        return alarm.features
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
    then = weighed.remembered if weighed.fired is None else weighed.fired.then
    leading = leading_of(plan, weighed, alarm) if is_told(plan, weighed, alarm) else ()
    harm, described = _harm(shown, alarm)
    return Watched(
        model_name=model.name,
        model_version=model.version,
        slice=plan.slice_text,
        is_judged=weighed.judged_samples >= min_samples or weighed.fired is not None,
        newest_request_id=weighed.remembered.newest_request_id,
        judged=weighed.judged,
        armed_samples=then.armed_samples,
        evidence_ratio=weighed.largest / plan.level.firing,
        has_fired=weighed.fired is not None,
        is_above=shown is not None and bool(shown.newest.drifted),
        features=leading,
        diagnosis=_words(shown, leading),
        harm=harm,
        details={} if shown is None else _details(shown, leading, described, examples),
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


def _harm(shown: Shown | None, alarm: Alarm | None) -> tuple[Harm, Mapping[str, Any]]:
    """The verdict to tell, and its reason as JSON values.

    What rings is called worse at once; it is never unknown again, nor soon harmless what was harmful.
    """
    told = None if shown is None else shown.told
    known = Harm.UNKNOWN if alarm is None or not alarm.state.is_active else alarm.harm
    reason = {} if alarm is None else alarm.details.get("harm", {})
    if told is None:
        return known, reason
    verdict = told.verdict
    is_few = told.window.sample_count < _MIN_HARMLESS
    is_kept = (known is not Harm.UNKNOWN and verdict.harm is Harm.UNKNOWN) or (
        known is Harm.HARMFUL and verdict.harm is Harm.HARMLESS and is_few
    )
    return (known, reason) if is_kept else (verdict.harm, verdict.describe())


def _words(shown: Shown | None, leading: Sequence[str]) -> str:
    if shown is None or shown.told is None or not leading:
        return ""
    count = shown.told.window.sample_count
    sentence = shown.told.explained.sentence
    words = sentence or f"{', '.join(leading)}: differently than in the reference"
    few = f" (of {count} sample{'' if count == 1 else 's'})" if count < _FEW_SAMPLES else ""
    return words[: MAX_SENTENCE_CHARACTERS - len(few)] + few


def _details(
    shown: Shown, leading: Sequence[str], harm: Mapping[str, Any], examples: Sequence[str]
) -> dict[str, Any]:
    told, beginning = shown.told, shown.beginning
    if told is None:
        return {}
    before = beginning.before if beginning is not None else ()
    return {
        "since": None if beginning is None else beginning.since.isoformat(),
        "samples": told.window.sample_count,
        **told.explained.describe(),
        "sentence": _words(shown, leading),
        "harm": harm,
        "examples": {"before": list(before or examples[:3]), "after": list(told.furthest)},
        FIRST_ID: None if beginning is None else beginning.first_id,
    }
