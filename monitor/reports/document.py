"""The JSON twin of a report: what was compared, what it scored, where the alarm stands. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from monitor.records import Alarm, AlarmTransition, FeatureScore, Reference, Window

FORMAT = 1


@dataclass(frozen=True, slots=True)
class ReportContent:
    """Everything one report tells.

    before: values that stand for the reference. scores: of the watched features. not_drawn: features the HTML leaves
    out because a side has no values. transitions: the alarm's latest changes, oldest first. alpha: the false-alarm rate
    the thresholds hold.
    """

    created_at: datetime
    model_name: str
    model_version: str
    reference: Reference
    before: Window
    window: Window
    alpha: float
    scores: tuple[FeatureScore, ...]
    drifted: tuple[str, ...]
    diagnosis: str
    alarm: Alarm | None
    transitions: Sequence[AlarmTransition]


def report_document(
    content: ReportContent, *, not_drawn: Sequence[str], files: dict[str, str]
) -> dict[str, Any]:
    """The report as JSON values; times are ISO 8601 in UTC, scores worst first."""
    return {
        "format": FORMAT,
        "created_at": content.created_at.isoformat(),
        "model": {"name": content.model_name, "version": content.model_version},
        "reference": {
            "id": content.reference.id,
            "source": content.reference.source,
            "created_at": content.reference.created_at.isoformat(),
            "samples": content.reference.summary.sample_count,
        },
        "window": {
            "samples": content.window.sample_count,
            "newest_received_at": _iso(content.window.newest_received_at),
        },
        "method": {"name": "ks", "alpha": content.alpha},
        "drifted": list(content.drifted),
        "diagnosis": content.diagnosis,
        "features": [_score(score) for score in worst_first(content.scores)],
        "alarm": None if content.alarm is None else _alarm(content.alarm),
        "transitions": [_transition(each) for each in content.transitions],
        "not_drawn": list(not_drawn),
        "files": files,
    }


def worst_first(scores: Sequence[FeatureScore]) -> list[FeatureScore]:
    """Scores by how far they exceed their thresholds."""
    return sorted(scores, key=lambda score: (score.threshold - score.score, score.feature))


def _score(score: FeatureScore) -> dict[str, Any]:
    return {
        "feature": score.feature,
        "score": score.score,
        "threshold": score.threshold,
        "is_drifted": score.is_drifted,
    }


def _alarm(alarm: Alarm) -> dict[str, Any]:
    return {
        "name": alarm.name,
        "state": alarm.state.value,
        "since": alarm.since.isoformat(),
        "features": list(alarm.features),
        "diagnosis": alarm.diagnosis,
    }


def _transition(transition: AlarmTransition) -> dict[str, Any]:
    return {
        "at": transition.at.isoformat(),
        "before": transition.before.value,
        "after": transition.after.value,
        "model_version": transition.model_version,
        "diagnosis": transition.diagnosis,
    }


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()
