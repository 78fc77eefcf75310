"""How the level of false alarms is shared out."""

import pytest

from monitor.drift.levels import Level, level_of_all, level_of_slice


@pytest.mark.parametrize("slices", [1, 16])
def test_all_shares_sum_to_the_level(slices: int) -> None:
    """Of all samples and of as many slices as may ever be watched."""
    levels = [level_of_all(0.01, has_slices=True)]
    levels += [level_of_slice(0.01, max_slices=slices)] * slices
    spent = sum(level.alpha_reference + level.alpha_stream for level in levels)
    assert 0.01 == pytest.approx(spent)


def test_without_slices_all_samples_have_the_whole_level() -> None:
    """Half of it for the reference."""
    assert Level(0.005, 0.005) == level_of_all(0.01, has_slices=False)


def test_an_alarm_rings_at_one_over_its_level() -> None:
    """By Ville's inequality."""
    assert 200.0 == Level(0.005, 0.005).firing
