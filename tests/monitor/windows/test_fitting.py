"""From samples to columns: missing values, classes, bounds, and nothing that depends on the order of a mapping."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.records import InputError, Measurement
from monitor.summaries import Fit
from monitor.windows.fitting import (
    MAX_FEATURES,
    columns,
    feature_names,
    fit_reference,
    in_common,
    is_fitted,
    lacked,
    to_values,
    unwatched,
)
from tests.monitor.windows.summaries import embedded, found, measured

MISSING = -np.inf
LARGEST = float(np.finfo(np.float32).max)
NO_FIT = Fit(class_shares={})


def test_each_feature_becomes_a_column_in_order() -> None:
    """None is missing, below every number; what is absent is not known."""
    rows = [measured(a=1.0, b=2.0), measured(a=None, b=0.0), measured(b=5.0)]
    table = columns(rows, fit=NO_FIT, names=("b", "a"))
    assert np.float32 == table.dtype
    assert [[2.0, 1.0], [0.0, MISSING]] == table[:2].tolist()
    assert [False, True] == np.isnan(table[2]).tolist()


def test_what_part_of_the_samples_lack_is_left_out() -> None:
    """As after an upgrade, where it would look as if its values began or ended; embeddings too."""
    older = [measured(a=1.0, b=2.0)]
    newer = [replace(measured(a=1.0, b=None, haze=0.1), embedding=np.ones(8, np.float32))]
    with pytest.raises(InputError, match="take those of one release, with --since"):
        in_common([measured(a=1.0), *newer])
    kept, lacking = in_common([*older, *newer])
    assert ("embedding", "haze") == lacking
    assert [measured(a=1.0, b=2.0), measured(a=1.0, b=None)] == kept
    assert ("haze", "embedding_1") == lacked(["a", "haze", "embedding_1"], [*older, *newer])
    assert ("class_surprise", "embedding", "haze") == unwatched(["a", "b"], newer)


def test_samples_of_one_release_lose_nothing() -> None:
    """None is a value that is missing."""
    rows = [measured(a=None), measured(a=1.0)]
    assert (rows, ()) == in_common(rows)


def test_no_samples_make_an_empty_table() -> None:
    """With every column."""
    assert (0, 2) == columns([], fit=NO_FIT, names=("a", "class_surprise")).shape


def test_numbers_beyond_single_precision_stay_numbers() -> None:
    """They are the largest there are, and not missing, however low."""
    rows = [measured(a=1e300), measured(a=-1e300), measured(a=1e-300)]
    assert [[LARGEST], [-LARGEST], [0.0]] == columns(rows, fit=NO_FIT, names=("a",)).tolist()


@given(st.lists(st.floats(), max_size=20))
def test_whatever_the_numbers_no_value_is_none(numbers: list[float]) -> None:
    """No NaN and no infinity but for a missing value, and the order stays."""
    values = to_values(np.array(numbers, np.float64))
    assert not np.isnan(values).any()
    assert not np.isposinf(values).any()
    order = [value for value in numbers if not math.isnan(value)]
    kept = to_values(np.sort(np.array(order, np.float64)))
    assert (kept[:-1] <= kept[1:]).all()


def test_classes_are_counted_and_the_rest_together() -> None:
    """Class 9 is not in the reference: it counts as other. By names alone, as references from before have no fit."""
    names = ("class_count_0", "class_count_1", "class_count_other")
    table = columns([found(0, 0, 9), found(1), found()], fit=NO_FIT, names=names)
    assert [[2.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]] == table.tolist()


def test_unseen_classes_have_the_share_of_half_a_box() -> None:
    """Of three boxes and a half; without boxes there is no surprise to speak of."""
    fit = fit_reference([found(1, 1), found(2)])
    assert {1: 2 / 3.5, 2: 1 / 3.5} == dict(fit.class_shares)
    table = columns([found(1), found(2, 7), found()], fit=fit, names=("class_surprise",))
    assert table[:, 0] == pytest.approx(
        [math.log(3.5 / 2), (math.log(3.5) + math.log(7)) / 2, MISSING], rel=1e-6
    )


def test_without_any_box_every_class_is_as_usual_as_none() -> None:
    """A reference of empty scenes; what is found later is told by being there at all."""
    fit = fit_reference([found(), found()])
    assert [[0.0], [MISSING]] == columns(
        [found(3), found()], fit=fit, names=("class_surprise",)
    ).tolist()


def test_names_are_all_features_and_what_the_fit_defines() -> None:
    """The eight commonest classes at most, ties by id, in the order of sorting."""
    rows = [found(*range(10)), found(9, 9), measured(noise=1.0)]
    counted = (f"class_count_{class_id}" for class_id in (0, 1, 2, 3, 4, 5, 6, 9))
    expected = (*counted, "class_count_other", "class_surprise", "noise")
    assert expected == feature_names(rows, fit=fit_reference(rows))
    assert [name != "noise" for name in expected] == [is_fitted(name) for name in expected]


def test_embeddings_add_their_features() -> None:
    """Four coordinates, their length, and what lies outside."""
    rng = np.random.default_rng(1)
    rows = [embedded(rng.normal(size=20).astype(np.float32)) for _ in range(64)]
    fit = fit_reference(rows)
    names = feature_names(rows, fit=fit)
    assert (
        *("class_count_other", "class_surprise"),
        *(f"embedding_{n}" for n in range(1, 5)),
        *("embedding_distance", "embedding_residual"),
    ) == names
    table = columns(
        [*rows, embedded(None), embedded(np.zeros(3, np.float32))], fit=fit, names=names
    )
    assert np.isfinite(table[:64, 2:]).all()
    assert np.isnan(table[64, 2:]).all()
    assert np.isneginf(table[65, 2:]).all()


def test_too_many_features_are_refused() -> None:
    """Each costs power and a metric; a gateway never sends so many."""
    features = {f"f{i}": 1.0 for i in range(MAX_FEATURES)}
    with pytest.raises(InputError, match="at most 64"):
        feature_names([measured(**features)], fit=NO_FIT)


def test_a_name_that_could_break_out_of_a_page_is_refused() -> None:
    """Names go into the report's HTML."""
    with pytest.raises(InputError, match="feature name '</script>' is not lower_case_words"):
        feature_names([measured(**{"</script>": 1.0})], fit=NO_FIT)


@pytest.mark.parametrize("name", ["class_surprise", "class_count_3", "embedding_1"])
def test_a_name_of_the_monitors_own_is_refused(name: str) -> None:
    """It would be ranked on samples of the file and compared with what the monitor computes."""
    with pytest.raises(InputError, match="one of the monitor's own"):
        feature_names([measured(**{name: 1.0})], fit=NO_FIT)


CLASSES = st.lists(st.lists(st.integers(0, 5), max_size=4), min_size=1, max_size=6)


@given(CLASSES, st.randoms(use_true_random=False))
def test_nothing_depends_on_the_order_of_a_mapping(classes: list[list[int]], rng: object) -> None:
    """Features that come in another order, shares that were stored in another one."""
    assert hasattr(rng, "shuffle")
    rows = [
        Measurement({"a": 1.0, "b": float(len(each))}, found(*each).detections) for each in classes
    ]
    turned = [
        Measurement(dict(reversed(list(row.features.items()))), row.detections) for row in rows
    ]
    fit = fit_reference(rows)
    shares = list(fit.class_shares.items())
    rng.shuffle(shares)
    other = Fit(class_shares=dict(shares))
    names = feature_names(rows, fit=fit)
    assert names == feature_names(turned, fit=other)
    first = columns(rows, fit=fit, names=names)
    assert first.tobytes() == columns(turned, fit=other, names=names).tobytes()
