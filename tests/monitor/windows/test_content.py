"""How a reference is stored."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.records import MonitorError, Window
from monitor.windows.content import dump_window, parse_window

VALUES = st.just(-np.inf) | st.floats(allow_nan=False, allow_infinity=False)


def test_the_stored_form_is_fixed() -> None:
    """A literal, so that old references stay readable."""
    window = Window(features={"a": np.array([1.5, -np.inf])}, sample_count=2)
    assert dump_window(window) == '{"format":1,"features":{"a":[1.5,null]}}'


@given(st.integers(0, 6).flatmap(lambda n: st.lists(st.lists(VALUES, min_size=n, max_size=n))))
def test_what_was_stored_comes_back(columns: list[list[float]]) -> None:
    """Bit for bit, missing values included."""
    count = len(columns[0]) if columns else 0
    features = {f"f{i}": np.array(column) for i, column in enumerate(columns)}
    parsed = parse_window(
        dump_window(Window(features=features, sample_count=count)), sample_count=count
    )
    assert parsed.sample_count == count
    assert {n: c.tolist() for n, c in parsed.features.items()} == {
        name: column.tolist() for name, column in features.items()
    }


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"format":2,"features":{}}',
        '{"format":1,"features":[]}',
        '{"format":1,"features":{"a":[1]}}',
        '{"format":1,"features":{"a":[1,NaN]}}',
        '{"format":1,"features":{"a":["x","y"]}}',
        '{"format":1,"features":{"a":3}}',
        '{"format":1,"features":{"</script>":[1,2]}}',
        '{"format":1,"features":{"a":[1,1e400]}}',
        '{"format":1,"features":{"a":[1,' + "9" * 400 + "]}}",
        "[" * 100_000,
    ],
)
def test_a_broken_reference_is_one_error_with_its_fix(content: str) -> None:
    """Not a traceback."""
    with pytest.raises(MonitorError, match="make a new one with `monitor reference`"):
        parse_window(content, sample_count=2)
