"""Ignoring the count of a class leaves what the other counts mean as it is."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from gateway.store.records import ModelVersion, Sample, Stage, StoredSample
from monitor.drift.evidence import log10_total
from monitor.jobs.comparing import compare
from monitor.jobs.plans import make_plans
from monitor.jobs.slices import weigh_slices
from monitor.ranks import rank_values
from monitor.records import Reference
from monitor.settings import MonitorSettings
from monitor.summaries import (
    ALL_SAMPLES,
    HOURS_OF_DAY,
    Fit,
    ReferenceSummary,
    SliceSummary,
    Stratum,
)

START = datetime(2030, 1, 1, 12, tzinfo=UTC)
IGNORING = MonitorSettings(ignored_features="class_count_3")
NONE, BOX = np.zeros(300), (3, 0.9, 1.0, 1.0, 2.0, 2.0)
SUMMARY = SliceSummary(
    ALL_SAMPLES,
    (
        Stratum(
            HOURS_OF_DAY,
            {
                "class_count_3": rank_values(NONE + 2, limit=300),
                "class_count_other": rank_values(NONE, limit=300),
                "noise": rank_values(NONE + 1, limit=300),
            },
        ),
    ),
)
REFERENCE = Reference(
    id=1, model_name="conveyor", model_version="1", created_at=START, source="x",
    covers_until=None, summary=ReferenceSummary(300, Fit({3: 0.99}), (SUMMARY,)),
)  # fmt: skip


def samples(count: int) -> list[Sample]:
    """Each with two boxes of the class that is ignored, as in the reference."""
    first = Sample(
        request_id="r", received_at=START, model_name="conveyor", model_version="1",
        principal="p", input_sha256="0" * 64, features={"noise": 1.0}, detections=(BOX, BOX),
        kept_probability=1.0, image_probability=0.0,
    )  # fmt: skip
    return [
        replace(first, request_id=f"r{n}", received_at=START + timedelta(seconds=n))
        for n in range(count)
    ]


def test_a_class_that_is_ignored_is_no_other_class_for_the_evidence() -> None:
    """Counted among the others it would ring on traffic that never changed."""
    plans = make_plans(REFERENCE, IGNORING)
    stored = [StoredSample(n, sample) for n, sample in enumerate(samples(60))]
    weighed = weigh_slices(plans, {}, stored, fit=REFERENCE.summary.fit)
    assert ("class_count_other", "noise") == plans.features
    assert log10_total(weighed[""].evidence) < 0


def test_a_class_that_is_ignored_is_no_other_class_for_the_scores() -> None:
    """Nor is it shown."""
    model = ModelVersion(
        name="conveyor", version="1", stage=Stage.PRODUCTION, file_name="f",
        plaintext_sha256="0" * 64, class_names=(), input_size=(320, 320), registered_at=START,
    )  # fmt: skip
    found = compare(
        samples(60),
        SUMMARY,
        model=model,
        reference=REFERENCE,
        features=("class_count_other", "noise"),
        settings=IGNORING,
    )
    assert [("class_count_other", 0.0), ("noise", 0.0)] == [
        (score.feature, score.score) for score in found.scores
    ]
    assert {"class_count_other", "noise"} == set(found.window.features)
