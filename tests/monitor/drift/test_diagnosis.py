"""The diagnosis says in plain words what changed and which way, and keeps the numbers."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.drift.diagnosis import (
    MAX_NAMED_FEATURES,
    MAX_SENTENCE_CHARACTERS,
    Diagnosis,
    drifted_features,
    explain,
)
from monitor.ranks import rank_values
from monitor.records import FeatureArray, FeatureScore, Window

MISSING = -np.inf
SPREAD = np.linspace(-0.05, 0.05, 60)
NAMES = (
    "brightness",
    "mean_confidence",
    "class_count_1",
    "class_count_other",
    "embedding_2",
    "embedding_distance",
    "glare_index",
    "detection_count",
)
NUMBERS = st.one_of(st.just(MISSING), st.floats(-1e30, 1e30))
COLUMNS = st.integers(1, 20).flatmap(
    lambda count: st.fixed_dictionaries(
        dict.fromkeys(NAMES, st.lists(NUMBERS, min_size=count, max_size=count).map(np.array))
    )
)


def test_drifted_features_come_worst_first() -> None:
    """By how far they exceed the threshold; equal to it is not above it."""
    scores = (
        FeatureScore(feature="a", score=0.30, threshold=0.25),
        FeatureScore(feature="b", score=0.90, threshold=0.25),
        FeatureScore(feature="c", score=0.25, threshold=0.25),
    )
    assert ("b", "a") == drifted_features(scores)


def test_the_worst_feature_has_its_numbers_and_the_others_words() -> None:
    """Adjectives share one clause, outputs have clauses of their own, the pattern comes last."""
    found = _explain(
        ("brightness", 0.46, 0.21),
        ("contrast", 0.3, 0.1),
        ("entropy", 7.2, 5.1),
        ("mean_confidence", 0.6, 0.4),
    )
    assert found.sentence == (
        "brightness fell from 0.46 to 0.21; images are flatter and poorer in grey levels than the reference; "
        "the model is less sure"
    )
    assert ("brightness", "contrast", "entropy", "mean_confidence") == found.features


def test_a_known_pattern_is_named() -> None:
    """Detail and bits go together."""
    found = _explain(("sharpness", 7.0, 4.0), ("noise", 3.0, 1.0), ("bits_per_pixel", 2.0, 1.0))
    assert found.sentence == (
        "sharpness fell from 7 to 4; images are smoother and poorer in detail or more compressed than the reference; "
        "looks like blur (out of focus, motion or lost resolution)"
    )
    assert found.pattern is not None
    assert "blur" == found.pattern.name


def test_the_pattern_comes_from_all_features_not_only_the_told() -> None:
    """The evidence may rest on one of them."""
    columns = {"sharpness": (7.0, 4.0), "noise": (3.0, 1.0), "bits_per_pixel": (2.0, 1.0)}
    found = _explain(*((name, *both) for name, both in columns.items()), told=("noise",))
    assert found.pattern is not None
    assert ("noise",) == found.features


@pytest.mark.parametrize(
    ("feature", "before", "after", "expected"),
    [
        ("width", 1280.0, 640.0, "width fell from 1280 to 640 pixels"),
        ("noise", 2.0, 8.5, "noise rose from 2 to 8.5 grey levels"),
        ("class_count_1", 1.5, 4.25, "the count of objects of class bolt rose from 1.5 to 4.25 an image"),
        ("class_count_7", 3.0, 1.0, "the count of objects of class 7 fell from 3 to 1 an image"),
        ("class_count_other", 0.0, 2.0, "the count of objects of other classes rose from 0 to 2 an image"),
        ("glare_index", 1.0, 5.0, "glare index rose from 1 to 5"),
        ("embedding_2", 0.1, 1.9, "scenes differ from the reference's in kind"),
    ],
)  # fmt: skip
def test_the_worst_feature_in_its_own_words(
    feature: str, before: float, after: float, expected: str
) -> None:
    """Units, class names, and names that are unknown; a direction of the embedding has no unit that says anything."""
    assert expected == _explain((feature, before, after)).sentence.split("; looks like")[0]


def test_classes_are_named_in_words() -> None:
    """After the worst, by direction alone."""
    found = _explain(("glare", 1, 9), ("class_count_0", 4, 1), ("class_count_1", 1, 4))
    assert found.sentence == (
        "glare rose from 1 to 9; fewer objects of class gear are found; more objects of class bolt are found"
        "; looks like another mix of objects"
    )


def test_a_hostile_class_name_stays_short_and_on_its_line() -> None:
    """Whoever seals a model names its classes."""
    reference = {"class_count_0": rank_values(np.zeros(60), limit=100)}
    window = Window({"class_count_0": np.ones(60)}, 60)
    name = "a\nb\x1b[31m" + 500 * "x"
    sentence = explain(("class_count_0",), reference, window, class_names=(name,)).sentence
    assert sentence.isprintable()
    assert len(sentence) < 150


def test_all_detections_vanishing_is_said_once() -> None:
    """Every feature of boxes is missing, for one reason."""
    names = ("mean_confidence", "max_confidence", "mean_box_area", "class_surprise")
    found = _explain(*((name, 0.5, MISSING) for name in names))
    assert "no objects are found any more" == found.sentence
    assert (None, 0.0, 1.0) == (
        found.changes[0].after, found.changes[0].missing_before, found.changes[0].missing_after
    )  # fmt: skip


def test_detections_vanishing_in_part_are_shares() -> None:
    """The few values that are left are not compared."""
    half = np.where(np.arange(60) < 30, MISSING, 0.9)
    found = _explain_columns({"mean_confidence": (np.full(60, 0.4), half)})
    assert "no objects are found in 50 % of images instead of 0 %" == found.sentence


@pytest.mark.parametrize(
    ("name", "expected"),
    [("embedding_distance", "the embedding is missing"), ("candidate_count", "candidate count is missing")],
)  # fmt: skip
def test_other_values_that_vanish_are_missing(name: str, expected: str) -> None:
    """They say nothing about objects: an engine may not tell them."""
    assert expected == _explain((name, 1.0, MISSING)).sentence


def test_equal_centres_are_a_different_spread() -> None:
    """Median and mean are the same, the distribution is not."""
    before, after = np.tile([0.4, 0.5, 0.6], 20), np.tile([0.0, 0.5, 1.0], 20)
    found = _explain_columns({"brightness": (before, after)})
    assert "brightness is spread differently" == found.sentence


def test_a_change_in_a_part_of_the_samples_has_its_direction() -> None:
    """The median of whole numbers stays, and darker is said all the same."""
    before = np.tile([0.5, 0.5, 0.5, 0.5], 50)
    after = np.tile([0.5, 0.5, 0.5, 0.1], 50)
    found = _explain_columns({"brightness": (before, after)})
    assert "images are darker than the reference" == found.sentence


def test_counts_are_told_by_their_means() -> None:
    """Most images have none before and after."""
    before, after = np.tile([0.0, 0.0, 0.0, 1.0], 50), np.tile([0.0, 0.0, 3.0, 1.0], 50)
    found = _explain_columns({"class_count_0": (before, after)})
    assert found.sentence.startswith(
        "the count of objects of class gear rose from 0.25 to 1 an image"
    )


def test_nothing_told_has_no_sentence() -> None:
    """No evidence, or a feature that one side lacks."""
    reference = {"noise": rank_values(SPREAD, limit=100)}
    window = Window({"noise": SPREAD}, len(SPREAD))
    assert Diagnosis("") == explain((), reference, window, class_names=())
    assert Diagnosis("") == explain(("glare",), reference, window, class_names=())


def test_an_empty_window_has_no_sentence() -> None:
    """There is nothing to compare."""
    reference = {"noise": rank_values(SPREAD, limit=100)}
    window = Window({"noise": np.zeros(0)}, 0)
    assert Diagnosis("") == explain(("noise",), reference, window, class_names=())


def test_the_worst_few_are_told() -> None:
    """The rest are in the report."""
    found = _explain(*((f"glare_{letter}", 1.0, 5.0) for letter in "abcdefghij"))
    assert MAX_NAMED_FEATURES == len(found.changes)


def test_long_names_are_left_out_from_the_end() -> None:
    """The sentence keeps its length; the worst and the pattern stay."""
    names = [f"{letter * 60}_glare" for letter in "abcdef"]
    found = _explain(
        *((name, 1.0, 5.0) for name in names),
        *(("sharpness", 7.0, 4.0), ("noise", 3.0, 1.0), ("bits_per_pixel", 2.0, 1.0)),
    )
    assert len(found.sentence) <= MAX_SENTENCE_CHARACTERS
    assert found.sentence.startswith(names[0].replace("_", " "))
    assert found.sentence.endswith("looks like blur (out of focus, motion or lost resolution)")


@given(COLUMNS, COLUMNS, st.permutations(NAMES))
def test_any_values_have_a_sentence_and_a_json_form(
    before: dict[str, FeatureArray], after: dict[str, FeatureArray], told: list[str]
) -> None:
    """One sample, huge numbers, missing values: words, numbers, and no NaN."""
    count = len(after["brightness"])
    reference = {name: rank_values(values, limit=50) for name, values in before.items()}
    found = explain(told, reference, Window(after, count), class_names=("gear",))
    assert 0 < len(found.sentence) <= MAX_SENTENCE_CHARACTERS
    described = found.describe()
    assert described == json.loads(json.dumps(described, allow_nan=False))


def _explain(*rows: tuple[str, float, float], told: tuple[str, ...] | None = None) -> Diagnosis:
    # Spread a little in even counts, so that medians are the numbers themselves.
    columns = {}
    for name, before, after in rows:
        scale = 0.0 if name.startswith("class_count") else 0.1
        columns[name] = (before + scale * SPREAD, after + scale * SPREAD)
    return _explain_columns(columns, told=told)


def _explain_columns(
    columns: dict[str, tuple[FeatureArray, FeatureArray]], *, told: tuple[str, ...] | None = None
) -> Diagnosis:
    reference = {name: rank_values(before, limit=1000) for name, (before, _) in columns.items()}
    current = {name: after for name, (_, after) in columns.items()}
    window = Window(current, len(next(iter(current.values()))))
    return explain(told or tuple(columns), reference, window, class_names=("gear", "bolt"))
