"""Whatever a table held: one line stays one line, and JSON stays JSON."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.jobs.printing import print_json
from monitor.texts import finite, json_line, shown

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.text(), st.integers(min_value=1, max_value=50))
def test_any_text_is_shown_on_one_line_once(text: str, most: int) -> None:
    """Without escapes of terminals, not longer than asked for, and again the same."""
    line = shown(text, max_characters=most)
    assert line.isprintable()
    assert most >= len(line)
    assert line == shown(line, max_characters=most)


def test_what_is_printable_is_shown_as_it_is() -> None:
    """What was escaped when it was stored is not escaped again."""
    assert "lens\\x0ais dirty" == shown("lens\nis dirty") == shown("lens\\x0ais dirty")
    assert "\\x1b[2J\\u202e" == shown("\x1b[2J\u202e")
    assert 4000 == len(shown("x" * 5000))


@given(JSON)
def test_any_value_is_json_that_terminals_can_show(value: Any) -> None:
    """And the value again, with null for what is no number."""
    line = json_line(value)
    assert line.isprintable()
    assert json.dumps(finite(value)) == json.dumps(json.loads(line))


def test_what_json_has_no_number_for_is_null() -> None:
    """Wherever it stands; what lies too deep as well, so that no value overflows the stack."""
    value = {"a": [math.nan, 1.5, (math.inf,)], "b": {"c": -math.inf}}
    assert {"a": [None, 1.5, [None]], "b": {"c": None}} == finite(value)
    deep: object = 1
    for _ in range(100_000):
        deep = [deep]
    assert "[" * 32 + "null" + "]" * 32 == json_line(deep)


def test_a_command_prints_json_whatever_was_stored(capsys: pytest.CaptureFixture[str]) -> None:
    """A NaN that somebody wrote into a row, an escape, half of a pair of surrogates."""
    print_json({"details": {"effect": math.nan, "words": "\x9b2J\u202eé\ud800"}})
    assert '{"details": {"effect": null, "words": "\\u009b2J\\u202eé\\ud800"}}\n' == (
        capsys.readouterr().out
    )
