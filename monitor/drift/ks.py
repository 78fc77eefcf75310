"""The Kolmogorov-Smirnov distance of a window from a reference that kept some ranks, and its exact threshold.

What it promises: if reference and window are drawn from one distribution, in any order, the chance that the distance
of ONE feature in ONE window exceeds its threshold is at most alpha, for every reference and window size. What it does
not promise: anything over many windows together (monitor.drift.evidence does), and nothing for samples that depend on
each other (a still camera sending the same scene).
"""

from functools import lru_cache
from math import gcd, lgamma, log, sqrt
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.ranks import RankedValues, Values

# Paths on larger lattices take seconds to count; the bound where the search begins holds the level there.
_MAX_CELLS = 20_000_000


class Counts(NamedTuple):
    """How many values of a reference lie below some limits: int64 (m,), at least `surely`, at most `perhaps`."""

    surely: NDArray[np.int64]
    perhaps: NDArray[np.int64]


def count_below(reference: RankedValues, limits: Values) -> Counts:
    """How many values of the reference are smaller than each limit; limits: float32 (m,), no NaN."""
    return _counts(reference, limits, side="left")


def count_at_most(reference: RankedValues, limits: Values) -> Counts:
    """How many values of the reference are smaller than each limit or equal to it; limits: float32 (m,), no NaN."""
    return _counts(reference, limits, side="right")


def ks_score(reference: RankedValues, current: NDArray[np.floating]) -> float:
    """The largest distance between two empirical distribution functions that is sure, 0..1.

    current: (m,), m >= 1, no NaN; -inf stands for a missing value and is a value like any other. Where the reference
    kept all ranks this is the distance itself; else its distribution function is known up to bounds, and what lies
    between them is no distance: never more than that of all its values, and less by no more than the gaps between
    ranks. Source: N. Smirnov, Table for estimating the goodness of fit of empirical distributions, 1948.
    """
    ordered = np.sort(as_float32(current))
    n, m = reference.sample_count, len(ordered)
    # The window's function is highest at its values, and lowest just before them.
    above = np.searchsorted(ordered, ordered, side="right") * n
    above -= count_at_most(reference, ordered).perhaps * m
    below = count_below(reference, ordered).surely * m
    below -= np.searchsorted(ordered, ordered, side="left") * n
    # Integers until the last division: the score must meet the threshold's lattice exactly.
    return max(0, int(above.max()), int(below.max())) / (n * m)


def as_float32(values: NDArray[np.floating]) -> Values:
    """Values as references compare them; what is beyond float32 is infinite."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


@lru_cache(maxsize=4096)
def smirnov_threshold(reference_count: int, window_count: int, alpha: float) -> float:
    """The smallest t with P(score > t) <= alpha when both samples come from one distribution; 1 if there is none less.

    Counts are >= 1; alpha: 1e-9 <= alpha < 1. Exact for continuous distributions. With ties (counts, constants, missing
    values) the score can only be smaller than after breaking the ties at random, so the level holds there too; so it
    does where the reference kept some ranks only. Beyond 20 million pairs of values it is a bound, up to a third too
    large. Source: J. L. Hodges, The significance probability of the Smirnov two-sample test, Arkiv for Matematik 3,
    1958 (lattice paths); the upper end of the search is P. Massart's bound (Annals of Probability 18, 1990) for each
    side.
    """
    cells = reference_count * window_count
    step = gcd(reference_count, window_count)
    margin = log(4 / alpha) / 2
    bound = min(1.0, sqrt(margin / reference_count) + sqrt(margin / window_count))
    if cells > _MAX_CELLS:
        return bound
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


def _counts(reference: RankedValues, limits: Values, *, side: Literal["left", "right"]) -> Counts:
    # What lies between two kept ranks is at least as large as the first and at most as large as the second.
    known = np.concatenate((np.zeros(1, np.int64), reference.ranks))
    next_known = np.append(reference.ranks - 1, reference.sample_count)
    return Counts(
        surely=known[np.searchsorted(reference.highest, limits, side=side)],
        perhaps=next_known[np.searchsorted(reference.lowest, limits, side=side)],
    )
