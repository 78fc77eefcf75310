"""What is known of an alarm is in the text that people read, not in JSON alone."""

from dataclasses import replace
from typing import Any

import pytest

from monitor.jobs.alarm_details import detail_lines
from monitor.records import Alarm, AlarmState, Harm
from tests.monitor.conftest import START

ALARM = Alarm(
    model_name="conveyor",
    name="drift",
    state=AlarmState.FIRING,
    since=START,
    model_version="1",
    harm=Harm.HARMFUL,
    details={
        "since": "2029-12-31T23:00:00+00:00",
        "pattern": {"name": "blur", "words": "blur (out of focus)", "similarity": 0.9},
        "harm": {"why": "the model is less sure"},
        "examples": {"before": ["b1", "b2", "b3"], "after": ["a1", "a2", "a3"]},
    },
)


def test_since_when_pattern_harm_and_examples_are_told() -> None:
    """Two examples of each side."""
    assert [
        "changed since 2029-12-31 23:00:00 UTC",
        "looks like blur (out of focus)",
        "harmful: the model is less sure",
        "examples: b1, b2 -> a1, a2",
    ] == detail_lines(ALARM)


def test_what_is_unknown_says_why() -> None:
    """It is no good news."""
    assert "harm unknown: the model is less sure" in detail_lines(replace(ALARM, harm=Harm.UNKNOWN))


def test_what_is_over_has_no_details() -> None:
    """They are in the history."""
    assert [] == detail_lines(replace(ALARM, state=AlarmState.RESOLVED))


@pytest.mark.parametrize("broken", [None, 7, "x", [], {}, {"before": 7, "after": [7]}])
def test_details_of_another_shape_are_left_out(broken: Any) -> None:
    """Somebody wrote into the table."""
    details = dict.fromkeys(("since", "pattern", "harm", "examples"), broken)
    assert [] == detail_lines(replace(ALARM, details=details))
