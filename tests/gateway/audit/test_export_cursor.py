"""Cursors of exports: the one form that they have, and what is none."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.export_cursor import CursorInvalidError, Mark, format_cursor, parse_cursor
from tests.gateway.audit.sample_log import near

HASH = "0a" * 32
MARK = Mark(7, b"\x0a" * 32)

origins = st.text(st.sampled_from('abc/.:-"\\'), min_size=1, max_size=20)
marks = st.builds(Mark, st.integers(0, (1 << 63) - 2), st.binary(min_size=32, max_size=32))


def cursor_of(**members: object) -> bytes:
    """A cursor with the mark of one ledger, whose members are these."""
    ledger = {"position": 7, "leaf_hash": HASH, **members}
    return json.dumps({"format": 1, "ledgers": {"a": ledger}}).encode()


def test_a_cursor_is_readable() -> None:
    """By people too."""
    expected = {"format": 1, "ledgers": {"gw/1": {"leaf_hash": HASH, "position": 7}}}
    assert expected == json.loads(format_cursor({"gw/1": MARK}))


@given(st.dictionaries(origins, marks))
def test_cursors_come_back_as_they_were(cursor: dict[str, Mark]) -> None:
    """Whatever the ledgers are called."""
    assert cursor == parse_cursor(format_cursor(cursor))


def test_a_cursor_that_a_person_wrote_is_taken() -> None:
    """White space says nothing."""
    assert {"a": MARK} == parse_cursor(cursor_of())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"format": 1}',
        b'{"format": 2, "ledgers": {}}',
        b'{"format": true, "ledgers": {}}',
        b'{"format": 1, "ledgers": []}',
        b'{"format": 1, "ledgers": {}, "more": 1}',
        b'{"format": 1, "ledgers": {"a b": {"position": 0, "leaf_hash": "%s"}}}' % HASH.encode(),
        b'{"format": 1, "ledgers": {"a": 7}}',
        b'{"format": 1, "format": 1, "ledgers": {}}',
        b'{"format": 1, "ledgers": {}} x',
        b"\xff",
        b"[" * 100_000,
        cursor_of(position=-1),
        cursor_of(position=True),
        cursor_of(position=7.0),
        cursor_of(position="7"),
        cursor_of(position=(1 << 63) - 1),
        cursor_of(leaf_hash=HASH[:-1]),
        cursor_of(leaf_hash=HASH.upper()),
        cursor_of(leaf_hash=None),
        cursor_of(more=1),
        cursor_of()[:-10],
    ],
)
def test_what_is_no_cursor_is_refused(content: bytes) -> None:
    """Never taken for a beginning, which would send everything again, or for an end."""
    with pytest.raises(CursorInvalidError):
        parse_cursor(content)


@given(near(format_cursor({"gw-1": MARK, "gw-2": MARK})) | st.binary())
def test_anything_is_a_cursor_or_refused(content: bytes) -> None:
    """No other error, and what is taken is written in the same words."""
    with contextlib.suppress(CursorInvalidError):
        cursor = parse_cursor(content)
        assert cursor == parse_cursor(format_cursor(cursor))
