"""The upper bound of a tail's chance against what is known of it exactly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from monitor.drift.bounds import upper_tail_bound


@pytest.mark.parametrize(
    ("count", "exceeding", "alpha", "bound"),
    [(1, 1, 0.5, 0.5), (2, 1, 0.25, 0.5), (200, 1, 1e-5, 0.0559398), (4, 4, 0.5, 0.840896)],
)
def test_known_bounds(count: int, exceeding: int, alpha: float, bound: float) -> None:
    """Of the largest of n it is 1 - alpha ** (1 / n); of the smallest, the n-th root of 1 - alpha."""
    assert bound == pytest.approx(upper_tail_bound(count, exceeding, alpha), abs=1e-6)


@given(st.integers(1, 5000), st.floats(0, 1), st.floats(-12, -0.31).map(lambda power: 10.0**power))
def test_it_is_the_quantile_of_the_beta_distribution(
    count: int, place: float, alpha: float
) -> None:
    """And is rounded up, so that what relies on it stays true."""
    exceeding = 1 + int(place * (count - 1))
    bound = upper_tail_bound(count, exceeding, alpha)
    above = beta.sf(bound, exceeding, count - exceeding + 1)
    assert above <= alpha * (1 + 1e-6)
    assert beta.sf(bound - 1e-6, exceeding, count - exceeding + 1) >= alpha * (1 - 1e-6)


def test_a_larger_reference_is_trusted_more() -> None:
    """The bound comes down to k / n, and never below."""
    bounds = [upper_tail_bound(count, count // 10, 1e-4) for count in (100, 1000, 10_000)]
    assert bounds == sorted(bounds, reverse=True)
    assert all(0.1 < bound < 0.25 for bound in bounds)


def test_references_are_seldom_unluckier_than_the_level() -> None:
    """Of uniform values the chance to exceed the 5th largest is one less that value."""
    rng = np.random.default_rng(5)
    fifth_largest = np.sort(rng.random((20_000, 50)), axis=1)[:, -5]
    unlucky = float((1 - fifth_largest > upper_tail_bound(50, 5, 0.05)).mean())
    assert 0.04 < unlucky < 0.06
