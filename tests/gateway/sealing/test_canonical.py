"""Canonical JSON: one spelling for each value, every other spelling refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sealing.canonical import CanonicalError, encode_canonical, parse_canonical

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
KEYS = st.text(st.characters(max_codepoint=127))
LEAVES = st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT
VALUES = LEAVES | st.lists(LEAVES, max_size=4) | st.dictionaries(KEYS, LEAVES, max_size=4)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=4)


def nested(depth: int) -> list[Any]:
    """Arrays in arrays."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def test_encode_sorts_keys_and_leaves_no_spaces() -> None:
    """The encoding is compact, sorted UTF-8."""
    value = {"b": [1, True, "é\n\x1f"], "a": {"z": -1, "B": ""}}
    expected = '{"a":{"B":"","z":-1},"b":[1,true,"é\\n\\u001f"]}'.encode()
    assert expected == encode_canonical(value)


@pytest.mark.parametrize(
    "value",
    [
        1.5,
        None,
        (1, 2),
        b"x",
        2**53,
        -(2**53),
        {"é": 1},
        {1: 2},
        "\ud800",
        {"a": [float("nan")]},
        nested(9),
    ],
)
def test_encode_refuses_what_has_no_canonical_form(value: object) -> None:
    """Floats, null, other types, large integers, odd keys, lone surrogates and deep nesting are refused."""
    with pytest.raises(CanonicalError):
        encode_canonical(value)


@pytest.mark.parametrize(
    "unverified",
    [
        b"",
        b"[]",
        b'"a"',
        b"1",
        b"{} ",
        b' {"a":1}',
        b'{"a": 1}',
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a":1,"a":2}',
        b'{"a":1.0}',
        b'{"a":1e2}',
        b'{"a":-0}',
        b'{"a":01}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":null}',
        b'{"a":9007199254740992}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":"\\u0041"}',
        b'{"a":"\\/"}',
        b'{"a":"\\u001F"}',
        b'{"a":"\\ud800"}',
        b'{"\xc3\xa9":1}',
        b'{"a":"\xff"}',
        b'\xef\xbb\xbf{"a":1}',
        '{"a":1}'.encode("utf-16"),
        b'{"a":1}\n',
        b'{"a":1}{}',
        b'{"a":' + b"[" * 60000 + b"]" * 60000 + b"}",
    ],
)
def test_parse_refuses_every_other_spelling(unverified: bytes) -> None:
    """Only the exact canonical bytes of an object are read."""
    with pytest.raises(CanonicalError):
        parse_canonical(unverified)


@given(OBJECTS)
def test_what_is_encoded_reads_back_equal(value: dict[str, Any]) -> None:
    """Encoding and parsing are inverse."""
    assert value == parse_canonical(encode_canonical(value))


@given(st.binary(max_size=64) | st.text('{}[]",:01ae.-\\u ntrf', max_size=32).map(str.encode))
def test_parse_accepts_nothing_that_encodes_differently(unverified: bytes) -> None:
    """Whatever is read encodes to the very same bytes, and only CanonicalError escapes."""
    try:
        value = parse_canonical(unverified)
    except CanonicalError:
        return
    assert unverified == encode_canonical(value)
