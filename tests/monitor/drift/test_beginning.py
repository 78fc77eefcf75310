"""Where a change began is found to the sample where all samples change, and nearly where some do."""

import numpy as np
import pytest

from monitor.drift.beginning import began_at
from monitor.drift.bets import Bets, plan_bets
from monitor.ranks import rank_values
from monitor.summaries import ALL_SAMPLES, HOURS_OF_DAY, SliceSummary, Stratum

NAMES = ("brightness", "noise")


@pytest.fixture(scope="module")
def bets() -> Bets:
    """Two features of 400 normal samples each."""
    rng = np.random.default_rng(3)
    ranked = {name: rank_values(rng.normal(size=400), limit=400) for name in NAMES}
    summary = SliceSummary(ALL_SAMPLES, (Stratum(HOURS_OF_DAY, ranked),))
    return plan_bets(summary, features=NAMES, alpha_reference=0.005)


def found(bets: Bets, before: int, after: int, shift: float, *, seed: int, leading: str) -> int:
    """Where the brightness began to be shifted."""
    values = np.random.default_rng(seed).normal(size=(before + after, 2)).astype(np.float32)
    values[before:, 0] += np.float32(shift)
    return began_at(bets, values, np.zeros(len(values), np.int64), leading=(leading,))


@pytest.mark.parametrize("before", [0, 1, 7, 150])
def test_a_gross_change_is_found_to_the_sample(bets: Bets, before: int) -> None:
    """Wherever in sixteen samples it comes, and however few there are."""
    assert [before] * 20 == [
        found(bets, before, 6, -8.0, seed=seed, leading="brightness") for seed in range(20)
    ]


def test_a_smaller_change_is_found_within_a_few_samples(bets: Bets) -> None:
    """By two standard deviations."""
    errors = [
        abs(100 - found(bets, 100, 20, 2.0, seed=seed, leading="brightness")) for seed in range(40)
    ]
    assert np.median(errors) <= 1
    assert max(errors) <= 12


def test_the_evidence_of_other_features_does_not_count(bets: Bets) -> None:
    """They may have changed at another time."""
    values = np.zeros((40, 2), np.float32)
    values[10:, 1] = 9.0
    values[30:, 0] = 9.0
    hours = np.zeros(40, np.int64)
    assert 30 == began_at(bets, values, hours, leading=("brightness",))
    assert 10 == began_at(bets, values, hours, leading=("noise",))


def test_nothing_to_go_by_is_the_first_sample(bets: Bets) -> None:
    """No samples, or no feature that is known."""
    values, hours = np.zeros((3, 2), np.float32), np.zeros(3, np.int64)
    assert 0 == began_at(bets, values[:0], hours[:0], leading=("noise",))
    assert 0 == began_at(bets, values, hours, leading=("x",))
