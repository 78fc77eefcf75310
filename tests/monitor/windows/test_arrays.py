"""From samples to arrays: missing values, class counts, bounds."""

import numpy as np
import pytest

from monitor.records import InputError, Measurement
from monitor.windows.arrays import MAX_FEATURES, build_window, feature_names

MISSING = -np.inf


def test_each_feature_becomes_a_column_in_order() -> None:
    """None and absent are the same: missing, below every number."""
    window = build_window(
        [_measured(a=1.0, b=2.0), _measured(a=None, b=0.0), _measured(b=5.0)], names=("a", "b")
    )
    assert window.sample_count == 3
    assert _lists(window.features) == {"a": [1.0, MISSING, MISSING], "b": [2.0, 0.0, 5.0]}


def test_features_the_reference_lacks_are_left_out() -> None:
    """Only what can be compared is kept."""
    window = build_window([_measured(a=1.0, new=2.0)], names=("a",))
    assert _lists(window.features) == {"a": [1.0]}


def test_classes_are_counted_and_the_rest_together() -> None:
    """Class 9 is not in the reference: it counts as other."""
    names = ("class_count_0", "class_count_1", "class_count_other")
    window = build_window([_found(0, 0, 9), _found(1), _found()], names=names)
    assert _lists(window.features) == {
        "class_count_0": [2.0, 0.0, 0.0],
        "class_count_1": [0.0, 1.0, 0.0],
        "class_count_other": [1.0, 0.0, 0.0],
    }


def test_no_samples_make_an_empty_window() -> None:
    """Of length 0, with every name."""
    window = build_window([], names=("a",))
    assert (window.sample_count, _lists(window.features)) == (0, {"a": []})


def test_names_are_all_features_and_the_commonest_classes() -> None:
    """Eight classes at most, ties by id, and always the count of the others."""
    measurements = [_found(*range(10)), _found(9, 9), _measured(noise=1.0)]
    assert feature_names(measurements) == (
        *(f"class_count_{i}" for i in (0, 1, 2, 3, 4, 5, 6, 9)),
        "class_count_other",
        "noise",
    )


def test_too_many_features_are_refused() -> None:
    """Each costs power and a metric; a gateway never sends so many."""
    features = {f"f{i}": 1.0 for i in range(MAX_FEATURES)}
    with pytest.raises(InputError, match="at most 64"):
        feature_names([_measured(**features)])


def test_a_name_that_could_break_out_of_a_page_is_refused() -> None:
    """Names go into the report's HTML."""
    with pytest.raises(InputError, match="feature name '</script>' is not lower_case_words"):
        feature_names([_measured(**{"</script>": 1.0})])


def _measured(**features: float | None) -> Measurement:
    return Measurement(features=features, detections=())


def _found(*class_ids: int) -> Measurement:
    return Measurement(
        features={}, detections=tuple((i, 0.9, 0.0, 0.0, 1.0, 1.0) for i in class_ids)
    )


def _lists(features: object) -> dict[str, list[float]]:
    assert isinstance(features, dict)
    return {name: column.tolist() for name, column in features.items()}
