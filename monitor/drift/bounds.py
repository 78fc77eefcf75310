"""How likely a new value can be beyond an order statistic of a finite reference. Pure.

Why: with n values in the reference, the chance that the next one exceeds their k-th largest is not k / n but a random
number that the reference drew once and for all. Evidence that took k / n for the truth would grow without end on
traffic that never changed; evidence against the bound below does not, unless the reference was drawn unluckier than
the level admits.
"""

from functools import lru_cache
from math import inf, log, log1p

import numpy as np

_HALVINGS = 60


@lru_cache(maxsize=65_536)
def upper_tail_bound(reference_count: int, exceeding: int, alpha: float) -> float:
    """The smallest u such that P(a new value exceeds the k-th largest of n with a chance > u) <= alpha.

    reference_count: n >= 1. exceeding: k, 1..n. alpha: 0 < alpha < 1. Rounded up, 0..1.
    Exact for continuous distributions, where that chance has the distribution Beta(k, n - k + 1); with ties, strict
    exceedances are fewer than after breaking the ties at random, so the bound holds there too. The same bound serves
    the lower side, by symmetry.
    Source: S. S. Wilks, Determination of sample sizes for setting tolerance limits, Annals of Mathematical Statistics
    12, 1941; the quantile is Clopper and Pearson's upper limit for k - 1 of n (Biometrika 26, 1934).
    """
    low, high = 0.0, 1.0
    # P(Binomial(n, high) <= k - 1) <= alpha holds throughout, which is P(Beta(k, n - k + 1) > high) <= alpha.
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _log_binomial_below(reference_count, exceeding, middle) <= log(alpha):
            high = middle
        else:
            low = middle
    return high


def _log_binomial_below(n: int, k: int, p: float) -> float:
    """ln P(fewer than k successes in n trials of chance p)."""
    if p <= 0.0:
        return 0.0
    if p >= 1.0:
        return -inf
    terms = _log_choices(n, k) + np.arange(k) * log(p) + (n - np.arange(k)) * log1p(-p)
    largest = float(terms.max())
    return largest + log(float(np.exp(terms - largest).sum()))


@lru_cache(maxsize=1024)
def _log_choices(n: int, k: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """ln (n over i) for i below k."""
    steps = np.log(np.arange(n, n - k + 1, -1, dtype=np.float64)) - np.log(np.arange(1, k))
    return np.concatenate((np.zeros(1), np.cumsum(steps)))
