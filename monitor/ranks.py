"""Chosen order statistics of a feature: what a reference keeps of its values. Pure numpy.

Rules: everything is float32, because values are compared with the reference's and rounding both the same way keeps
their order; -inf is a missing value, below every number; a merged rank is known up to an interval that surely holds it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Values: TypeAlias = NDArray[np.float32]
Ranks: TypeAlias = NDArray[np.int64]

# The ranks next to either end are all kept: what lies beyond the largest few values is the strongest sign of drift.
_END_RANKS = 16
# With fewer, equal distances would leave nothing between those and a hundredth of all.
_EVEN_LIMIT = 256


@dataclass(frozen=True, slots=True)
class RankedValues:
    """The ranks[i]-th smallest of sample_count values lies in lowest[i]..highest[i], which are equal unless merged.

    ranks: int64 (r,), r >= 1, strictly increasing from 1 to sample_count. lowest, highest: float32 (r,),
    non-decreasing, never NaN or +inf.
    """

    sample_count: int
    ranks: Ranks
    lowest: Values
    highest: Values


def rank_values(values: NDArray[np.floating], *, limit: int) -> RankedValues:
    """The order statistics of some values, at most `limit` of them; all if there are no more.

    values: (n,), n >= 1, -inf for a missing one, no NaN, no +inf. limit: >= 4.
    """
    ordered = np.sort(values.astype(np.float32))
    ranks = choose_ranks(len(ordered), limit=limit)
    chosen = ordered[ranks - 1]
    return RankedValues(len(ordered), ranks, chosen, chosen)


def choose_ranks(count: int, *, limit: int) -> Ranks:
    """Ranks to keep of `count` values: those next to the ends, and others at equal distances; at most limit, >= 4.

    Where the limit leaves no room for that, each rank is about as many times further from its end as the one before,
    and those at equal distances are half of them, or none.
    """
    if count <= limit:
        return np.arange(1, count + 1, dtype=np.int64)
    if limit >= _EVEN_LIMIT:
        ends = np.arange(1, _END_RANKS + 1, dtype=np.int64)
    else:
        number = limit // 2 if limit < 2 * _END_RANKS else limit // 4
        ends = np.geomspace(1, (count + 1) / 2, number).round().astype(np.int64)
    middle = np.linspace(1, count, limit - 2 * len(ends)).round().astype(np.int64)
    return np.unique(np.concatenate((ends, middle, count + 1 - ends)))


def merge_ranked(parts: Sequence[RankedValues], *, limit: int) -> RankedValues:
    """The order statistics of all values of several references together, as surely as the parts tell.

    parts: at least one. Where a part left values out between two ranks, they may lie anywhere between; lowest and
    highest hold whatever they are, so a bound that uses the worse end stays true.
    """
    count = sum(part.sample_count for part in parts)
    ranks = choose_ranks(count, limit=limit)
    tops = np.unique(np.concatenate([part.highest for part in parts]))
    # Surely at most `top`: so many values of each part.
    surely_below = sum(_count_at_most(part, tops) for part in parts)
    highest = tops[np.searchsorted(surely_below, ranks, side="left")]
    bottoms = np.unique(np.concatenate([part.lowest for part in parts]))
    # Possibly smaller than `bottom`: so many values of each part.
    perhaps_below = sum(_count_perhaps_below(part, bottoms) for part in parts)
    lowest = bottoms[np.searchsorted(perhaps_below, ranks, side="left") - 1]
    return RankedValues(count, ranks, lowest, highest)


def equally_likely(ranked: RankedValues, *, count: int) -> NDArray[np.float64]:
    """Values that stand for the distribution, each for the same share of it: for distances and for plots.

    Gives float64 (min(count, sample_count),), non-decreasing; the middle of an interval where a rank has one. Between
    two kept ranks the nearer one stands in.
    """
    number = min(count, ranked.sample_count)
    wanted = (np.arange(number) + 0.5) / number * ranked.sample_count + 0.5
    after = np.searchsorted(ranked.ranks, wanted, side="left").clip(0, len(ranked.ranks) - 1)
    before = (after - 1).clip(0)
    is_nearer = wanted - ranked.ranks[before] < ranked.ranks[after] - wanted
    chosen = np.where(is_nearer, before, after)
    lowest = ranked.lowest[chosen].astype(np.float64)
    highest = ranked.highest[chosen].astype(np.float64)
    # -inf and -inf have no middle.
    return np.where(
        np.isneginf(lowest), lowest, (lowest + np.where(np.isneginf(highest), 0, highest)) / 2
    )


def _count_at_most(part: RankedValues, limits: Values) -> Ranks:
    known = np.concatenate((np.zeros(1, np.int64), part.ranks))
    return known[np.searchsorted(part.highest, limits, side="right")]


def _count_perhaps_below(part: RankedValues, limits: Values) -> Ranks:
    # The first rank that is surely not below: all before it may be.
    known = np.append(part.ranks - 1, part.sample_count)
    return known[np.searchsorted(part.lowest, limits, side="left")]
