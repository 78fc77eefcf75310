"""Windowed scores for people: how far each feature of one window lies from the reference, and whether that is chance.

Rules: a larger score is more drift; every threshold follows from the level and the sizes of reference and window, never
from a constant; samples are compared with what is normal at their hours only. Scores explain an alarm, they do not
raise one: over many windows the level is that of each window, not of all (monitor.drift.evidence has that guarantee).

The score is Evidently's `ks`, its distance and not its p-value. Its other defaults are not calibrated, measured on
clean windows: above 1,000 reference rows it takes Wasserstein or Jensen-Shannon distances against the constant 0.1,
which call 28 to 96 % of clean windows of up to 200 samples drifted; PSI at 0.1 calls 19 to 100 %; its chi-square takes
the reference's counts for exact, 53 to 100 %; no level is shared between the features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from itertools import compress
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from monitor.drift.ks import as_float32, count_at_most, count_below, ks_score, smirnov_threshold
from monitor.ranks import RankedValues
from monitor.records import FeatureScore, Window
from monitor.summaries import SliceSummary, Stratum


def comparable(summary: SliceSummary, window: Window) -> tuple[Stratum, Window] | None:
    """The stratum that most samples of the window belong to, and the window of those samples alone, in their order.

    window: received_at is of each of its samples. None if no sample was received in an hour of any stratum; of strata
    with equally many, the first. newest_request_id and newest_received_at stay those of the whole window.
    """
    hours = np.array([at.astimezone(UTC).hour for at in window.received_at], np.int64)
    members = [np.isin(hours, sorted(stratum.hours)) for stratum in summary.strata]
    counts = [int(member.sum()) for member in members]
    if not any(counts):
        return None
    best = int(np.argmax(counts))
    is_chosen = members[best]
    chosen = replace(
        window,
        features={name: values[is_chosen] for name, values in window.features.items()},
        sample_count=counts[best],
        received_at=tuple(compress(window.received_at, is_chosen)),
    )
    return summary.strata[best], chosen


def score_window(
    reference: Mapping[str, RankedValues],
    window: Window,
    *,
    features: Sequence[str],
    alpha: float,
    evidence: Mapping[str, float] | None = None,
) -> tuple[FeatureScore, ...]:
    """The score of each feature that both sides have, with the threshold that holds alpha over all of them.

    reference: of one stratum, whose hours the window's samples have (`comparable`). features: what is watched, the
    level is shared between them (Bonferroni). alpha: 0..1, exclusive, the chance of any score above its threshold
    without drift. evidence: log10 of each feature's share, put beside its score. A window without samples has no
    scores; one that is too small to be surprising has thresholds of 1.
    """
    if window.sample_count == 0:
        return ()
    judged = [name for name in features if name in reference and name in window.features]
    known_evidence = evidence or {}
    return tuple(
        FeatureScore(
            feature=name,
            score=ks_score(reference[name], window.features[name]),
            threshold=smirnov_threshold(
                reference[name].sample_count, window.sample_count, alpha / len(features)
            ),
            effect=effect_of(reference[name], window.features[name]),
            evidence=known_evidence.get(name),
        )
        for name in judged
    )


def effect_of(reference: RankedValues, values: NDArray[np.floating]) -> float:
    """P(value > reference) - P(value < reference), -1..1: Cliff's delta; a missing value is below every number.

    values: (m,), m >= 1, no NaN. Source: N. Cliff, Dominance statistics, Psychological Bulletin 114, 1993.
    """
    return float(placements(reference, values).mean())


def chance_effect(reference_count: int, window_count: int) -> float:
    """The size below which an effect says nothing: two of its standard deviations without drift; counts are >= 1.

    With ties the deviation is less. Source: H. B. Mann and D. R. Whitney, Annals of Mathematical Statistics 18, 1947.
    """
    pairs = reference_count * window_count
    return 2 * sqrt((reference_count + window_count + 1) / (3 * pairs))


def placements(reference: RankedValues, values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Of each value, the share of the reference that is smaller less the share that is larger: float64 (m,), -1..1.

    Where the reference kept only some ranks, the middle of what is possible.
    """
    limits = as_float32(values)
    below, at_most = count_below(reference, limits), count_at_most(reference, limits)
    doubled = below.surely + below.perhaps + at_most.surely + at_most.perhaps
    return doubled / (2 * reference.sample_count) - 1
