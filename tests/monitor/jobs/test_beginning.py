"""Since which sample a slice is different: kept while the alarm rings, and what was before is from before."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from gateway.store.records import Sample
from monitor.drift.bets import plan_bets
from monitor.drift.levels import level_of_all
from monitor.jobs.beginning import Beginning, find_beginning, known_beginning
from monitor.jobs.weighing import Fired, Plan, Remembered, nothing_weighed
from monitor.ranks import rank_values
from monitor.records import Alarm, AlarmState
from monitor.summaries import ALL_SAMPLES, HOURS_OF_DAY, Fit, SliceSummary, Stratum

START = datetime(2030, 1, 1, tzinfo=UTC)
DETAILS = {"first_sample_id": 7, "since": START.isoformat(), "examples": {"before": ["a"]}}
ALARM = Alarm("conveyor", "drift", AlarmState.FIRING, START, "1", details=DETAILS)


def found(samples: dict[int, Sample], window: tuple[int, ...], *, armed: int) -> Beginning | None:
    """Where brightness began to be different, once it rang with the last of the window."""
    rng = np.random.default_rng(3)
    ranked = {"brightness": rank_values(rng.normal(size=400), limit=400)}
    summary = SliceSummary(ALL_SAMPLES, (Stratum(HOURS_OF_DAY, ranked),))
    bets = plan_bets(summary, features=("brightness",), alpha_reference=0.005)
    plan = Plan("", bets, level_of_all(0.01, has_slices=False), window_samples=60)
    then = Remembered(
        window=window, armed_samples=armed, low_at=START - timedelta(days=1), before=("r9", "x")
    )
    weighed = replace(nothing_weighed(plan), fired=Fired({}, then))
    return find_beginning(plan, weighed, samples, fit=Fit({}), leading=("brightness",))


def samples(clean: int, changed: int) -> dict[int, Sample]:
    """A minute apart."""
    return {
        number: Sample(
            request_id=f"r{number}",
            received_at=START + timedelta(minutes=number),
            model_name="conveyor",
            model_version="1",
            principal="p",
            input_sha256="0" * 64,
            features={"brightness": 0.0 if number < clean else -9.0},
            detections=(),
            kept_probability=1.0,
            image_probability=0.0,
        )
        for number in range(clean + changed)
    }


def test_examples_of_before_come_right_before_the_first_changed_sample() -> None:
    """Which is neither sixteen samples early nor late."""
    assert Beginning(21, START + timedelta(minutes=21), ("r18", "r19", "r20")) == found(
        samples(21, 5), tuple(range(26)), armed=26
    )


def test_what_changed_before_the_evidence_began_anew_is_another_change() -> None:
    """It rang for that."""
    given = samples(0, 5) | {n: replace(s, request_id=f"r{n}") for n, s in samples(21, 5).items()}
    given |= {n: replace(given[n], features={"brightness": -9.0}) for n in range(21)}
    begun = found(given, tuple(range(26)), armed=6)
    assert begun is not None
    assert 20 == begun.first_id


def test_a_change_that_began_before_all_that_is_remembered_is_as_old_as_the_evidence_says() -> None:
    """Examples that came since are none of before."""
    begun = found(samples(0, 20), tuple(range(20)), armed=90)
    assert Beginning(0, START - timedelta(days=1), ("x",)) == begun


def test_deleted_samples_are_not_missed() -> None:
    """Retention may come between."""
    given = samples(21, 5)
    del given[21]
    begun = found(given, tuple(range(26)), armed=26)
    assert begun is not None
    assert 22 == begun.first_id
    assert found({}, tuple(range(26)), armed=26) is None


def test_samples_since_are_those_that_are_remembered() -> None:
    """All of them once it is longer ago."""
    begun = Beginning(5, START)
    assert (5, 6) == begun.ids_since((3, 4, 5, 6))
    assert (8, 9) == begun.ids_since((8, 9))


@pytest.mark.parametrize(
    "broken", [{"first_sample_id": "x"}, {"since": 7}, {"examples": []}, {"examples": None}]
)
def test_what_rings_keeps_since_when(broken: dict[str, Any]) -> None:
    """Unless somebody wrote into its row; what is over begins anew."""
    assert Beginning(7, START, ("a",)) == known_beginning(ALARM)
    assert known_beginning(replace(ALARM, details=DETAILS | broken)) is None
    assert known_beginning(replace(ALARM, state=AlarmState.RESOLVED)) is None
    assert known_beginning(None) is None
