"""What an alarm is told: why it rings once it does, and nothing before."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from gateway.store.records import ModelVersion, Stage
from monitor.alarms import Watched
from monitor.drift.bets import plan_bets
from monitor.drift.diagnosis import Diagnosis
from monitor.drift.harm import HarmVerdict
from monitor.drift.levels import level_of_all
from monitor.jobs.beginning import Beginning
from monitor.jobs.comparing import Compared
from monitor.jobs.telling import Shown, is_shown, is_told, left_over, tell
from monitor.jobs.weighing import Arrivals, Plan, Weighed, nothing_weighed, weigh
from monitor.ranks import rank_values
from monitor.records import Alarm, AlarmState, Harm, Window
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
BEGINNING = Beginning(first_id=61, since=START + timedelta(minutes=61), before=("r59", "r60"))
TOLD = Compared(Window({}, 12), furthest=("after-1", "after-2"))
SHOWN = Shown(Compared(Window({}, 30)), TOLD, BEGINNING)
HARMFUL, HARMLESS = HarmVerdict(Harm.HARMFUL, "less sure"), HarmVerdict(Harm.HARMLESS, "as sure")
UNKNOWN = HarmVerdict(Harm.UNKNOWN, "too few")


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
    state = weighed(60, drifted=25)
    details = told(state).details
    assert {"before": ["r59", "r60"], "after": ["after-1", "after-2"]} == details["examples"]
    assert ("2030-01-01T01:01:00+00:00", 12) == (details["since"], details["samples"])
    early = told(state, shown=replace(SHOWN, beginning=replace(BEGINNING, before=()))).details
    assert ["x1", "x2", "x3"] == early["examples"]["before"]


@pytest.mark.parametrize(("count", "ending"), [(1, " (of 1 sample)"), (5, " (of 5 samples)")])
def test_of_a_few_samples_it_is_said_how_few(count: int, ending: str) -> None:
    """Within the length of a sentence."""
    long = replace(TOLD, window=Window({}, count), explained=Diagnosis("x" * 400))
    found = told(weighed(60, drifted=25), shown=replace(SHOWN, told=long))
    assert found.diagnosis.endswith(ending)
    assert 400 == len(found.diagnosis)
    assert found.diagnosis == found.details["sentence"]
    enough = replace(long, window=Window({}, 8))
    assert "x" * 400 == told(weighed(60, drifted=25), shown=replace(SHOWN, told=enough)).diagnosis


@pytest.mark.parametrize(
    ("last", "verdict", "samples", "harm", "why"),
    [
        (Harm.UNKNOWN, HARMFUL, 10, Harm.HARMFUL, "less sure"),
        (Harm.HARMLESS, HARMFUL, 10, Harm.HARMFUL, "less sure"),
        (Harm.HARMFUL, UNKNOWN, 100, Harm.HARMFUL, "before"),
        (Harm.HARMLESS, UNKNOWN, 100, Harm.HARMLESS, "before"),
        (Harm.HARMFUL, HARMLESS, 49, Harm.HARMFUL, "before"),
        (Harm.HARMFUL, HARMLESS, 50, Harm.HARMLESS, "as sure"),
        (Harm.UNKNOWN, HARMLESS, 10, Harm.HARMLESS, "as sure"),
    ],
)
def test_harm_gets_worse_at_once_and_is_not_taken_back_to_unknown(
    last: Harm, verdict: HarmVerdict, samples: int, harm: Harm, why: str
) -> None:
    """While it rings; what was resolved begins anew."""
    shown = replace(SHOWN, told=replace(TOLD, window=Window({}, samples), verdict=verdict))
    ringing = replace(ALARM, harm=last, details={"harm": {"why": "before"}})
    found = told(weighed(60, drifted=25), shown=shown, alarm=ringing)
    assert (harm, why) == (found.harm, found.details["harm"]["why"])
    over = replace(ringing, state=AlarmState.RESOLVED)
    assert verdict.harm is told(weighed(60, drifted=25), shown=shown, alarm=over).harm


def test_what_rings_is_told_again_only_while_it_is_there() -> None:
    """Else the words would be about samples that are as they should be."""
    gone, there, few = (
        replace(weighed(0, drifted=25), fired=None, judged=1),
        replace(weighed(60, drifted=25), fired=None, judged=1),
        replace(weighed(3), judged=1),
    )
    gone = replace(gone, evidence=weighed(60).evidence, remembered=weighed(60).remembered)
    assert (False, True, True) == tuple(is_told(plan(), s, ALARM) for s in (gone, there, few))
    assert not is_told(plan(), replace(there, judged=0), ALARM)
    assert not is_told(plan(), few, None)


def test_alarms_of_slices_that_are_no_more_end_once() -> None:
    """And are left alone once they did."""
    gone = replace(ALARM, slice="source=x")
    ended = replace(ALARM, slice="source=y", state=AlarmState.UNKNOWN)
    alarms = {"": ALARM, "source=x": gone, "source=y": ended}
    (found,) = left_over(alarms, MODEL, [""])
    assert ("source=x", False) == (found.slice, found.is_judged)
    assert "source=x: the reference of conveyor@1 does not tell it apart" == found.ended
