"""Windowed scores: what is compared, the level they hold together, and the effect beside them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.drift.ks import smirnov_threshold
from monitor.drift.scores import (
    chance_effect,
    comparable,
    effect_of,
    placements,
    score_window,
)
from monitor.ranks import RankedValues, merge_ranked, rank_values
from monitor.records import FeatureArray, FeatureScore, Window
from monitor.summaries import ALL_SAMPLES, SliceSummary, Stratum

MISSING = -np.inf
LIMIT = 1000
NUMBERS = st.one_of(st.just(MISSING), st.integers(-3, 3).map(float), st.floats(-1e6, 1e6))
COLUMNS = st.lists(NUMBERS, min_size=1, max_size=30).map(np.array)
# Hypothesis takes seconds over lists this long: it chooses the seed, and how coarse the values are.
LONG_COLUMNS = st.builds(
    lambda seed, count, coarse: _long_column(np.random.default_rng(seed), count, coarse),
    st.integers(0, 2**32 - 1),
    st.integers(60, 120),
    st.sampled_from((0.0, 0.1, 1.0)),
)


def test_scores_share_the_level_between_the_features() -> None:
    """Two features halve it: the threshold is that of alpha / 2."""
    values = {"a": np.zeros(50), "b": np.ones(50)}
    expected = smirnov_threshold(50, 50, 0.005)
    scores = score_window(_reference(values), _window(values), features=("a", "b"), alpha=0.01)
    assert scores == (FeatureScore("a", 0.0, expected), FeatureScore("b", 0.0, expected))


def test_threshold_is_that_of_the_features_own_sample_count() -> None:
    """Fitted features are ranked on half of the reference's samples."""
    reference = _reference({"all": np.arange(100.0), "fitted": np.arange(50.0)})
    window = _window({"all": np.arange(40.0), "fitted": np.arange(40.0)})
    scores = score_window(reference, window, features=("all", "fitted"), alpha=0.01)
    assert [smirnov_threshold(n, 40, 0.005) for n in (100, 50)] == [s.threshold for s in scores]


def test_evidence_stands_beside_the_score() -> None:
    """Of a feature without any there is none."""
    values = {"a": np.zeros(5), "b": np.ones(5)}
    scores = score_window(
        *(_reference(values), _window(values)), features=("a", "b"), alpha=0.01, evidence={"b": 2.5}
    )
    assert [None, 2.5] == [score.evidence for score in scores]


def test_features_that_one_side_lacks_are_left_out() -> None:
    """They cannot be judged; they still cost their share of the level, as they were planned for."""
    both = {"a": np.zeros(50)}
    scores = score_window(_reference(both), _window(both), features=("a", "gone"), alpha=0.01)
    assert scores == (FeatureScore("a", 0.0, smirnov_threshold(50, 50, 0.005)),)


def test_nothing_watched_gives_no_scores() -> None:
    """All features may be ignored."""
    assert score_window({}, _window({"a": np.zeros(5)}), features=(), alpha=0.01) == ()


def test_an_empty_window_has_no_scores() -> None:
    """There is nothing to compare."""
    empty = Window(features={"a": np.zeros(0)}, sample_count=0)
    assert score_window(_reference({"a": np.zeros(5)}), empty, features=("a",), alpha=0.01) == ()


def test_one_sample_is_scored_and_never_drifted() -> None:
    """Its score is 1 and its threshold, too: one sample cannot be surprising at this level."""
    (score,) = score_window(
        *(_reference({"a": np.arange(50.0)}), _window({"a": np.array([99.0])})),
        features=("a",),
        alpha=0.01,
    )
    assert (1.0, 1.0, 1.0, False) == (score.score, score.threshold, score.effect, score.is_drifted)


def test_a_constant_that_changed_and_values_that_vanished_have_drifted() -> None:
    """The score is 1, the effect says which way."""
    reference = _reference({"width": np.full(100, 640.0), "mean_confidence": np.full(100, 0.8)})
    window = _window({"width": np.full(50, 1280.0), "mean_confidence": np.full(50, MISSING)})
    features = ("width", "mean_confidence")
    wide, gone = score_window(reference, window, features=features, alpha=0.01)
    assert (1.0, 1.0, 1.0, -1.0) == (wide.score, wide.effect, gone.score, gone.effect)
    assert wide.is_drifted
    assert gone.is_drifted


def test_all_missing_on_both_sides_is_no_drift() -> None:
    """A feature that never had a value still has none."""
    values = {"a": np.full(30, MISSING)}
    (score,) = score_window(_reference(values), _window(values), features=("a",), alpha=0.01)
    assert (0.0, 0.0) == (score.score, score.effect)


@pytest.mark.parametrize(("window_count", "limit"), [(30, LIMIT), (100, LIMIT), (100, 50)])
def test_false_alarm_rate_of_a_window_is_at_most_alpha(window_count: int, limit: int) -> None:
    """Simulated without drift, with ties and missing values among the features; seeded."""
    rng = np.random.default_rng(20261)
    alpha, repeats = 0.1, 300
    alarms = 0
    for _ in range(repeats):
        reference, current = _stationary(rng, 200), _stationary(rng, window_count)
        ranked = {name: rank_values(values, limit=limit) for name, values in reference.items()}
        scores = score_window(ranked, _window(current), features=tuple(current), alpha=alpha)
        alarms += any(score.is_drifted for score in scores)
    # Four standard errors above alpha: at the true level a correct rule fails this once in 30,000 runs.
    assert alarms / repeats <= alpha + 4 * (alpha * (1 - alpha) / repeats) ** 0.5


@given(COLUMNS, COLUMNS)
def test_effect_equals_its_definition(first: FeatureArray, second: FeatureArray) -> None:
    """Over all pairs of a value of the window and one of the reference."""
    before, after = first.astype(np.float32), second.astype(np.float32)
    larger, smaller = after[:, None] > before, after[:, None] < before
    expected = float(larger.mean() - smaller.mean())
    assert effect_of(rank_values(before, limit=LIMIT), after) == pytest.approx(expected, abs=1e-12)


@given(LONG_COLUMNS, COLUMNS, COLUMNS)
def test_placements_of_a_merged_reference_are_in_range(
    first: FeatureArray, other: FeatureArray, second: FeatureArray
) -> None:
    """Whatever is not known of it."""
    merged = merge_ranked([rank_values(v, limit=34) for v in (first, other)], limit=34)
    assert np.abs(placements(merged, second)).max() <= 1.0


def test_the_window_is_compared_with_the_hours_of_most_of_its_samples() -> None:
    """Three of five samples are of the night; the others are left out, and the order stays."""
    summary = _summary({"brightness": np.arange(50.0)}, {"brightness": np.arange(50.0, 100.0)})
    window = _window({"brightness": np.array([1.0, 60.0, 2.0, 61.0, 3.0])})
    found = comparable(summary, replace(window, received_at=_at(1, 13, 2, 14, 3)))
    assert found is not None
    stratum, chosen = found
    assert stratum is summary.strata[0]
    assert _at(1, 2, 3) == chosen.received_at
    assert ([1.0, 2.0, 3.0], 3) == (chosen.features["brightness"].tolist(), chosen.sample_count)


def test_samples_of_unknown_hours_cannot_be_compared() -> None:
    """No stratum has their hour, or there are none."""
    summary = SliceSummary(ALL_SAMPLES, (Stratum(frozenset({3}), {}),))
    window = replace(_window({"a": np.zeros(2)}), received_at=_at(4, 5))
    assert comparable(summary, window) is None
    assert comparable(summary, Window({"a": np.zeros(0)}, 0)) is None


def test_effects_of_chance_are_mostly_below_their_size() -> None:
    """Two standard deviations: about one in twenty is above; seeded."""
    rng = np.random.default_rng(2)
    limit = chance_effect(200, 50)
    effects = [
        effect_of(rank_values(rng.normal(size=200), limit=LIMIT), rng.normal(size=50))
        for _ in range(300)
    ]
    assert 0.01 <= np.mean(np.abs(effects) > limit) <= 0.10


def _reference(columns: dict[str, FeatureArray]) -> dict[str, RankedValues]:
    return {name: rank_values(values, limit=LIMIT) for name, values in columns.items()}


def _window(columns: dict[str, FeatureArray]) -> Window:
    return Window(features=columns, sample_count=len(next(iter(columns.values()))))


def _at(*hours: int) -> tuple[datetime, ...]:
    # Written in another zone: strata are hours in UTC.
    east = timezone(timedelta(hours=2))
    return tuple(datetime(2030, 1, 2, hour, 30, tzinfo=UTC).astimezone(east) for hour in hours)


def _summary(night: dict[str, FeatureArray], day: dict[str, FeatureArray]) -> SliceSummary:
    hours = frozenset(range(12)), frozenset(range(12, 24))
    strata = (Stratum(hours[0], _reference(night)), Stratum(hours[1], _reference(day)))
    return SliceSummary(ALL_SAMPLES, strata)


def _stationary(rng: np.random.Generator, count: int) -> dict[str, FeatureArray]:
    sparse = rng.normal(size=count)
    sparse[rng.random(count) < 0.3] = MISSING
    return {
        "gauss": rng.normal(size=count),
        "count": rng.poisson(2.0, size=count).astype(np.float64),
        "sparse": sparse,
        "constant": np.full(count, 640.0),
        "skewed": rng.lognormal(size=count),
    }


def _long_column(rng: np.random.Generator, count: int, coarse: float) -> FeatureArray:
    values = rng.normal(0, 3, count)
    values = np.round(values / coarse) * coarse if coarse else values
    return np.where(rng.random(count) < 0.2 * rng.random(), -np.inf, values)
