"""The bets against "nothing changed" that a reference admits. Pure numpy.

For each feature, on each side, at some ranks of the reference: a new value lies beyond that rank's value with a chance
of at most u (monitor.drift.bounds). A bet stakes on its lying there more often: it multiplies its stake by win if the
value does and by lose if not, with u * win + (1 - u) * lose = 1, so that without a change no bet is expected to grow.
What is far out of the reference is told by the outermost rank, what has moved as a whole by the middle ones; the
eager bet tells a complete change within a few samples, the patient one a change in a fifth of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.drift.bounds import upper_tail_bound
from monitor.ranks import RankedValues
from monitor.summaries import SliceSummary, Stratum

# Shares of the reference beyond the rank; the smallest stands for the outermost value of any reference.
TAIL_SHARES = (0.0, 0.006, 0.03, 0.15, 0.5)
# What a bet keeps of its stake when the value does not lie beyond.
LOSSES = (0.03, 0.35, 0.8)
SIDES = 2
BETS_OF_FEATURE = SIDES * len(TAIL_SHARES) * len(LOSSES)

# Where the bound is nearly 1, nothing can be won.
_MAX_BOUND = 0.98
_HOURS = 24
_NO_STRATUM = -1


@dataclass(frozen=True, slots=True)
class Bets:
    """The bets on one slice of the samples.

    features: in the order of the columns of what is observed, F of them. stratum_of_hour: int64 (24,), -1 for none.
    limits: float32 (S, F, 10), the rank's value for each side and tail share: a value lies beyond the first 5 if it is
    larger, beyond the others if it is smaller. win, lose: float64 (S, F, 10, 3).
    """

    features: tuple[str, ...]
    stratum_of_hour: NDArray[np.int64]
    limits: NDArray[np.float32]
    win: NDArray[np.float64]
    lose: NDArray[np.float64]

    def __len__(self) -> int:
        """How many bets there are."""
        return len(self.features) * BETS_OF_FEATURE


def plan_bets(summary: SliceSummary, *, features: Sequence[str], alpha_reference: float) -> Bets:
    """The bets that a slice of a reference admits.

    features: at least one, each in every stratum. alpha_reference: the chance, at most, that any of the bounds is too
    low because the reference was drawn unluckily; shared equally between all of them.
    """
    bounds = len(summary.strata) * len(features) * SIDES * len(TAIL_SHARES)
    planned = [_plan(stratum, features, alpha_reference / bounds) for stratum in summary.strata]
    limits, win, lose = (np.stack(arrays) for arrays in zip(*planned, strict=True))
    stratum_of_hour = np.full(_HOURS, _NO_STRATUM)
    for number, stratum in enumerate(summary.strata):
        stratum_of_hour[sorted(stratum.hours)] = number
    return Bets(tuple(features), stratum_of_hour, limits, win, lose)


def _plan(
    stratum: Stratum, features: Sequence[str], alpha: float
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    limits = np.zeros((len(features), SIDES * len(TAIL_SHARES)), np.float32)
    bounds = np.ones_like(limits, dtype=np.float64)
    for row, name in enumerate(features):
        ranked = stratum.features[name]
        for column, share in enumerate(TAIL_SHARES):
            upper = _rank_index(ranked, ranked.sample_count - _exceeding(ranked, share) + 1)
            lower = _rank_index(ranked, _exceeding(ranked, share))
            # The worse end of what a merged reference knows of the rank.
            limits[row, column] = ranked.highest[upper]
            limits[row, column + len(TAIL_SHARES)] = ranked.lowest[lower]
            for index, from_end in (
                (column, ranked.sample_count - int(ranked.ranks[upper]) + 1),
                (column + len(TAIL_SHARES), int(ranked.ranks[lower])),
            ):
                bounds[row, index] = upper_tail_bound(ranked.sample_count, from_end, alpha)
    win, lose = _payoffs(bounds)
    return limits, win, lose


def _payoffs(bounds: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    kept = np.array(LOSSES)
    bounds = bounds[..., None]
    win = (1 - (1 - bounds) * kept) / bounds
    is_open = bounds <= _MAX_BOUND
    return np.where(is_open, win, 1.0), np.where(is_open, kept, 1.0)


def _exceeding(ranked: RankedValues, share: float) -> int:
    return max(1, round(share * ranked.sample_count))


def _rank_index(ranked: RankedValues, rank: int) -> int:
    return int(np.abs(ranked.ranks - rank).argmin())
