"""The two sides of a comparison for people."""

import numpy as np
import pytest

from monitor.summaries import ALL_SAMPLES, Fit, Slice, SliceKind
from monitor.windows.sides import reference_window, window_of
from monitor.windows.slicing import parse_bands
from monitor.windows.summarise import summarise
from tests.monitor.windows.summaries import draw_samples, measured

MISSING = -np.inf


def test_measurements_become_one_array_a_name() -> None:
    """Of double precision, with the values that are compared; what they do not have at all is no number."""
    window = window_of(
        [measured(a=0.1), measured(a=None)], fit=Fit(class_shares={}), names=("a", "b")
    )
    assert 2 == window.sample_count
    assert np.float64 == window.features["a"].dtype
    assert [float(np.float32(0.1)), MISSING] == window.features["a"].tolist()
    assert np.isnan(window.features["b"]).all()


def test_no_measurements_are_an_empty_window() -> None:
    """Of length 0, with every name."""
    window = window_of([], fit=Fit(class_shares={}), names=("a",))
    assert (0, []) == (window.sample_count, window.features["a"].tolist())


def test_a_reference_that_kept_every_value_gives_them_back() -> None:
    """In order, and as many of a feature as were ranked."""
    samples = draw_samples(200)
    window = reference_window(summarise(samples), ALL_SAMPLES, count=1000)
    values = sorted(np.float32(each.measurement.features["f00"] or 0.0) for each in samples)
    assert values == window.features["f00"].tolist()
    assert (200, 100) == (window.sample_count, len(window.features["class_surprise"]))


def test_values_stand_for_equal_shares_of_many_samples() -> None:
    """A thousand samples by a hundred values."""
    samples = draw_samples(1000)
    window = reference_window(summarise(samples), ALL_SAMPLES, count=100)
    values = np.sort([each.measurement.features["f00"] or 0.0 for each in samples])
    assert 100 == len(window.features["f00"])
    assert np.quantile(values, [0.1, 0.5, 0.9]) == pytest.approx(
        np.quantile(window.features["f00"], [0.1, 0.5, 0.9]), abs=0.1
    )


def test_only_the_hours_beside_it_are_shown() -> None:
    """All of them where none is asked for, or none known."""
    bands = parse_bands("06-18,18-24")
    summary = summarise(draw_samples(480, minutes=60.0), bands=bands)
    assert 360 == reference_window(summary, ALL_SAMPLES, count=50).sample_count
    assert 240 == reference_window(summary, ALL_SAMPLES, count=50, hours={7, 8}).sample_count
    assert 120 == reference_window(summary, ALL_SAMPLES, count=50, hours={23, 1}).sample_count
    assert 360 == reference_window(summary, ALL_SAMPLES, count=50, hours={1}).sample_count


def test_a_slice_has_its_own_values() -> None:
    """And one that the reference does not tell apart has none."""
    summary = summarise(draw_samples(400, sources=("a", "b")), max_slices=2)
    assert 200 == reference_window(summary, Slice(SliceKind.SOURCE, "a"), count=50).sample_count
    with pytest.raises(KeyError):
        reference_window(summary, Slice(SliceKind.SOURCE, "c"), count=50)
