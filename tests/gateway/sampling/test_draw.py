"""What is kept, and that the recorded probability is the one that inverse weighting needs."""

import random

import numpy as np
import pytest

from gateway.sampling.draw import Draw, SamplingRates, draw_sample
from gateway.store.records import Detections


def detections(*confidences: float) -> Detections:
    """Boxes with these confidences."""
    count = len(confidences)
    return Detections(
        boxes_xyxy=np.zeros((count, 4), np.float32),
        confidences=np.array(confidences, np.float32),
        class_ids=np.zeros(count, np.int64),
    )


RATES = SamplingRates(sample_rate=0.5, image_rate=0.1, keep_below_confidence=0.4)


@pytest.mark.parametrize(
    ("chance", "keeps_sample", "keeps_image"),
    [(0.0, True, True), (0.0999, True, True), (0.1, True, False), (0.4999, True, False),
     (0.5, False, False), (0.9999, False, False)],
)  # fmt: skip
def test_one_number_decides_about_sample_and_image(
    chance: float, keeps_sample: bool, keeps_image: bool
) -> None:
    """An image is kept only with its sample, and both have the configured probability."""
    draw = draw_sample(RATES, detections(0.9), chance=chance)
    assert draw == Draw(keeps_sample, 0.5, keeps_image, 0.1)


@pytest.mark.parametrize("chance", [0.0, 0.3, 0.9999])
def test_forced_requests_have_probability_one(chance: float) -> None:
    """Also where the draw would have kept them anyway: they could not have been left out."""
    draw = draw_sample(RATES, detections(0.9, 0.39), chance=chance)
    assert draw == Draw(True, 1.0, True, 1.0)


def test_limit_itself_is_not_low() -> None:
    """The rule looks for confidences below its limit; nothing found is nothing unsure."""
    rates = SamplingRates(sample_rate=0.5, image_rate=0.1, keep_below_confidence=0.25)
    assert not draw_sample(rates, detections(0.25), chance=0.9).keeps_sample
    assert not draw_sample(rates, detections(), chance=0.9).keeps_sample


def test_rates_of_nought_and_one() -> None:
    """Nothing is kept at rate 0 and everything at rate 1."""
    nothing, everything = SamplingRates(0.0, 0.0), SamplingRates(1.0, 1.0)
    assert not draw_sample(nothing, detections(0.1), chance=0.0).keeps_sample
    assert draw_sample(everything, detections(0.1), chance=0.999999).keeps_image


def test_image_rate_cannot_exceed_sample_rate() -> None:
    """An image without its sample would have no weight."""
    draw = draw_sample(SamplingRates(0.2, 0.6), detections(0.9), chance=0.3)
    assert draw == Draw(False, 0.2, False, 0.2)


def test_inverse_weights_estimate_the_whole() -> None:
    """Weighted by 1/p, what was kept tells the mean of everything, forced requests included.

    Half of the requests are unsure and worth 1, half are sure and worth 0. Unweighted, what is kept says 0.67.
    The standard error of the estimate is below 0.01, so 0.05 is five of them.
    """
    rng = random.Random(5)
    weights: list[tuple[float, float]] = []
    for number in range(4000):
        worth = float(number % 2)
        found = detections(0.1 if worth else 0.9)
        draw = draw_sample(RATES, found, chance=rng.random())
        if draw.keeps_sample:
            weights.append((worth, 1 / draw.kept_probability))
    estimate = sum(w * v for v, w in weights) / sum(w for _, w in weights)
    assert abs(estimate - 0.5) < 0.05
    assert sum(v for v, _ in weights) / len(weights) > 0.6
