"""The newest judged samples of a slice beside its reference, for people: scores, words, harm, examples. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC
from math import isfinite

import numpy as np

from gateway.store.records import ModelVersion, Sample
from monitor.drift.diagnosis import Diagnosis, drifted_features, explain
from monitor.drift.harm import HarmVerdict, judge_harm
from monitor.drift.scores import comparable, placements, score_window
from monitor.records import FeatureScore, Harm, Reference, Window
from monitor.settings import MonitorSettings
from monitor.summaries import SliceSummary, Stratum
from monitor.windows.fitting import lacked, unwatched
from monitor.windows.stored import measurements, sample_window

# The features that evidence comes from: those within so many powers of ten of the strongest.
_LEADING_DECADES = 1.0
MAX_LEADING = 6
EXAMPLES = 3
_NOTHING_TOLD = Diagnosis("")
_NO_VERDICT = HarmVerdict(Harm.UNKNOWN, "no sample is of an hour that the reference knows")


@dataclass(frozen=True, slots=True)
class Compared:
    """What a window shows.

    drifted: features above their thresholds, worst first. explained: of the leading features, in words. furthest:
    request ids of the samples that lie furthest out in them. lacking: features of the reference that some samples do
    not have, and are not compared. unwatched: what a new reference of these samples would watch besides.
    """

    window: Window
    scores: tuple[FeatureScore, ...] = ()
    drifted: tuple[str, ...] = ()
    explained: Diagnosis = _NOTHING_TOLD
    verdict: HarmVerdict = _NO_VERDICT
    furthest: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    unwatched: tuple[str, ...] = ()


def compare(
    samples: Sequence[Sample],
    summary: SliceSummary,
    *,
    model: ModelVersion,
    reference: Reference,
    features: Sequence[str],
    settings: MonitorSettings,
    evidence: Mapping[str, float] | None = None,
    leading: Sequence[str] = (),
) -> Compared:
    """What some samples of a slice show beside what is normal there.

    samples: in the order of judging. evidence: see score_window. leading: the features that the words are about; those
    above their thresholds where none are named.
    """
    measured = measurements(samples)
    lacking = lacked(features, measured)
    features = [name for name in features if name not in lacking]
    window = _window_of(samples, summary, features, reference)
    found = comparable(summary, window) if samples else None
    if found is None:
        return Compared(window)
    stratum, chosen = found
    known = {name: value for name, value in (evidence or {}).items() if isfinite(value)}
    scores = score_window(
        stratum.features, chosen, features=features, alpha=settings.alpha, evidence=known
    )
    drifted = drifted_features(scores)
    told = [name for name in leading if name not in lacking] or drifted
    return Compared(
        window=window,
        scores=scores,
        drifted=drifted,
        explained=explain(told, stratum.features, chosen, class_names=model.class_names),
        verdict=judge_harm(stratum.features, chosen),
        furthest=_furthest(samples, stratum, chosen, told),
        lacking=lacking,
        unwatched=unwatched(summary.strata[0].features, measured),
    )


def _window_of(
    samples: Sequence[Sample], summary: SliceSummary, features: Sequence[str], reference: Reference
) -> Window:
    # All that the reference has, and then what is watched: a class whose count is ignored is no other class for that.
    every = tuple(summary.strata[0].features)
    window = sample_window(samples, fit=reference.summary.fit, names=every)
    return replace(window, features={name: window.features[name] for name in features})


def leading_features(by_feature: Mapping[str, float]) -> tuple[str, ...]:
    """The features that most of the evidence comes from, the strongest first. by_feature: log10 of what each adds."""
    ordered = sorted(by_feature, key=lambda name: (-by_feature[name], name))
    if not ordered or not isfinite(by_feature[ordered[0]]):
        return ()
    least = by_feature[ordered[0]] - _LEADING_DECADES
    return tuple(name for name in ordered if by_feature[name] >= least)[:MAX_LEADING]


def _furthest(
    samples: Sequence[Sample], stratum: Stratum, chosen: Window, features: Sequence[str]
) -> tuple[str, ...]:
    """The request ids of the samples that lie furthest out in some features, the furthest first."""
    compared = [s for s in samples if s.received_at.astimezone(UTC).hour in stratum.hours]
    distance = np.zeros(len(compared))
    for name in features:
        distance += np.abs(placements(stratum.features[name], chosen.features[name]))
    order = np.argsort(-distance, kind="stable")[:EXAMPLES]
    return tuple(compared[row].request_id for row in order)
