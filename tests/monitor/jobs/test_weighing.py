"""Evidence of one slice over a tick: it is counted once, begins anew after it rang, and says since when."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from monitor.drift.bets import plan_bets
from monitor.drift.evidence import dump_evidence, log10_total, parse_evidence
from monitor.drift.levels import level_of_all
from monitor.jobs.weighing import (
    Arrivals,
    Plan,
    Remembered,
    Weighed,
    dump_remembered,
    nothing_weighed,
    parse_remembered,
    weigh,
)
from monitor.ranks import rank_values
from monitor.summaries import ALL_SAMPLES, HOURS_OF_DAY, SliceSummary, Stratum

START = datetime(2030, 1, 1, tzinfo=UTC)
NAMES = ("brightness", "noise")


@pytest.fixture
def plan() -> Plan:
    """Two features of 400 normal samples each."""
    rng = np.random.default_rng(3)
    ranked = {name: rank_values(rng.normal(size=400), limit=400) for name in NAMES}
    summary = SliceSummary(ALL_SAMPLES, (Stratum(HOURS_OF_DAY, ranked),))
    level = level_of_all(0.01, has_slices=False)
    bets = plan_bets(summary, features=NAMES, alpha_reference=level.alpha_reference)
    return Plan(slice_text="", bets=bets, level=level, window_samples=50)


def arrivals(count: int, *, first: int = 0, shift: float = 0.0, seed: int = 5) -> Arrivals:
    """Samples a minute apart, of which the first feature is shifted."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(count, 2)) + np.array([shift, 0.0])
    numbers = range(first, first + count)
    return Arrivals(
        ids=tuple(numbers),
        request_ids=tuple(f"r{n}" for n in numbers),
        received_at=tuple(START + timedelta(minutes=n) for n in numbers),
        values=values.astype(np.float32),
        hours=np.zeros(count, np.int64),
    )


def test_clean_samples_are_counted_and_do_not_ring(plan: Plan) -> None:
    """The newest are remembered, as many as the window holds."""
    weighed = weigh(plan, nothing_weighed(plan), arrivals(300))
    assert (300, 300) == (weighed.judged, weighed.judged_samples)
    assert weighed.fired is None
    assert tuple(range(250, 300)) == weighed.remembered.window
    assert ("r299", 300) == (
        weighed.remembered.newest_request_id,
        weighed.remembered.armed_samples,
    )
    assert plan.level.pending > weighed.largest > 0


def test_a_change_rings_and_begins_anew_with_the_rest(plan: Plan) -> None:
    """The evidence is empty after the crossing sample; the rest of the batch counts for the next time."""
    shifted = arrivals(200, shift=8.0)
    weighed = weigh(plan, nothing_weighed(plan), shifted)
    assert weighed.fired is not None
    assert weighed.largest >= plan.level.firing
    assert 200 == weighed.judged_samples
    assert 60 > weighed.fired.then.armed_samples == weighed.fired.then.window[-1] + 1
    assert weighed.remembered.armed_samples == weighed.evidence.count < 60
    assert weighed.fired.by_feature["brightness"] > weighed.fired.by_feature["noise"]


def test_how_samples_come_in_ticks_changes_no_evidence(plan: Plan) -> None:
    """One by one, in odd pieces or at once: the same crossings, and the same evidence but for the rounding of logs."""
    changing = arrivals(150, shift=4.0)
    whole = weigh(plan, nothing_weighed(plan), changing)
    for step in (1, 7, 16):
        part, fired = nothing_weighed(plan), []
        for first in range(0, 150, step):
            part = weigh(plan, part, changing.chosen(range(first, min(first + step, 150))))
            fired += [] if part.fired is None else [part.fired.then.armed_samples]
        assert whole.evidence.count == part.evidence.count
        np.testing.assert_allclose(whole.evidence.log_value, part.evidence.log_value, rtol=1e-9)
        assert whole.fired is not None
        assert whole.fired.then.armed_samples == fired[0]


def test_since_when_is_about_when_it_changed(plan: Plan) -> None:
    """The lowest evidence lies before the change, and some samples of then are named."""
    weighed, number = weigh(plan, nothing_weighed(plan), arrivals(200)), 200
    while weighed.fired is None:
        weighed = weigh(plan, weighed, arrivals(1, first=number, shift=6.0, seed=number))
        number += 1
    then = weighed.fired.then
    assert then.low_at is not None
    assert timedelta(minutes=40) > abs(then.low_at - (START + timedelta(minutes=200)))
    assert 3 == len(then.before)
    assert all(int(request_id[1:]) < 205 for request_id in then.before)
    assert number - 1 == then.window[-1]


def test_a_tick_without_samples_tells_the_evidence_as_it_stands(plan: Plan) -> None:
    """It counts nothing and changes nothing."""
    weighed = weigh(plan, nothing_weighed(plan), arrivals(10))
    again = weigh(plan, weighed, arrivals(0))
    assert (0, 10) == (again.judged, again.judged_samples)
    assert 10.0 ** log10_total(weighed.evidence) == again.largest
    assert replace(weighed, judged=0, largest=again.largest) == again


def test_what_is_stored_goes_on_as_if_it_never_was(plan: Plan) -> None:
    """Through JSON and bytes."""
    weighed = weigh(plan, nothing_weighed(plan), arrivals(120))
    content = json.loads(json.dumps(dump_remembered(weighed.remembered), allow_nan=False))
    assert weighed.remembered == parse_remembered(content)
    stored = Weighed(
        slice_text="",
        evidence=parse_evidence(dump_evidence(weighed.evidence), bets=plan.bets),
        remembered=parse_remembered(content),
        judged_samples=120,
    )
    more = arrivals(40, first=120, shift=6.0)
    direct, resumed = weigh(plan, weighed, more), weigh(plan, stored, more)
    assert direct.judged_samples == resumed.judged_samples
    assert direct.fired is not None
    assert resumed.fired is not None
    assert direct.fired.then.armed_samples == resumed.fired.then.armed_samples


@pytest.mark.parametrize("change", [{"low": "x"}, {"window": "x"}, {"low_at": "x"}, {"armed": []}])
def test_what_is_no_memory_is_refused(change: dict[str, object]) -> None:
    """Somebody wrote into the table."""
    with pytest.raises((ValueError, TypeError, KeyError)):
        parse_remembered(dump_remembered(Remembered()) | change)
