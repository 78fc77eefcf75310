"""Whether what is different makes the model worse: a verdict of its own, from what the model says of its answers.

Rules: different is not harmful; where the samples cannot tell, the verdict is UNKNOWN and never a guess; only numbers
that follow accuracy rather than content decide. Measured on 50 photographs under ten corruptions: confidences fall as
mAP50 does (rank correlations of .85 to .88), and differ by effects of .10 or less between the busier and the emptier
half of the photographs. Counts of boxes and of candidates and the overlap of boxes follow mAP50 less well (.72) and
differ by effects of .23 to .46 between those halves: they tell a quiet scene from a busy one, so they do not decide.
Limits were chosen on 25 of the photographs. On the other 25, with windows of 30, 50 and 100 samples, losses of mAP50
above .10 are called harmful in 93, 97 and 98 % of the windows and harmless in 0.1 % at most; losses below .03 are
called harmless in 22, 49 and 83 % and harmful in 4, 3 and 0 %; the rest is unknown. What confidence cannot show stays
unseen: a model that is sure and wrong. Photographs of smaller objects alone are called harmful, though they lose .04.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.ranks import RankedValues, equally_likely
from monitor.records import Harm, Window

# Chosen on half of the photographs: an effect of this size goes with a loss of mAP50 of about 0.1.
LARGE_EFFECT = 0.2
# Fewer have no interval worth the name.
MIN_SAMPLES = 10
# The chance to call harmful what is as good as before, shared by the signs, and to call harmless what is harmful.
_ALPHA_HARMFUL, _ALPHA_HARMLESS = 0.05, 0.05
_MAX_REFERENCE_VALUES = 1000

_BEST, _MEAN, _LOW, _NONE = (
    "max_confidence",
    "mean_confidence",
    "low_confidence_share",
    "no_objects_share",
)
# Each sign, the feature it is made of, and what it means when it is worse.
_SIGNS: Mapping[str, tuple[str, str]] = {
    _BEST: (_BEST, "the best boxes are less sure"),
    _MEAN: (_MEAN, "the model is less sure"),
    _LOW: (_LOW, "more boxes are unsure"),
    _NONE: (_MEAN, "more images have no objects"),
}


@dataclass(frozen=True, slots=True)
class Sign:
    """How much worse one sign of accuracy is, -1..1.

    effect: how much likelier a sample of the window is worse than one of the reference, less how much likelier better.
    lowest: with its level, the effect is larger. highest: with its level, it is smaller.
    """

    name: str
    effect: float
    lowest: float
    highest: float

    @property
    def is_harmful(self) -> bool:
        """Whether it is worse by a large effect that is not chance."""
        return self.effect >= LARGE_EFFECT and self.lowest > 0

    @property
    def is_harmless(self) -> bool:
        """Whether a large effect would have been seen."""
        return self.highest < LARGE_EFFECT


@dataclass(frozen=True, slots=True)
class HarmVerdict:
    """The verdict, why in plain words, and the signs it rests on, the worst first."""

    harm: Harm
    why: str
    signs: tuple[Sign, ...] = ()

    def describe(self) -> dict[str, Any]:
        """The verdict as JSON values."""
        return {
            "harm": self.harm.value,
            "why": self.why,
            "large_effect": LARGE_EFFECT,
            "signs": {
                sign.name: [round(n, 3) for n in (sign.effect, sign.lowest, sign.highest)]
                for sign in self.signs
            },
        }


def judge_harm(reference: Mapping[str, RankedValues], window: Window) -> HarmVerdict:
    """Whether the window's samples are answered worse than the reference's.

    reference: of one stratum, whose hours the samples have (monitor.drift.scores.comparable). Harmful: a sign is worse
    by an effect of LARGE_EFFECT or more, at 5 % over all signs. Harmless: at 5 %, no sign is. Else unknown.
    """
    known = [name for name, (made_of, _) in _SIGNS.items() if made_of in reference]
    known = [name for name in known if _SIGNS[name][0] in window.features]
    if not known or all(_is_all_missing(reference[_SIGNS[name][0]]) for name in known):
        return HarmVerdict(Harm.UNKNOWN, "the reference has no confidences to compare with")
    if window.sample_count < MIN_SAMPLES:
        return HarmVerdict(
            Harm.UNKNOWN,
            f"{window.sample_count} samples are too few: {MIN_SAMPLES} are the least that can tell",
        )
    signs = sorted(
        (_sign(name, reference, window) for name in known), key=lambda sign: -sign.effect
    )
    return _verdict(tuple(signs), window.sample_count)


def _verdict(signs: tuple[Sign, ...], sample_count: int) -> HarmVerdict:
    harmful = [sign for sign in signs if sign.is_harmful]
    if harmful:
        words = " and ".join(_SIGNS[sign.name][1] for sign in harmful[:2])
        why = f"{words} (effect {harmful[0].effect:.2f}, {LARGE_EFFECT} is large)"
        return HarmVerdict(Harm.HARMFUL, why, signs)
    if all(sign.is_harmless for sign in signs):
        why = f"confidence would have shown a large loss in {sample_count} samples, and does not"
        return HarmVerdict(Harm.HARMLESS, why, signs)
    widest = max(signs, key=lambda sign: sign.highest)
    why = (
        f"{sample_count} samples cannot tell whether {_SIGNS[widest.name][1]}"
        f" (effect {widest.lowest:.2f} to {widest.highest:.2f}, {LARGE_EFFECT} is large)"
    )
    return HarmVerdict(Harm.UNKNOWN, why, signs)


def _sign(name: str, reference: Mapping[str, RankedValues], window: Window) -> Sign:
    """One sign with its interval.

    The effect's variance is that of its placements (DeLong et al., Biometrics 44, 1988), and at least what it is
    without ties and without a change (Mann and Whitney, 1947): where all values are equal the first would be 0. The
    interval is the normal distribution's.
    """
    ranked, values = reference[_SIGNS[name][0]], window.features[_SIGNS[name][0]]
    before = np.sort(_badness(name, equally_likely(ranked, count=_MAX_REFERENCE_VALUES)))
    after = np.sort(_badness(name, values.astype(np.float64)))
    of_after, of_before = _placements(before, after), _placements(after, before)
    n, m = ranked.sample_count, len(after)
    variance = max(
        float(of_after.var()) / (m - 1) + float(of_before.var()) / n, (n + m + 1) / (3 * n * m)
    )
    effect, deviation = float(of_after.mean()), sqrt(variance)
    harmful_at = NormalDist().inv_cdf(1 - _ALPHA_HARMFUL / len(_SIGNS))
    harmless_at = NormalDist().inv_cdf(1 - _ALPHA_HARMLESS)
    return Sign(
        name,
        effect,
        lowest=max(-1.0, effect - harmful_at * deviation),
        highest=min(1.0, effect + harmless_at * deviation),
    )


def _badness(name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values that are larger where the answer is worse; an image without boxes is the worst."""
    is_missing = np.isneginf(values)
    if name == _NONE:
        return is_missing.astype(np.float64)
    return np.where(is_missing, np.inf, values if name == _LOW else -values)


def _placements(others: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    # Of each value, the share of the others that is smaller less the share that is larger; others are sorted.
    below = np.searchsorted(others, values, side="left")
    at_most = np.searchsorted(others, values, side="right")
    return (below + at_most) / len(others) - 1


def _is_all_missing(ranked: RankedValues) -> bool:
    return bool(np.isneginf(ranked.highest[-1]))
