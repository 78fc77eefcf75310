"""Which requests become samples, and with what probability. Pure.

The recorded probabilities are what inverse weighting divides by (Horvitz and Thompson, JASA 47(260), 1952), so each
must be the chance that this very request had before anything was drawn:

- A rule looks at nothing but the request's own detections, and before the draw. What it forces was certain to be kept,
  so its probability is 1, also where the draw would have kept it anyway. All others have the configured rate. Rules
  that looked at other requests, or at what was kept so far, would need another number.
- One number decides about the sample and its image: the image is kept below image_rate, the sample below sample_rate.
  So an image is only ever kept with its sample, and its probability is image_rate itself, not a product.
- What is lost later (a full queue, a failing database) is not in these numbers. It is counted instead; while the
  counters of loss stand still the weights are exact.
"""

from dataclasses import dataclass

from gateway.store.records import Detections


@dataclass(frozen=True, slots=True)
class SamplingRates:
    """How much is kept; ratios, 0..1.

    keep_below_confidence: a request with any box less confident than this is kept with its image; 0 turns it off.
    """

    sample_rate: float
    image_rate: float
    keep_below_confidence: float = 0.0


@dataclass(frozen=True, slots=True)
class Draw:
    """What happens to one request. The probabilities are those of SamplingRates or 1, see above."""

    keeps_sample: bool
    kept_probability: float
    keeps_image: bool
    image_probability: float


def draw_sample(rates: SamplingRates, detections: Detections, *, chance: float) -> Draw:
    """Decide about one request. chance: uniform in 0 <= chance < 1."""
    if _is_forced(rates, detections):
        return Draw(
            keeps_sample=True, kept_probability=1.0, keeps_image=True, image_probability=1.0
        )
    image_rate = min(rates.image_rate, rates.sample_rate)
    return Draw(
        keeps_sample=chance < rates.sample_rate,
        kept_probability=rates.sample_rate,
        keeps_image=chance < image_rate,
        image_probability=image_rate,
    )


def _is_forced(rates: SamplingRates, detections: Detections) -> bool:
    return len(detections) > 0 and bool(detections.confidences.min() < rates.keep_below_confidence)
