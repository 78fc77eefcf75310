"""Cursors: one form, strictly read, bound to their filters."""

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.query_cursors import (
    Cursor,
    QueryInvalidError,
    digest_of,
    format_cursor,
    is_sound_key,
    parse_cursor,
)
from gateway.store.queries.audit_search import RecordKey

ASKED_AT = datetime(2031, 5, 6, 7, 8, 9, 5, tzinfo=UTC)
KEY = RecordKey("2031-05-06T07:00:00.000001Z", "plant/gateway-1", 17)
CURSOR = Cursor(digest_of({"subject": "camera-7"}), ASKED_AT, KEY)
LINES = [
    "1",
    digest_of({"subject": "camera-7"}),
    "2031-05-06T07:08:09.000005Z",
    "2031-05-06T07:00:00.000001Z",
    "17",
    "plant/gateway-1",
]

origins = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="+"),
                  min_size=1, max_size=128)  # fmt: skip
moments = st.datetimes(datetime(1000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  (hypothesis adds the zone)


def word(lines: list[str]) -> str:
    """A cursor of these lines, whatever they are."""
    return base64.urlsafe_b64encode("\n".join(lines).encode()).decode().rstrip("=")


def test_a_cursor_is_what_is_written_here() -> None:
    """Its lines, written out by hand."""
    assert word(LINES) == format_cursor(CURSOR)
    assert CURSOR == parse_cursor(word(LINES))


@given(
    filters=st.dictionaries(st.text(), st.text(), max_size=3),
    asked_at=moments,
    recorded_at=moments,
    origin=origins,
    position=st.integers(0, 2**63 - 1),
)
def test_a_cursor_survives_the_round_trip(
    filters: dict[str, str], asked_at: datetime, recorded_at: datetime, origin: str, position: int
) -> None:
    """Whatever it holds."""
    time = recorded_at.isoformat(timespec="microseconds")[:-6] + "Z"
    cursor = Cursor(digest_of(filters), asked_at, RecordKey(time, origin, position))
    assert cursor == parse_cursor(format_cursor(cursor))


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (0, "2"), (0, ""), (1, "ab"), (1, "A" * 32), (2, "2031-05-06T07:08:09Z"),
        (2, "2031-02-30T07:08:09.000005Z"), (2, "2031-05-06 07:08:09.000005Z"),
        (3, "2031-05-06T07:00:00.000001+"), (3, ""), (4, "017"), (4, "-1"), (4, "1_7"), (4, "\u0665"),
        (4, "9223372036854775808"), (5, ""), (5, "a b"), (5, "a+b"), (5, "a\n"), (5, "é"),
        (5, "a" * 129),
    ],
)  # fmt: skip
def test_a_cursor_with_another_line_is_refused(line: int, text: str) -> None:
    """Each line has one form."""
    with pytest.raises(QueryInvalidError, match=r"^cursor: "):
        parse_cursor(word([*LINES[:line], text, *LINES[line + 1 :]]))


@pytest.mark.parametrize(
    "text", ["", "=", word(LINES) + "=", word(LINES) + "A", word(LINES)[:-1], "a" * 401, "é", "a\n"]
)
def test_a_word_that_is_no_cursor_is_refused(text: str) -> None:
    """Padding, other characters, a cut end."""
    with pytest.raises(QueryInvalidError, match=r"^cursor: "):
        parse_cursor(text)


def test_one_cursor_has_one_word() -> None:
    """The unused bits of the last character may not be set."""
    lines = [*LINES[:-1], "plant/gateway"]
    good = word(lines)
    assert 3 == len(good) % 4
    parse_cursor(good)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twin = good[:-1] + alphabet[alphabet.index(good[-1]) + 1]
    with pytest.raises(QueryInvalidError):
        parse_cursor(twin)


@given(st.text(max_size=60) | st.from_regex(r"[A-Za-z0-9_-]{1,200}", fullmatch=True))
def test_any_text_is_read_or_refused(text: str) -> None:
    """By one error, and nothing else."""
    try:
        cursor = parse_cursor(text)
    except QueryInvalidError:
        return
    assert text == format_cursor(cursor)


def test_filters_have_a_digest_of_their_own() -> None:
    """In whichever order they were given; no text can be split between two of them."""
    assert digest_of({"a": "1", "b": "2"}) == digest_of({"b": "2", "a": "1"})
    assert digest_of({"a": "1"}) != digest_of({"a": "2"})
    assert digest_of({"a": "1", "b": "2"}) != digest_of({"a": '1"], ["b', "b": "2"})
    assert digest_of({}) != digest_of({"a": ""})


@pytest.mark.parametrize(
    "key",
    [
        RecordKey("2031", "gateway", 0),
        RecordKey(b"2031-05-06T07:00:00.000001Z", "gateway", 0),  # type: ignore[arg-type]
        RecordKey("2031-05-06T07:00:00.000001Z", "gate way", 0),
        RecordKey("2031-05-06T07:00:00.000001Z", b"gateway", 0),  # type: ignore[arg-type]
        RecordKey("2031-05-06T07:00:00.000001Z", "gateway", -1),
        RecordKey("2031-05-06T07:00:00.000001Z", "gateway", "0"),  # type: ignore[arg-type]
    ],
)
def test_what_no_cursor_can_hold_is_known_before(key: RecordKey) -> None:
    """A database that was tampered with may give it."""
    assert is_sound_key(KEY)
    assert not is_sound_key(key)
