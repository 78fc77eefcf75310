"""What an alarm is told: why it rings once it does, and nothing before."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from gateway.store.records import ModelVersion, Stage
from monitor.alarms import Watched
from monitor.drift.bets import plan_bets
from monitor.drift.levels import level_of_all
from monitor.jobs.comparing import Compared
from monitor.jobs.telling import Shown, described_ids, is_shown, left_over, tell
from monitor.jobs.weighing import Arrivals, Plan, Weighed, nothing_weighed, weigh
from monitor.ranks import rank_values
from monitor.records import Alarm, AlarmState, Window
from monitor.summaries import ALL_SAMPLES, HOURS_OF_DAY, SliceSummary, Stratum

START = datetime(2030, 1, 1, tzinfo=UTC)
MODEL = ModelVersion(
    name="conveyor",
    version="1",
    stage=Stage.PRODUCTION,
    file_name="x",
    plaintext_sha256="0" * 64,
    class_names=(),
    input_size=(320, 320),
    registered_at=START,
)
ALARM = Alarm(
    model_name="conveyor", name="drift", state=AlarmState.FIRING, since=START, model_version="1"
)
SHOWN = Shown(Compared(Window({}, 30)), Compared(Window({}, 12), furthest=("after-1", "after-2")))


def plan() -> Plan:
    """One feature."""
    ranked = {"noise": rank_values(np.random.default_rng(3).normal(size=400), limit=400)}
    summary = SliceSummary(ALL_SAMPLES, (Stratum(HOURS_OF_DAY, ranked),))
    level = level_of_all(0.01, has_slices=False)
    bets = plan_bets(summary, features=("noise",), alpha_reference=level.alpha_reference)
    return Plan("", bets, level, window_samples=100)


def weighed(clean: int, drifted: int = 0) -> Weighed:
    """After so many samples of each kind, in two ticks."""
    rng = np.random.default_rng(4)
    planned = plan()
    state = nothing_weighed(planned)
    first = 0
    for count, shift in ((clean, 0.0), (drifted, 9.0)):
        numbers = range(first, first + count)
        arrivals = Arrivals(
            ids=tuple(numbers),
            request_ids=tuple(f"r{n}" for n in numbers),
            received_at=tuple(START + timedelta(minutes=n) for n in numbers),
            values=(shift + rng.normal(size=(count, 1))).astype(np.float32),
            hours=np.zeros(count, np.int64),
        )
        state = weigh(planned, state, arrivals)
        first += count
    return state


def told(state: Weighed, *, shown: Shown | None = SHOWN, alarm: Alarm | None = None) -> Watched:
    """As a look tells it."""
    return tell(
        plan(),
        state,
        shown,
        model=MODEL,
        alarm=alarm,
        examples=("x1", "x2", "x3", "x4"),
        min_samples=30,
        is_new_reference=False,
    )


def test_what_is_quiet_has_nothing_to_say() -> None:
    """It is judged once enough samples were."""
    few, enough = told(weighed(29), shown=None), told(weighed(30), shown=None)
    assert (False, True) == (few.is_judged, enough.is_judged)
    assert ((), "", {}, False) == (
        enough.features,
        enough.diagnosis,
        dict(enough.details),
        enough.has_fired,
    )
    assert not is_shown(plan(), weighed(30), None)


def test_what_rang_is_judged_however_few_there_were() -> None:
    """A change that is complete shows within a dozen samples."""
    found = told(weighed(0, drifted=25))
    assert found.has_fired
    assert found.is_judged
    assert 1.0 <= found.evidence_ratio
    assert ("noise",) == found.features
    assert "noise" in found.diagnosis


def test_details_name_samples_from_before_and_after() -> None:
    """Of the reference where none of before is known."""
    details = told(weighed(60, drifted=25)).details
    assert 3 == len(details["examples"]["before"])
    assert all(each.startswith("r") for each in details["examples"]["before"])
    assert ["after-1", "after-2"] == details["examples"]["after"]
    assert details["since"] is not None
    early = told(weighed(0, drifted=25)).details
    assert (["x1", "x2", "x3"], None) == (early["examples"]["before"], early["since"])


def test_an_alarm_that_rings_keeps_since_when() -> None:
    """It rings for the same thing, again and again."""
    known: Mapping[str, Any] = {"since": "then", "examples": {"before": ["b"], "after": ["a"]}}
    details = told(weighed(60, drifted=25), alarm=replace(ALARM, details=known)).details
    assert ("then", ["b"]) == (details["since"], details["examples"]["before"])
    over = replace(ALARM, details=known, state=AlarmState.RESOLVED)
    assert "then" != told(weighed(60, drifted=25), alarm=over).details["since"]


def test_the_samples_since_the_evidence_was_lowest_are_described() -> None:
    """Up to where it rang, and no fewer than eight."""
    state = weighed(60, drifted=25)
    assert state.fired is not None
    ids = described_ids(state)
    assert state.fired.then.window[-1] == ids[-1] < 84
    assert 8 <= len(ids) <= 40


def test_alarms_of_slices_that_are_no_more_end_once() -> None:
    """And are left alone once they did."""
    gone = replace(ALARM, slice="source=x")
    ended = replace(ALARM, slice="source=y", state=AlarmState.UNKNOWN)
    alarms = {"": ALARM, "source=x": gone, "source=y": ended}
    (found,) = left_over(alarms, MODEL, [""])
    assert ("source=x", False) == (found.slice, found.is_judged)
    assert "source=x: the reference of conveyor@1 does not tell it apart" == found.ended
