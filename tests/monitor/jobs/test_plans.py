"""What a model version is judged by: the features that are left, and levels that sum to the operator's."""

from datetime import UTC, datetime

import numpy as np
import pytest

from monitor.jobs.plans import MAX_SLICE_WINDOW, Planner, make_plans
from monitor.ranks import rank_values
from monitor.records import NotReadyError, Reference
from monitor.settings import MonitorSettings
from monitor.summaries import (
    ALL_SAMPLES,
    HOURS_OF_DAY,
    Fit,
    ReferenceSummary,
    Slice,
    SliceKind,
    SliceSummary,
    Stratum,
)


def reference(*, number: int = 1, cameras: int = 3) -> Reference:
    """Two features, in all samples and of some cameras."""
    rng = np.random.default_rng(number)

    def summary(of: Slice) -> SliceSummary:
        names = ("noise", "brightness")
        ranked = {name: rank_values(rng.normal(size=200), limit=100) for name in names}
        return SliceSummary(of, (Stratum(HOURS_OF_DAY, ranked),))

    slices = [ALL_SAMPLES, *(Slice(SliceKind.SOURCE, f"c{n}") for n in range(cameras))]
    return Reference(
        id=number,
        model_name="conveyor",
        model_version="1",
        created_at=datetime(2030, 1, 1, tzinfo=UTC),
        source="x",
        covers_until=None,
        summary=ReferenceSummary(200, Fit({}), tuple(summary(each) for each in slices)),
    )


def test_levels_of_all_slices_sum_to_the_operators() -> None:
    """However many there are, at most: half to all samples, the rest in equal parts."""
    settings = MonitorSettings(drift_alpha=0.02, max_slices=3)
    levels = [plan.level for plan, _ in make_plans(reference(), settings)]
    assert 0.01 == pytest.approx(levels[0].alpha_reference + levels[0].alpha_stream)
    assert 0.02 == pytest.approx(sum(each.alpha_reference + each.alpha_stream for each in levels))


def test_without_slices_all_samples_have_the_whole_level() -> None:
    """Nothing is set aside for what cannot be."""
    ((plan, _),) = make_plans(reference(cameras=0), MonitorSettings(drift_alpha=0.02))
    assert 0.02 == pytest.approx(plan.level.alpha_reference + plan.level.alpha_stream)


def test_no_more_slices_than_the_settings_say() -> None:
    """The reference's first ones; each remembers a short window only."""
    settings = MonitorSettings(max_slices=2, window_samples=1000)
    plans = make_plans(reference(), settings)
    assert ["", "source=c0", "source=c1"] == list(plans.slices)
    assert {"c0", "c1"} == plans.known_sources
    assert [1000, MAX_SLICE_WINDOW, MAX_SLICE_WINDOW] == [plan.window_samples for plan, _ in plans]


def test_ignored_features_are_no_bets() -> None:
    """And evidence that was gathered with them is told apart by its digest."""
    everything = make_plans(reference(), MonitorSettings())
    fewer = make_plans(reference(), MonitorSettings(ignored_features="noise"))
    other = make_plans(reference(), MonitorSettings(ignored_features="brightness"))
    assert (("brightness", "noise"), ("brightness",)) == (everything.features, fewer.features)
    digests = {plans.slices[""][0].digest for plans in (everything, fewer, other)}
    assert 3 == len(digests)


def test_no_feature_left_is_refused_with_the_fix() -> None:
    """Nothing could ever ring."""
    settings = MonitorSettings(ignored_features="noise,brightness")
    with pytest.raises(NotReadyError, match="MONITOR_IGNORED_FEATURES"):
        make_plans(reference(), settings)


def test_a_reference_is_planned_once() -> None:
    """Until there is another."""
    planner = Planner(MonitorSettings())
    first = planner.plan(reference())
    assert first is planner.plan(reference())
    assert first is not planner.plan(reference(number=2))
