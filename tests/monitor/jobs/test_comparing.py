"""A window beside its reference: scores, words, harm and the samples that lie furthest out."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from gateway.store.records import ModelVersion, Sample, Stage
from monitor.jobs.comparing import Compared, compare, leading_features
from monitor.ranks import rank_values
from monitor.records import Harm, Reference
from monitor.settings import MonitorSettings
from monitor.summaries import ALL_SAMPLES, Fit, ReferenceSummary, SliceSummary, Stratum

START = datetime(2030, 1, 1, 12, tzinfo=UTC)
NAMES = ("brightness", "noise")
DAY = frozenset(range(6, 18))
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


def reference() -> Reference:
    """What is normal by day; of the night it knows nothing."""
    rng = np.random.default_rng(1)
    ranked = {name: rank_values(rng.normal(size=400), limit=400) for name in NAMES}
    summary = SliceSummary(ALL_SAMPLES, (Stratum(DAY, ranked),))
    return Reference(
        id=1,
        model_name="conveyor",
        model_version="1",
        created_at=START,
        source="x",
        covers_until=None,
        summary=ReferenceSummary(400, Fit({}), (summary,)),
    )


def samples(count: int, *, shift: float = 0.0, at: datetime = START) -> list[Sample]:
    """One a second, of which the brightness is shifted."""
    rng = np.random.default_rng(2)
    return [
        Sample(
            request_id=f"r{number}",
            received_at=at + timedelta(seconds=number),
            model_name="conveyor",
            model_version="1",
            principal="p",
            input_sha256="0" * 64,
            features={"brightness": shift + float(rng.normal()), "noise": float(rng.normal())},
            detections=(),
            kept_probability=1.0,
            image_probability=0.0,
        )
        for number in range(count)
    ]


def compared(given: list[Sample], **options: object) -> Compared:
    """As a look compares them."""
    made = reference()
    return compare(
        given,
        made.summary.slices[0],
        model=MODEL,
        reference=made,
        features=NAMES,
        settings=MonitorSettings(),
        **options,  # type: ignore[arg-type]  # evidence or leading, by name
    )


def test_what_moved_is_told_with_its_effect() -> None:
    """And the confidences, which are not there, tell nothing of harm."""
    found = compared(samples(60, shift=-5.0))
    assert ("brightness",) == found.drifted
    assert "brightness fell from" in found.explained.sentence
    assert -0.9 > next(s.effect for s in found.scores if s.feature == "brightness")
    assert Harm.UNKNOWN is found.verdict.harm
    assert 60 == found.window.sample_count


def test_the_words_are_about_the_leading_features() -> None:
    """Of few samples no score may exceed its threshold yet, and the evidence knows what it comes from."""
    found = compared(samples(6, shift=-1.5), leading=("brightness",))
    assert () == found.drifted
    assert "brightness" in found.explained.sentence


def test_the_furthest_samples_are_named_first() -> None:
    """In the features that are told."""
    given = samples(40)
    given[17] = replace(given[17], features={"brightness": -50.0, "noise": 0.0})
    assert "r17" == compared(given, leading=("brightness",)).furthest[0]


def test_samples_of_other_hours_are_not_compared() -> None:
    """Where there are no others, nothing is said."""
    night = START.replace(hour=23)
    assert ((), "") == (
        compared(samples(60, shift=-5.0, at=night)).scores,
        compared(samples(60, at=night)).explained.sentence,
    )
    mixed = compared([*samples(60), *samples(20, shift=-5.0, at=night)])
    assert () == mixed.drifted
    assert set(mixed.furthest) <= {sample.request_id for sample in samples(60)}


def test_no_samples_have_nothing_to_say() -> None:
    """As before the first one."""
    assert (0, ()) == (compared([]).window.sample_count, compared([]).scores)


def test_evidence_that_is_none_stands_beside_no_score() -> None:
    """ln 0 is no number that a database or JSON could hold."""
    found = compared(samples(60), evidence={"brightness": -np.inf, "noise": -2.0})
    assert {"brightness": None, "noise": -2.0} == {s.feature: s.evidence for s in found.scores}


def test_leading_features_are_those_near_the_strongest() -> None:
    """Within a power of ten; none before there is any evidence."""
    by_feature = {"a": -3.0, "b": 1.0, "c": 0.5, "d": -0.5}
    assert ("b", "c") == leading_features(by_feature)
    assert () == leading_features({"a": -np.inf})
    assert () == leading_features({})
