"""The fixed-window rule: its score, its exact threshold, and the level it holds."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.drift.ks import count_at_most, count_below, ks_score, smirnov_threshold
from monitor.ranks import RankedValues, merge_ranked, rank_values
from monitor.records import FeatureArray

# All ranks of any column here are kept, and fewer than those of the long ones.
ALL_RANKS, FEW_RANKS = 1000, 34

NUMBERS = st.one_of(
    st.just(-np.inf), st.integers(-3, 3).map(float), st.floats(-1e6, 1e6, allow_nan=False)
)
COLUMNS = st.lists(NUMBERS, min_size=1, max_size=30).map(np.array)
# Hypothesis takes seconds over lists this long: it chooses the seed, and how coarse the values are.
LONG_COLUMNS = st.builds(
    lambda seed, count, coarse: _long_column(np.random.default_rng(seed), count, coarse),
    st.integers(0, 2**32 - 1),
    st.integers(60, 120),
    st.sampled_from((0.0, 0.1, 1.0)),
)


def test_score_is_the_largest_distance_of_the_distribution_functions() -> None:
    """Worked by hand: at 2 the reference has 2/4 below, the current 0/2."""
    score = ks_score(_ranked([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 4.0]))
    assert score == 0.5


def test_disjoint_samples_score_one() -> None:
    """Nothing is larger than completely different."""
    assert ks_score(_ranked([1.0, 2.0]), np.array([3.0])) == 1.0


def test_missing_values_count_as_the_lowest_value() -> None:
    """Half of the values missing where none was moves half of the distribution."""
    missing = -np.inf
    score = ks_score(_ranked([0.5, 0.5, 0.5, 0.5]), np.array([missing, missing, 0.5, 0.5]))
    assert score == 0.5


def test_a_changed_constant_scores_one() -> None:
    """A constant feature scores 0 while it keeps its value and 1 when it changes."""
    width = _ranked([640.0] * 5)
    assert (ks_score(width, np.full(3, 640.0)), ks_score(width, np.full(3, 1280.0))) == (0.0, 1.0)


@given(COLUMNS, COLUMNS)
def test_score_is_symmetric_and_within_bounds(first: FeatureArray, second: FeatureArray) -> None:
    """Swapping the sides changes nothing; every score is in 0..1; a sample does not differ from itself."""
    score = ks_score(_ranked(first), second)
    assert 0.0 <= score <= 1.0
    assert score == ks_score(_ranked(second), first)
    assert ks_score(_ranked(first), first) == 0.0


@given(COLUMNS, COLUMNS)
def test_score_equals_its_definition(first: FeatureArray, second: FeatureArray) -> None:
    """The definition, point by point."""
    assert ks_score(_ranked(first), second) == pytest.approx(_distance(first, second), abs=1e-12)


@given(LONG_COLUMNS, COLUMNS)
def test_score_of_some_ranks_is_at_most_the_distance(
    first: FeatureArray, second: FeatureArray
) -> None:
    """What lies between kept ranks is never counted as drift, and little is lost by that."""
    few = rank_values(first, limit=FEW_RANKS)
    score, distance = ks_score(few, second), _distance(first, second)
    widest_gap = int(np.diff(few.ranks).max()) - 1
    assert distance - widest_gap / len(first) - 1e-12 <= score <= distance + 1e-12


@given(LONG_COLUMNS, COLUMNS, COLUMNS)
def test_score_of_a_merged_reference_is_at_most_the_distance(
    first: FeatureArray, other: FeatureArray, second: FeatureArray
) -> None:
    """Ranks that are known up to an interval may lie anywhere in it."""
    parts = [rank_values(first, limit=FEW_RANKS), rank_values(other, limit=FEW_RANKS)]
    merged = merge_ranked(parts, limit=FEW_RANKS)
    assert ks_score(merged, second) <= _distance(np.concatenate((first, other)), second) + 1e-12


@given(LONG_COLUMNS, COLUMNS, COLUMNS)
def test_counts_hold_the_true_count(
    first: FeatureArray, other: FeatureArray, limits: FeatureArray
) -> None:
    """Below and at most each limit, for a merged reference."""
    parts = [rank_values(first, limit=FEW_RANKS), rank_values(other, limit=FEW_RANKS)]
    merged = merge_ranked(parts, limit=FEW_RANKS)
    values, narrow = np.concatenate((first, other)).astype(np.float32), limits.astype(np.float32)
    below, at_most = count_below(merged, narrow), count_at_most(merged, narrow)
    for place, limit in enumerate(narrow):
        assert below.surely[place] <= (values < limit).sum() <= below.perhaps[place]
        assert at_most.surely[place] <= (values <= limit).sum() <= at_most.perhaps[place]


def test_values_beyond_float32_are_infinite() -> None:
    """Without a warning, which would be an error here, and the same on both sides."""
    assert ks_score(_ranked([1.0, 2.0]), np.array([1e300, 1e300])) == 1.0


@pytest.mark.parametrize(("n", "m"), [(4, 3), (5, 2), (4, 4), (6, 3), (3, 6)])
@pytest.mark.parametrize("alpha", [0.5, 0.2, 0.1, 0.05])
def test_threshold_is_the_smallest_that_holds_alpha(n: int, m: int, alpha: float) -> None:
    """Every order of the pooled sample is equally likely without drift: count them all."""
    scores = []
    for places in itertools.combinations(range(n + m), m):
        current = np.array(places, dtype=np.float64)
        reference = np.array([i for i in range(n + m) if i not in places], dtype=np.float64)
        scores.append(ks_score(_ranked(reference), current))
    steps = sorted({*scores, 0.0, 1.0})
    smallest = next(t for t in steps if np.mean([s > t for s in scores]) <= alpha)
    threshold = smirnov_threshold(n, m, alpha)
    assert np.mean([s > threshold for s in scores]) <= alpha
    assert threshold <= smallest


@pytest.mark.parametrize(
    ("n", "m", "alpha", "expected"),
    [
        (1000, 100, 0.001 / 40, 0.246),
        (100, 100, 0.001 / 40, 0.33),
        (2000, 2000, 0.001 / 40, 0.075),
    ],
)
def test_thresholds_of_usual_sizes(n: int, m: int, alpha: float, expected: float) -> None:
    """Known values, so that a slip of a lattice step shows."""
    assert smirnov_threshold(n, m, alpha) == pytest.approx(expected)


def test_threshold_of_a_hopelessly_small_window_is_one() -> None:
    """Three samples cannot be surprising at this level, whatever they are: nothing exceeds 1."""
    assert smirnov_threshold(100, 3, 1e-6) == 1.0


def test_level_is_not_wasted() -> None:
    """One continuous feature comes close to its level: a threshold that never fires would hold it too."""
    rng = np.random.default_rng(7)
    repeats, alpha = 1000, 0.1
    threshold = smirnov_threshold(200, 100, alpha)
    rate = np.mean(
        [
            ks_score(_ranked(rng.normal(size=200)), rng.normal(size=100)) > threshold
            for _ in range(repeats)
        ]
    )
    assert 0.05 <= rate <= 0.14


def test_a_shift_of_one_deviation_is_found() -> None:
    """A hundred samples at the default level, forty features: seeded, every repeat."""
    rng = np.random.default_rng(3)
    threshold = smirnov_threshold(200, 100, 0.001 / 40)
    found = [
        ks_score(_ranked(rng.normal(size=200)), rng.normal(1.0, size=100)) > threshold
        for _ in range(50)
    ]
    assert sum(found) >= 45


def test_threshold_beyond_the_counted_sizes_is_a_bound() -> None:
    """It answers at once, is above the exact one of fewer values and not far from it."""
    exact, bound = smirnov_threshold(2000, 2000, 1e-3), smirnov_threshold(2000, 2_000_000, 1e-3)
    assert 0.04 <= bound <= exact


def _ranked(values: FeatureArray | list[float]) -> RankedValues:
    return rank_values(np.array(values), limit=ALL_RANKS)


def _distance(first: FeatureArray, second: FeatureArray) -> float:
    one, other = first.astype(np.float32), second.astype(np.float32)
    points = np.concatenate((one, other))
    return max(abs(float(np.mean(one <= p) - np.mean(other <= p))) for p in points)


def _long_column(rng: np.random.Generator, count: int, coarse: float) -> FeatureArray:
    values = rng.normal(0, 3, count)
    values = np.round(values / coarse) * coarse if coarse else values
    return np.where(rng.random(count) < 0.2 * rng.random(), -np.inf, values)
