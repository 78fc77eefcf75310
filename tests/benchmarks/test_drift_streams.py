"""What the drift benchmark takes for the monitor's own numbers, and how it counts."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gateway.inference.postprocess import Thresholds, find_detections
from gateway.inference.preprocess import fit_image
from monitor.drift.levels import level_of_all
from monitor.records import Measurement

if TYPE_CHECKING:
    from benchmarks import drift_figures as figures_of
    from benchmarks.corruptions import Corruption
    from benchmarks.drift_pool import CLEAN, Condition, Pool, above_threshold
    from benchmarks.drift_references import draw_reference, same_as_monitor, table_of
    from benchmarks.drift_streams import Order, Trial, bets_of, changed_picks, try_order
else:
    import drift_figures as figures_of
    from corruptions import Corruption
    from drift_pool import CLEAN, Condition, Pool, above_threshold
    from drift_references import draw_reference, same_as_monitor, table_of
    from drift_streams import Order, Trial, bets_of, changed_picks, try_order

NOISE = Condition(Corruption.NOISE, 3)
ROWS = 20


@pytest.fixture(scope="module")
def pool() -> Pool:
    """Twenty images of three features and a box each, and the same with noise."""
    return Pool("made up", {CLEAN: rows(0.0), NOISE: rows(9.0)}, {CLEAN: 0.5, NOISE: 0.3})


def rows(shift: float) -> tuple[Measurement, ...]:
    """Measurements of which one feature is shifted and one is missing now and then."""
    rng = np.random.default_rng(1)
    return tuple(
        Measurement(
            features={
                "noise": float(value) + shift,
                "contrast": float(value) / 2,
                "max_confidence": None if number % 7 == 0 else float(value),
            },
            detections=((number % 3, 0.5, 0.0, 0.0, 9.0, 9.0),),
            embedding=rng.normal(size=12).astype(np.float32),
        )
        for number, value in enumerate(rng.normal(size=ROWS))
    )


def test_a_lookup_is_the_monitors_own_pass(pool: Pool) -> None:
    """To the last bit, on a stream that changes near its end: what is simulated is what runs."""
    rng = np.random.default_rng(2)
    reference = draw_reference(pool.rows[CLEAN], rng.integers(ROWS, size=300))
    bets = bets_of(reference, level_of_all(0.01, has_slices=False))
    table = table_of(reference, (*pool.rows[CLEAN], *pool.rows[NOISE]))
    picks = rng.integers(ROWS, size=500) + ROWS * (np.arange(500) >= 480)
    assert same_as_monitor(bets, table, picks)


def test_a_trial_is_silent_and_then_rings(pool: Pool) -> None:
    """On a clean stream at every cadence; soon after a change, later when a fifth changed."""
    order = Order(
        300, 0, clean_samples=1000, changed=(NOISE,), mixed=(NOISE,), quiet_samples=(0, 100)
    )
    trial = try_order(pool, order)
    assert {1: False, 10: False, 100: False} == trial.rang
    for quiet in (0, 100):
        at_once, slowly = trial.changed[NOISE, quiet], trial.mixed[NOISE, quiet]
        assert at_once is not None
        assert slowly is not None
        assert at_once < 20 < slowly


def test_trials_draw_streams_of_their_own(pool: Pool) -> None:
    """Another number, another stream; the same order, the same stream."""
    drawn = [
        changed_picks(pool, Order(200, number), NOISE, 0, count=50, share=0.2)
        for number in (1, 1, 2)
    ]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    assert 0 < (drawn[0] >= ROWS).sum() < 25


def test_boxes_above_a_threshold_are_those_found_there() -> None:
    """So one pass of the detector serves the accuracy and the sample."""
    head = np.random.default_rng(3).random((1, 9, 400), np.float32)
    head[:, :4] *= 300
    head[:, 4:] **= 2
    low, high = (
        find_detections(
            head,
            thresholds=Thresholds(confidence=confidence),
            fit=fit_image((640, 640), (640, 640)),
        )
        for confidence in (0.5, 0.9)
    )
    kept = above_threshold(low, Thresholds(confidence=0.9))
    assert 0 < len(kept) < len(low)
    assert np.array_equal(high.boxes_xyxy, kept.boxes_xyxy)
    assert np.array_equal(high.confidences, kept.confidences)


def trial(delay: int | None, mixed: Mapping[tuple[Condition, int], int | None]) -> Trial:
    """One trial with a delay without quiet samples."""
    order = Order(200, 0, changed=(NOISE,), quiet_samples=(0,))
    return Trial(order, {}, {(NOISE, 0): delay}, mixed)


def test_streams_that_never_rang_count(pool: Pool) -> None:
    """They lower the power, and where they are more than half there is no median."""
    trials = [trial(delay, {(NOISE, 0): None}) for delay in (4, 30, 31, None)]
    figures = figures_of.detections(pool, trials)
    assert {"200": {"0": 0.5}} == figures["power_sev3_30"]
    assert {"200": {"0": 31}} == figures["median_delay_sev3"]
    assert {"200": {"0": None}} == figures["delay_20pct_contaminated"]


def test_what_missed_is_said() -> None:
    """Each figure that is not what its target says, with where; a median that is none missed it."""
    figures = {
        "false_alarm_10k": {"200": 0.0, "1000": 0.02},
        "power_sev3_30": {"200": {"0": 1.0, "1000": 0.9}},
        "power_sev1_harmful_50": {"200": {"0": None}},
        "delay_20pct_contaminated": {"200": {"0": None}},
        "state_kb": 300.0,
    }
    assert [
        "delay_20pct_contaminated/200/0: None, at most 150",
        "false_alarm_10k/1000: 0.02, at most 0.01",
        "power_sev3_30/200/1000: 0.9, at least 0.99",
        "state_kb: 300.0, at most 256",
    ] == figures_of.missed(figures)
