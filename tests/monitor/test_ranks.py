"""What is kept of a feature's values is true of them, whatever they are and however often references were merged."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from monitor.ranks import (
    RankedValues,
    choose_ranks,
    equally_likely,
    merge_ranked,
    rank_values,
)

MISSING = -np.inf
NUMBERS = st.just(MISSING) | st.floats(-1e6, 1e6, width=32) | st.sampled_from([0.0, 1.0, 2.0])
COLUMNS = st.lists(NUMBERS, min_size=1, max_size=120)
LIMITS = st.integers(4, 60)


@given(COLUMNS, LIMITS)
def test_ranked_values_are_the_true_order_statistics(values: list[float], limit: int) -> None:
    """The first and the last among them, at most as many as allowed, and all if there are no more."""
    ranked = rank_values(np.array(values), limit=limit)
    ordered = np.sort(np.array(values, np.float32))
    assert ranked.sample_count == len(values)
    assert [1, len(values)] == [ranked.ranks[0], ranked.ranks[-1]]
    assert len(ranked.ranks) <= limit
    assert (np.diff(ranked.ranks) > 0).all()
    assert ordered[ranked.ranks - 1].tolist() == ranked.lowest.tolist() == ranked.highest.tolist()
    if len(values) <= limit:
        assert ordered.tolist() == ranked.lowest.tolist()


@given(st.lists(st.tuples(COLUMNS, LIMITS), min_size=1, max_size=4), LIMITS)
def test_merged_intervals_hold_the_true_values(
    parts: list[tuple[list[float], int]], limit: int
) -> None:
    """Of the values of all parts together, though each part forgot most of its own."""
    merged = merge_ranked([_ranked(*part) for part in parts], limit=limit)
    _assert_holds(merged, np.concatenate([np.array(values) for values, _ in parts]))
    assert len(merged.ranks) <= limit


@given(st.lists(st.tuples(COLUMNS, LIMITS), min_size=3, max_size=3), LIMITS)
def test_merging_what_was_merged_stays_true(
    parts: list[tuple[list[float], int]], limit: int
) -> None:
    """Intervals of intervals."""
    first, second, third = (_ranked(*part) for part in parts)
    merged = merge_ranked([merge_ranked([first, second], limit=limit), third], limit=limit)
    _assert_holds(merged, np.concatenate([np.array(values) for values, _ in parts]))


@given(COLUMNS, COLUMNS)
def test_parts_that_forgot_nothing_merge_exactly(first: list[float], second: list[float]) -> None:
    """As if they had been one reference."""
    merged = merge_ranked([_ranked(first, 120), _ranked(second, 120)], limit=240)
    together = rank_values(np.array(first + second), limit=240)
    assert together.lowest.tolist() == merged.lowest.tolist() == merged.highest.tolist()


@given(st.lists(st.tuples(COLUMNS, LIMITS), min_size=1, max_size=3), LIMITS, st.integers(1, 300))
def test_equally_likely_values_never_fall(
    parts: list[tuple[list[float], int]], limit: int, count: int
) -> None:
    """No more than there were samples, and no number that is none."""
    merged = merge_ranked([_ranked(*part) for part in parts], limit=limit)
    values = equally_likely(merged, count=count)
    assert min(count, merged.sample_count) == len(values)
    assert not np.isnan(values).any()
    assert not np.isposinf(values).any()
    assert (values[:-1] <= values[1:]).all()


@given(COLUMNS)
def test_equally_likely_values_of_all_are_the_values(values: list[float]) -> None:
    """Nothing stands in where nothing was left out."""
    likely = equally_likely(_ranked(values, 120), count=len(values))
    assert np.sort(np.array(values, np.float32)).tolist() == likely.tolist()


def test_a_missing_value_stays_below_every_number() -> None:
    """Also where a merged rank may be missing or not: what may be missing counts as missing."""
    ranked = rank_values(np.array([1.0, MISSING, -3e38, MISSING]), limit=4)
    assert [MISSING, MISSING, np.float32(-3e38), 1.0] == ranked.lowest.tolist()
    halves = RankedValues(3, np.array([1, 3]), _numbers(MISSING, 5.0), _numbers(MISSING, 5.0))
    merged = merge_ranked([halves], limit=4)
    assert [1, 2, 3] == merged.ranks.tolist()
    assert [MISSING, MISSING, 5.0] == merged.lowest.tolist()
    assert [MISSING, 5.0, 5.0] == merged.highest.tolist()
    assert [MISSING, MISSING, 5.0] == equally_likely(merged, count=3).tolist()


@pytest.mark.parametrize("limit", [20, 40, 200, 400])
@pytest.mark.parametrize("count", [100, 1_000, 10_000])
def test_the_ranks_that_bets_need_have_one_near(count: int, limit: int) -> None:
    """Far from the middle the share of values beyond a kept rank is of the order that is wanted."""
    ranks = choose_ranks(count, limit=limit)
    assert len(ranks) <= limit
    for share in (0.03, 0.15, 0.5):
        nearest = ranks[np.abs(ranks - share * count).argmin()]
        assert 0.45 <= nearest / (share * count) <= 2.2


def _ranked(values: list[float], limit: int) -> RankedValues:
    return rank_values(np.array(values), limit=limit)


def _numbers(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def _assert_holds(ranked: RankedValues, values: NDArray[np.float64]) -> None:
    true = np.sort(values.astype(np.float32))[ranked.ranks - 1]
    assert len(values) == ranked.sample_count
    assert (ranked.lowest <= true).all()
    assert (true <= ranked.highest).all()
    assert (ranked.lowest[:-1] <= ranked.lowest[1:]).all()
    assert (ranked.highest[:-1] <= ranked.highest[1:]).all()
