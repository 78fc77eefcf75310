"""How long a silence lasts, as people write it."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.jobs.alarms import parse_duration
from monitor.records import InputError


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("1m", timedelta(minutes=1)),
        ("2h", timedelta(hours=2)),
        ("1d12h30m", timedelta(days=1, hours=12, minutes=30)),
        ("30d", timedelta(days=30)),
    ],
)
def test_a_time_is_read(words: str, expected: timedelta) -> None:
    """As people write it."""
    assert expected == parse_duration(words)


@pytest.mark.parametrize(
    "words", ["", "2", "h", "0m", "31d", "720h1m", "2 h", "-2h", "2h1d", "\N{FULLWIDTH DIGIT TWO}h"]
)
def test_what_is_no_time_is_refused(words: str) -> None:
    """Nor one so long that it would be forgotten."""
    with pytest.raises(InputError, match="from 1m to at most 30 days, write 30m, 2h or 1d12h"):
        parse_duration(words)


@given(words=st.text(max_size=20))
def test_any_time_is_within_bounds_or_refused(words: str) -> None:
    """Nothing but InputError."""
    try:
        duration = parse_duration(words)
    except InputError:
        return
    assert timedelta(minutes=1) <= duration <= timedelta(days=30)
