"""The bets that a reference admits."""

import numpy as np
import pytest

from monitor.drift.bets import BETS_OF_FEATURE, TAIL_SHARES, plan_bets
from monitor.drift.bounds import upper_tail_bound
from monitor.ranks import merge_ranked, rank_values
from monitor.summaries import Stratum
from tests.monitor.drift.references import NIGHT, names, normal, stratum, summary

SIDE = len(TAIL_SHARES)


def test_no_bet_is_expected_to_grow() -> None:
    """At the bound it keeps its stake on average, and below it loses."""
    bets = plan_bets(
        summary(stratum(normal(np.random.default_rng(1), 300, 2))),
        features=names(2),
        alpha_reference=0.01,
    )
    alpha = 0.01 / (2 * 2 * SIDE)
    for column, share in enumerate(TAIL_SHARES):
        bound = upper_tail_bound(300, max(1, round(share * 300)), alpha)
        for side in (column, column + SIDE):
            win, lose = bets.win[0, 1, side], bets.lose[0, 1, side]
            assert bound * win + (1 - bound) * lose == pytest.approx(np.ones(3))
            assert (win > 1).all()
            assert (lose < 1).all()


def test_limits_are_the_ranks_from_either_end() -> None:
    """Of 1 to 200: the outermost, and those that leave 0.6, 3, 15 and 50 % beyond."""
    values = np.arange(1, 201, dtype=np.float32)[:, None]
    bets = plan_bets(summary(stratum(values)), features=names(1), alpha_reference=0.005)
    assert [200, 200, 195, 171, 101, 1, 1, 6, 30, 100] == bets.limits[0, 0].tolist()


def test_features_stand_in_the_order_asked_for() -> None:
    """Of the columns that will be observed."""
    values = np.stack((np.arange(50.0), np.arange(50.0) + 1000), axis=1)
    bets = plan_bets(summary(stratum(values)), features=["f1", "f0"], alpha_reference=0.005)
    assert [1049, 49] == bets.limits[0, :, 0].tolist()
    assert 2 * BETS_OF_FEATURE == len(bets)


def test_a_merged_reference_is_bet_on_at_its_surest() -> None:
    """Where a rank is known up to an interval, a value has to lie beyond the whole of it."""
    parts = [rank_values(np.arange(1000.0) + shift, limit=64) for shift in (0.0, 500.0)]
    merged = merge_ranked(parts, limit=64)
    bets = plan_bets(
        summary(Stratum(NIGHT, {"f0": merged})), features=names(1), alpha_reference=0.005
    )
    everything = np.sort(np.concatenate((np.arange(1000.0), np.arange(1000.0) + 500)))
    middle = everything[1000]
    assert bets.limits[0, 0, SIDE - 1] > middle
    assert bets.limits[0, 0, 2 * SIDE - 1] < everything[999]


def test_hours_of_no_stratum_have_none() -> None:
    """Nothing is known of what is normal then."""
    values = normal(np.random.default_rng(1), 100, 1)
    day = frozenset(range(6, 24)) - {12}
    bets = plan_bets(
        summary(stratum(values, NIGHT), stratum(values + 5, day)),
        features=names(1),
        alpha_reference=0.005,
    )
    assert [0] * 6 + [1] * 6 + [-1] + [1] * 11 == bets.stratum_of_hour.tolist()


def test_nothing_is_bet_where_nothing_can_be_won() -> None:
    """Of 3 values not even the middle says anything at this level."""
    bets = plan_bets(
        summary(stratum(np.arange(3.0)[:, None])), features=names(1), alpha_reference=1e-9
    )
    assert [1.0] == np.unique(bets.win).tolist() == np.unique(bets.lose).tolist()
