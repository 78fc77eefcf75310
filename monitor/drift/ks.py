"""The fixed-window rule: a two-sample Kolmogorov-Smirnov distance for each feature, with an exact threshold.

What it promises: if reference and window are drawn from one distribution, in any order, the chance that any watched
feature exceeds its threshold in ONE window is at most alpha, for every reference and window size. What it does not
promise: anything over many windows together, and nothing for samples that depend on each other (a still camera sending
the same scene); consecutive ticks share most of their window, so a false alarm lasts as long as its window.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import gcd, lgamma, log, sqrt

import numpy as np

from monitor.records import FeatureArray, FeatureScore, Window


def score_features(
    reference: Window, window: Window, *, features: Sequence[str], alpha: float
) -> tuple[FeatureScore, ...]:
    """The score of each feature with the threshold that holds alpha over all of them (Bonferroni).

    Both windows hold every name in features and at least one sample. alpha: 0..1, exclusive.
    """
    if not features:
        return ()
    threshold = smirnov_threshold(
        reference.sample_count, window.sample_count, alpha / len(features)
    )
    return tuple(
        FeatureScore(
            feature=name,
            score=ks_score(reference.features[name], window.features[name]),
            threshold=threshold,
        )
        for name in features
    )


def ks_score(reference: FeatureArray, current: FeatureArray) -> float:
    """The largest distance between two empirical distribution functions, 0..1.

    reference (n,), current (m,): float64, n, m >= 1, no NaN; -inf stands for a missing value and is a value like any
    other. Source: N. Smirnov, Table for estimating the goodness of fit of empirical distributions, 1948.
    """
    n, m = len(reference), len(current)
    points = np.concatenate((reference, current))
    below_reference = np.searchsorted(np.sort(reference), points, side="right")
    below_current = np.searchsorted(np.sort(current), points, side="right")
    # Integers until the last division: the score must meet the threshold's lattice exactly.
    return int(np.max(np.abs(below_reference * m - below_current * n))) / (n * m)


@lru_cache(maxsize=4096)
def smirnov_threshold(reference_count: int, window_count: int, alpha: float) -> float:
    """The smallest t with P(score > t) <= alpha when both samples come from one distribution; 1 if there is none less.

    Exact for continuous distributions. With ties (counts, constants, missing values) the score can only be smaller
    than after breaking the ties at random, so the level holds there too. alpha: 1e-9 <= alpha < 1.
    Source: J. L. Hodges, The significance probability of the Smirnov two-sample test, Arkiv for Matematik 3, 1958
    (lattice paths); the upper end of the search is P. Massart's bound (Annals of Probability 18, 1990) for each side.
    """
    cells = reference_count * window_count
    step = gcd(reference_count, window_count)
    margin = log(4 / alpha) / 2
    bound = min(1.0, sqrt(margin / reference_count) + sqrt(margin / window_count))
    # P(score > high * step / cells) <= alpha holds throughout, P(score > low * step / cells) > alpha if low >= 0.
    low, high = -1, min(cells // step, int(bound * cells / step) + 1)
    while high - low > 1:
        middle = (low + high) // 2
        if _probability_above(reference_count, window_count, middle * step) <= alpha:
            high = middle
        else:
            low = middle
    return high * step / cells


def _probability_above(n: int, m: int, limit: int) -> float:
    """P(n * m * score > limit) for two samples of n and m from one continuous distribution.

    Each order of the pooled samples is a path from (0, 0) to (m, n), all equally likely; the score stays within the
    limit if the path stays in the band |i * n - j * m| <= limit. Paths are counted row by row, rescaled to stay in
    range: inside the band of any limit up to Massart's bound one row spans far less than a double's exponents.
    """
    first, last = 0, min(n, limit // m)
    counts = np.ones(last + 1)
    scale = 0.0
    for i in range(1, m + 1):
        next_first = max(0, -((limit - i * n) // m))
        next_last = min(n, (i * n + limit) // m)
        kept = counts[next_first - first :]
        row = np.zeros(next_last - next_first + 1)
        row[: len(kept)] = kept
        counts = np.cumsum(row)
        if counts[-1] == 0.0:
            return 1.0
        scale += log(counts[-1])
        counts /= counts[-1]
        first = next_first
    paths = lgamma(n + m + 1) - lgamma(n + 1) - lgamma(m + 1)
    return float(-np.expm1(min(0.0, scale - paths)))
