"""Base64url and JSON have one accepted spelling each."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.identity.wire import (
    MalformedError,
    decode_base64url,
    encode_base64url,
    is_bounded_text,
    parse_json_object,
)


@given(st.binary(max_size=100))
def test_base64url_goes_there_and_back(content: bytes) -> None:
    """Every content has exactly the spelling that encode gives."""
    assert content == decode_base64url(encode_base64url(content))


@given(st.text(alphabet="ABCDabcd0189-_+/= \n", max_size=8))
def test_what_is_decoded_encodes_to_the_same_text(text: str) -> None:
    """No content has a second accepted spelling."""
    try:
        content = decode_base64url(text)
    except MalformedError:
        return
    assert text == encode_base64url(content)


@pytest.mark.parametrize(
    "text", ["A", "AAAAA", "AA==", "AA=", "A A", "AA\n", "+w", "/w", "AB", "AAB", "\u0661\u0661"]
)
def test_another_spelling_is_refused(text: str) -> None:
    """Padding, white space, the other alphabet, impossible lengths, unused bits."""
    with pytest.raises(MalformedError):
        decode_base64url(text)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b'"a"',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":1,"a":1}',
        b'{"b":[{"a":1,"a":2}]}',
        b'{"a":1,"\\u0061":2}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1e400}',
        b'{"a":123456789012345678901}',
        b'{"a":"\x01"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":1}x',
        b"{'a':1}",
        b'{"a":01}',
        b'{"a":' + b"[" * 100_000,
    ],
)
def test_json_that_is_not_strict_is_refused(content: bytes) -> None:
    """What two readers could read differently is read by neither."""
    with pytest.raises(MalformedError):
        parse_json_object(content)


def test_a_strict_object_is_read() -> None:
    """Numbers keep their kind; white space is free."""
    content = b' {"a": [1, 2.5, -12345678901234567890], "b": {"a": null}}\n'
    with pytest.raises(MalformedError):
        parse_json_object(content)  # Twenty digits and a sign.
    content = content.replace(b"-1234567890123456789", b"-123456789012345678")
    assert parse_json_object(content) == {"a": [1, 2.5, -1234567890123456780], "b": {"a": None}}


@given(st.binary(max_size=60))
def test_any_bytes_are_an_object_or_malformed(content: bytes) -> None:
    """The reader raises nothing but its own error."""
    try:
        value = parse_json_object(content)
    except MalformedError:
        return
    assert json.loads(content) == value


@pytest.mark.parametrize("value", ["a", "Kamera Süd 7", "x" * 12])
def test_printable_text_up_to_the_limit_is_taken(value: str) -> None:
    """Any script and inner spaces are fine."""
    assert is_bounded_text(value, max_characters=12)


@pytest.mark.parametrize(
    "value", ["", "x" * 13, "a\tb", "a\0", "a\u200bb", "\ud800", b"a", None, 7]
)
def test_other_values_are_no_bounded_text(value: object) -> None:
    """Nothing empty, long, invisible or of another type."""
    assert not is_bounded_text(value, max_characters=12)
