"""The fixed-window rule: its score, its exact threshold, and the level it holds."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.drift.ks import ks_score, score_features, smirnov_threshold
from monitor.records import FeatureArray, FeatureScore, Window

NUMBERS = st.one_of(
    st.just(-np.inf), st.integers(-3, 3).map(float), st.floats(-1e6, 1e6, allow_nan=False)
)
COLUMNS = st.lists(NUMBERS, min_size=1, max_size=30).map(np.array)


def test_score_is_the_largest_distance_of_the_distribution_functions() -> None:
    """Worked by hand: at 2 the reference has 2/4 below, the current 0/2."""
    score = ks_score(np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 4.0]))
    assert score == 0.5


def test_disjoint_samples_score_one() -> None:
    """Nothing is larger than completely different."""
    assert ks_score(np.array([1.0, 2.0]), np.array([3.0])) == 1.0


def test_missing_values_count_as_the_lowest_value() -> None:
    """Half of the values missing where none was moves half of the distribution."""
    missing = -np.inf
    score = ks_score(np.array([0.5, 0.5, 0.5, 0.5]), np.array([missing, missing, 0.5, 0.5]))
    assert score == 0.5


def test_a_changed_constant_scores_one() -> None:
    """A constant feature scores 0 while it keeps its value and 1 when it changes."""
    width = np.full(5, 640.0)
    assert (ks_score(width, np.full(3, 640.0)), ks_score(width, np.full(3, 1280.0))) == (0.0, 1.0)


@given(COLUMNS, COLUMNS)
def test_score_is_symmetric_and_within_bounds(first: FeatureArray, second: FeatureArray) -> None:
    """Swapping the sides changes nothing; every score is in 0..1; a sample does not differ from itself."""
    score = ks_score(first, second)
    assert 0.0 <= score <= 1.0
    assert score == ks_score(second, first)
    assert ks_score(first, first) == 0.0


@given(COLUMNS, COLUMNS)
def test_score_equals_its_definition(first: FeatureArray, second: FeatureArray) -> None:
    """The definition, point by point."""
    points = [*first, *second]
    distances = [abs(np.mean(first <= p) - np.mean(second <= p)) for p in points]
    assert ks_score(first, second) == pytest.approx(max(distances), abs=1e-12)


@pytest.mark.parametrize(("n", "m"), [(4, 3), (5, 2), (4, 4), (6, 3), (3, 6)])
@pytest.mark.parametrize("alpha", [0.5, 0.2, 0.1, 0.05])
def test_threshold_is_the_smallest_that_holds_alpha(n: int, m: int, alpha: float) -> None:
    """Every order of the pooled sample is equally likely without drift: count them all."""
    scores = []
    for places in itertools.combinations(range(n + m), m):
        current = np.array(places, dtype=np.float64)
        reference = np.array([i for i in range(n + m) if i not in places], dtype=np.float64)
        scores.append(ks_score(reference, current))
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


@pytest.mark.parametrize("window_count", [30, 100])
def test_false_alarm_rate_of_a_window_is_at_most_alpha(window_count: int) -> None:
    """Simulated without drift, with ties and missing values among the features; seeded."""
    rng = np.random.default_rng(20261)
    alpha, repeats, names = 0.1, 400, ("gauss", "count", "sparse", "constant", "skewed")
    alarms = 0
    for _ in range(repeats):
        reference, window = (_stationary(rng, names, count) for count in (200, window_count))
        scores = score_features(reference, window, features=names, alpha=alpha)
        alarms += any(score.is_drifted for score in scores)
    # Four standard errors above alpha: at the true level a correct rule fails this once in 30,000 runs.
    assert alarms / repeats <= alpha + 4 * (alpha * (1 - alpha) / repeats) ** 0.5


def test_level_is_not_wasted() -> None:
    """One continuous feature comes close to its level: a threshold that never fires would hold it too."""
    rng = np.random.default_rng(7)
    repeats, alpha = 1000, 0.1
    threshold = smirnov_threshold(200, 100, alpha)
    rate = np.mean(
        [ks_score(rng.normal(size=200), rng.normal(size=100)) > threshold for _ in range(repeats)]
    )
    assert 0.05 <= rate <= 0.14


def test_a_shift_of_one_deviation_is_found() -> None:
    """A hundred samples at the default level, forty features: seeded, every repeat."""
    rng = np.random.default_rng(3)
    threshold = smirnov_threshold(200, 100, 0.001 / 40)
    found = [
        ks_score(rng.normal(size=200), rng.normal(1.0, size=100)) > threshold for _ in range(50)
    ]
    assert sum(found) >= 45


def test_scores_share_the_level_between_the_features() -> None:
    """Two features halve it: the threshold is that of alpha / 2."""
    window = Window(features={"a": np.zeros(50), "b": np.ones(50)}, sample_count=50)
    expected = smirnov_threshold(50, 50, 0.005)
    assert score_features(window, window, features=("a", "b"), alpha=0.01) == (
        FeatureScore(feature="a", score=0.0, threshold=expected),
        FeatureScore(feature="b", score=0.0, threshold=expected),
    )


def test_nothing_watched_gives_no_scores() -> None:
    """All features may be ignored."""
    empty = Window(features={}, sample_count=5)
    assert score_features(empty, empty, features=(), alpha=0.01) == ()


def _stationary(rng: np.random.Generator, names: tuple[str, ...], count: int) -> Window:
    sparse = rng.normal(size=count)
    sparse[rng.random(count) < 0.3] = -np.inf
    columns = (
        rng.normal(size=count),
        rng.poisson(2.0, size=count).astype(np.float64),
        sparse,
        np.full(count, 640.0),
        rng.lognormal(size=count),
    )
    return Window(features=dict(zip(names, columns, strict=True)), sample_count=count)
