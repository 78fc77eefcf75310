"""The verdict of harm: what decides it, and when it cannot be told."""

import json

import numpy as np
import pytest

from monitor.drift.harm import LARGE_EFFECT, MIN_SAMPLES, HarmVerdict, judge_harm
from monitor.ranks import RankedValues, rank_values
from monitor.records import FeatureArray, Harm, Window

MISSING = -np.inf
Columns = dict[str, FeatureArray]


def test_confidences_that_fell_are_harmful() -> None:
    """By a whole deviation, in a hundred samples."""
    verdict = _judge(_answers(1000), _answers(100, shift=-0.1))
    assert Harm.HARMFUL is verdict.harm
    assert "less sure" in verdict.why


def test_the_same_confidences_are_harmless_once_there_are_enough_samples() -> None:
    """A large effect would have been seen in five hundred samples."""
    verdict = _judge(_answers(1000), _answers(500))
    assert Harm.HARMLESS is verdict.harm
    assert "500 samples" in verdict.why


def test_the_same_confidences_of_few_samples_are_unknown() -> None:
    """Twenty samples would hide a large effect."""
    verdict = _judge(_answers(1000), _answers(20))
    assert Harm.UNKNOWN is verdict.harm
    assert verdict.why.startswith("20 samples cannot tell whether")


def test_a_small_effect_is_never_harmful_however_sure() -> None:
    """Ten thousand samples tell that it is there, and that it is small."""
    verdict = _judge(_answers(10_000), _answers(10_000, shift=-0.01))
    assert verdict.signs[0].lowest > 0
    assert Harm.HARMLESS is verdict.harm


def test_a_large_effect_that_may_be_chance_is_not_harmful() -> None:
    """Of ten samples the interval reaches below zero."""
    verdict = _judge(_answers(1000), _answers(MIN_SAMPLES, shift=-0.05))
    assert verdict.signs[0].effect >= LARGE_EFFECT
    assert verdict.signs[0].lowest <= 0
    assert Harm.UNKNOWN is verdict.harm


def test_surer_answers_are_harmless() -> None:
    """Signs that got better are no harm."""
    assert Harm.HARMLESS is _judge(_answers(1000), _answers(200, shift=0.1)).harm


def test_all_objects_gone_is_harmful() -> None:
    """Missing confidences are the worst, of low_confidence_share as well."""
    columns = {name: np.full(40, MISSING) for name in _answers(1)}
    verdict = _judge(_answers(1000), columns)
    assert Harm.HARMFUL is verdict.harm
    assert {1.0} == {sign.effect for sign in verdict.signs}


def test_fewer_objects_alone_are_not_harmful() -> None:
    """A quiet scene has fewer boxes and candidates; they do not decide."""
    before = _answers(1000) | {"detection_count": np.full(1000, 9.0)}
    after = _answers(500) | {"detection_count": np.full(500, 2.0)}
    assert Harm.HARMLESS is _judge(before, after).harm


def test_fewer_than_ten_samples_tell_nothing() -> None:
    """However bad they are."""
    verdict = _judge(_answers(1000), {name: np.full(9, MISSING) for name in _answers(1)})
    assert (Harm.UNKNOWN, ()) == (verdict.harm, verdict.signs)
    assert verdict.why.startswith("9 samples are too few")


@pytest.mark.parametrize("has_column", [True, False])
def test_a_reference_without_confidences_tells_nothing(has_column: bool) -> None:
    """Objects were never found, or confidences are ignored."""
    before = {name: np.full(100, MISSING) for name in _answers(1)} if has_column else {}
    assert Harm.UNKNOWN is _judge(before, _answers(100)).harm


def test_an_empty_window_tells_nothing() -> None:
    """No sample, no verdict."""
    assert Harm.UNKNOWN is _judge(_answers(100), _answers(0)).harm


def test_constant_confidences_have_an_interval() -> None:
    """Equal values have no variance of their own; what ten samples cannot tell stays unknown."""
    before = {name: np.full(500, 0.5) for name in _answers(1)}
    after = {name: np.full(MIN_SAMPLES, 0.5) for name in _answers(1)}
    assert Harm.UNKNOWN is _judge(before, after).harm


def test_harm_is_rarely_called_where_nothing_changed() -> None:
    """Seeded: the level is 5 %."""
    rng = np.random.default_rng(11)
    called = [
        _judge(_answers(300, rng=rng), _answers(50, rng=rng)).harm is Harm.HARMFUL
        for _ in range(200)
    ]
    assert sum(called) <= 15


def test_the_verdict_has_a_json_form() -> None:
    """Numbers and words only."""
    described = _judge(_answers(1000), _answers(100, shift=-0.1)).describe()
    assert described == json.loads(json.dumps(described, allow_nan=False))
    assert "harmful" == described["harm"]
    assert LARGE_EFFECT == described["large_effect"]


def _answers(count: int, *, shift: float = 0.0, rng: np.random.Generator | None = None) -> Columns:
    drawn = (rng or np.random.default_rng(count)).normal(size=count)
    return {
        "max_confidence": 0.8 + shift + 0.1 * drawn,
        "mean_confidence": 0.6 + shift + 0.1 * drawn,
        "low_confidence_share": 0.3 - shift - 0.1 * drawn,
    }


def _judge(before: Columns, after: Columns) -> HarmVerdict:
    reference: dict[str, RankedValues] = {
        name: rank_values(values, limit=200) for name, values in before.items()
    }
    return judge_harm(reference, Window(after, len(next(iter(after.values())))))
