"""The diagnosis says in plain words what changed and which way."""

import numpy as np
import pytest

from monitor.drift.diagnosis import diagnose, direction, drifted_features
from monitor.records import FeatureScore, Window

MISSING = -np.inf


def test_drifted_features_come_worst_first() -> None:
    """By how far they exceed the threshold; equal to it is not above it."""
    scores = (
        FeatureScore(feature="a", score=0.30, threshold=0.25),
        FeatureScore(feature="b", score=0.90, threshold=0.25),
        FeatureScore(feature="c", score=0.25, threshold=0.25),
    )
    assert drifted_features(scores) == ("b", "a")


def test_darker_and_blurrier_images_are_called_so() -> None:
    """Adjectives share one clause."""
    before = _window(brightness=[0.5, 0.6, 0.5], sharpness=[9.0, 8.0, 9.0])
    after = _window(brightness=[0.1, 0.2, 0.1], sharpness=[3.0, 4.0, 3.0])
    assert (
        diagnose(("sharpness", "brightness"), before, after, class_names=())
        == "images are blurrier and darker than the reference"
    )


def test_three_adjectives_are_joined_with_commas() -> None:
    """A list as people write it."""
    before = _window(brightness=[0.5], sharpness=[9.0], noise=[1.0])
    after = _window(brightness=[0.1], sharpness=[3.0], noise=[7.0])
    assert (
        diagnose(("noise", "sharpness", "brightness"), before, after, class_names=())
        == "images are noisier, blurrier and darker than the reference"
    )


def test_outputs_and_classes_have_clauses_of_their_own() -> None:
    """Classes are named where their names are known."""
    before = _window(detection_count=[4.0], class_count_1=[3.0], class_count_7=[0.0])
    after = _window(detection_count=[1.0], class_count_1=[0.0], class_count_7=[2.0])
    drifted = ("class_count_1", "detection_count", "class_count_7")
    assert diagnose(drifted, before, after, class_names=("gear", "bolt")) == (
        "fewer objects of class bolt are found; fewer objects are found; "
        "more objects of class 7 are found"
    )


def test_other_classes_are_named_so() -> None:
    """A class that the reference never counted."""
    before, after = _window(class_count_other=[0.0]), _window(class_count_other=[3.0])
    assert (
        diagnose(("class_count_other",), before, after, class_names=())
        == "more objects of other classes are found"
    )


def test_values_that_went_missing_are_said_to_be_missing() -> None:
    """The few values that are left are not compared."""
    before = _window(mean_confidence=[0.8, 0.9, 0.8, 0.9])
    after = _window(mean_confidence=[MISSING, MISSING, 0.9, 0.9])
    assert (
        diagnose(("mean_confidence",), before, after, class_names=())
        == "mean confidence is missing more often"
    )


def test_unknown_features_are_named_as_they_are() -> None:
    """A gateway newer than this monitor still gets a diagnosis."""
    before, after = _window(glare_index=[1.0, 1.0]), _window(glare_index=[5.0, 5.0])
    assert diagnose(("glare_index",), before, after, class_names=()) == "glare index is higher"


def test_equal_centres_are_a_different_spread() -> None:
    """Median and mean are the same, the distribution is not."""
    before, after = _window(brightness=[0.4, 0.5, 0.6]), _window(brightness=[0.0, 0.5, 1.0])
    assert (
        diagnose(("brightness",), before, after, class_names=())
        == "brightness is spread differently"
    )


def test_no_drift_has_no_diagnosis() -> None:
    """Nothing to say is the empty text."""
    assert diagnose((), _window(), _window(), class_names=()) == ""


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([1.0, 2.0], [3.0, 4.0], 1),
        ([3.0, 4.0], [1.0, 2.0], -1),
        ([0.0, 0.0, 0.0], [0.0, 0.0, 3.0], 1),  # medians agree, means do not
        ([MISSING, 1.0], [MISSING, 1.0], 0),
        ([MISSING], [1.0], 0),
    ],
)
def test_direction(before: list[float], after: list[float], expected: int) -> None:
    """By the median, then the mean, over the values there are."""
    assert direction(np.array(before), np.array(after)) == expected


def _window(**columns: list[float]) -> Window:
    arrays = {name: np.array(values) for name, values in columns.items()}
    return Window(features=arrays, sample_count=max(map(len, arrays.values()), default=0))
