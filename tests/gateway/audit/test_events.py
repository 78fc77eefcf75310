"""Text that callers chose is bounded and printable before it is stored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.events import MAX_CHARACTERS, AuditEvent, printable


def test_plain_text_stays_as_it_is() -> None:
    """Letters of any script, digits and punctuation are kept."""
    assert printable("/v1/models/größe 検出", max_characters=64) == "/v1/models/größe 検出"


@pytest.mark.parametrize(
    ("unverified_text", "expected"),
    [
        ("a\nb", "a\\x0ab"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x00", "\\x00"),
        ("\u202egpj", "\\u202egpj"),
        ("\u2028", "\\u2028"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
        ("a\\nb", "a\\\\nb"),
    ],
)
def test_unprintable_text_is_escaped(unverified_text: str, expected: str) -> None:
    """Line breaks, terminal escapes, direction overrides and surrogates cannot reach a reader's screen."""
    assert expected == printable(unverified_text, max_characters=64)


def test_long_text_is_cut_and_says_so() -> None:
    """A cut text ends in an ellipsis and has exactly the characters that are allowed."""
    assert printable("a" * 1000, max_characters=4) == "aaa…"
    assert printable("aaaa", max_characters=4) == "aaaa"


@given(st.text(alphabet=st.characters()), st.integers(min_value=1, max_value=600))
def test_result_is_always_printable_and_bounded(unverified_text: str, limit: int) -> None:
    """No input, surrogates included, gets through unprintable or too long."""
    text = printable(unverified_text, max_characters=limit)
    assert text.isprintable()
    assert len(text) <= limit


def test_every_text_field_has_a_limit() -> None:
    """A field added to the event without a limit would let callers fill the disk."""
    bounded_elsewhere = {
        "action", "outcome", "recorded_at", "input_bytes", "result_count", "code",
    }  # fmt: skip
    assert set(AuditEvent.__dataclass_fields__) == bounded_elsewhere | set(MAX_CHARACTERS)
