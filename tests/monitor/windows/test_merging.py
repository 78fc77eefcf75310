"""One reference of several: true of all their samples, and of no feature that they computed differently."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from monitor.records import InputError, Reference
from monitor.summaries import Fit, ReferenceSummary
from monitor.windows.content import MAX_CONTENT_BYTES, dump_summary, parse_summary
from monitor.windows.merging import merge_references, same_embedding, why_overlapping
from monitor.windows.slicing import parse_bands
from monitor.windows.summarise import ReferenceSample, summarise
from tests.monitor.windows.summaries import (
    START,
    draw_samples,
    draw_summary,
    found,
    measured,
    reference_of,
)

DAY_AND_NIGHT = parse_bands("06-18,18-06")
HOUR = timedelta(hours=1)


def test_ranks_of_all_samples_are_known() -> None:
    """To within intervals that hold what one reference of all would have had."""
    first, second = draw_samples(300, seed=1), draw_samples(200, seed=2)
    merged = _merge(summarise(first), summarise(second)).slices[0].strata[0].features["f00"]
    values = [each.measurement.features["f00"] for each in (*first, *second)]
    ordered = np.sort(np.array(values, np.float32))
    assert 500 == merged.sample_count
    assert (merged.lowest <= ordered[merged.ranks - 1]).all()
    assert (ordered[merged.ranks - 1] <= merged.highest).all()


def test_what_was_computed_differently_is_left_out() -> None:
    """Two projections and two opinions on what is usual give numbers that do not compare."""
    merged = merge_references(
        _references(draw_summary(200, seed=1), draw_summary(200, seed=2)), max_slices=0
    )
    names = set(merged.summary.slices[0].strata[0].features)
    assert {"f00", "f01"} < names
    assert not {"class_surprise", "embedding_1", "embedding_residual"} & names
    assert {"class_surprise", "embedding_1", "embedding_residual"} < set(merged.dropped)
    assert merged.summary.fit.embedding is None
    assert names.isdisjoint(merged.dropped)


def test_what_was_computed_alike_stays() -> None:
    """Parts of one fit, as of one reference that was merged with itself."""
    part = draw_summary(200)
    merged = _merge(part, part)
    assert set(part.slices[0].strata[0].features) == set(merged.slices[0].strata[0].features)
    assert same_embedding(part.fit.embedding, merged.fit.embedding)
    assert part.fit.class_shares == merged.fit.class_shares


def test_other_classes_are_those_that_none_counts() -> None:
    """Where two count different classes, the rest is not the same rest."""
    first = summarise(_of_classes(1, 2))
    second = summarise(_of_classes(1, 3))
    names = set(_merge(first, second).slices[0].strata[0].features)
    assert "class_count_1" in names
    assert not {"class_count_2", "class_count_3", "class_count_other"} & names
    alike = set(_merge(first, summarise(_of_classes(1, 2, 1))).slices[0].strata[0].features)
    assert {"class_count_1", "class_count_2", "class_count_other"} == alike


def test_shares_of_classes_are_weighted_by_samples() -> None:
    """A large reference knows more of them."""
    small = _with_shares(draw_summary(100), {1: 0.9})
    large = _with_shares(draw_summary(300), {1: 0.5, 2: 0.4})
    assert {1: pytest.approx(0.6), 2: pytest.approx(0.3)} == _merge(small, large).fit.class_shares


# The first 16 hexadecimal characters of the name's SHA-256.
CLIENT_X = "client=2d711642b726b044"
CLIENT_Y = "client=a1fce4363854ff88"


def test_slices_are_merged_with_their_like() -> None:
    """One that only one part knows stays as it is known there; clients in turn with cameras, the commonest first."""
    first = summarise(draw_samples(400, sources=("a", "b")), max_slices=4)
    second = summarise(
        draw_samples(600, sources=("b", "c"), clients=("x", "y"), seed=2), max_slices=8
    )
    merged = _merge(first, second, max_slices=4)
    counts = {
        each.slice.text: each.strata[0].features["f00"].sample_count for each in merged.slices
    }
    assert {"": 1000, CLIENT_X: 300, "source=b": 500, CLIENT_Y: 300, "source=c": 300} == counts
    assert [*counts] == ["", CLIENT_X, "source=b", CLIENT_Y, "source=c"]


def test_hours_are_merged_with_their_like() -> None:
    """Each band by itself."""
    parts = [
        summarise(draw_samples(480, seed=seed, minutes=60.0), bands=DAY_AND_NIGHT)
        for seed in (1, 2)
    ]
    merged = _merge(*parts)
    assert [*DAY_AND_NIGHT] == [stratum.hours for stratum in merged.slices[0].strata]
    assert [480, 480] == [s.features["f00"].sample_count for s in merged.slices[0].strata]


def test_the_stored_form_of_a_merged_reference_is_bounded() -> None:
    """Though each rank is an interval."""
    sources = [f"camera-{number}" for number in range(12)]
    parts = [
        summarise(
            draw_samples(2600, features=44, sources=sources, seed=seed, minutes=61.0, embedding=0),
            bands=DAY_AND_NIGHT,
            max_slices=16,
        )
        for seed in (1, 2)
    ]
    merged = _merge(*parts, max_slices=16)
    content = dump_summary(merged)
    assert 90_000 < len(content) <= MAX_CONTENT_BYTES
    assert dump_summary(parse_summary(content, sample_count=merged.sample_count)) == content


def test_examples_are_of_all_parts() -> None:
    """And the beginning is that of the first."""
    first = replace(draw_summary(100), examples=("a", "b"), covers_from=START + HOUR)
    second = replace(draw_summary(100), examples=tuple("cdefghij"), covers_from=START)
    references = [
        reference_of(part, reference_id=number, covers_until=START + 2 * HOUR)
        for number, part in enumerate((first, second))
    ]
    merged = merge_references(references, max_slices=0).summary
    assert ("a", "b", "c", "d", "e", "f") == merged.examples
    assert START == merged.covers_from
    unknown = reference_of(replace(second, covers_from=None), covers_until=START)
    assert merge_references([references[0], unknown], max_slices=0).summary.covers_from is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"version": "2"}, "reference 1 is of conveyor 1, 2 of conveyor 2"),
        ({"preprocessing": "other"}, "references 1 and 2 were measured with different weights"),
        ({"bands": DAY_AND_NIGHT}, "reference 1 has the hours 00-24, 2 has 06-18 and 18-06"),
    ],
)
def test_what_was_not_measured_alike_is_refused(change: dict[str, object], problem: str) -> None:
    """Its numbers differ without any drift."""
    bands = change.get("bands")
    second = draw_summary(400, bands=DAY_AND_NIGHT) if bands else draw_summary(400)
    second = replace(second, preprocessing=str(change.get("preprocessing", "p")))
    version = str(change.get("version", "1"))
    parts = [
        reference_of(draw_summary(400), reference_id=1),
        reference_of(second, reference_id=2, version=version),
    ]
    with pytest.raises(InputError, match=problem):
        merge_references(parts, max_slices=0)


def test_references_without_a_common_feature_are_refused() -> None:
    """Nothing would be watched."""
    first = summarise([ReferenceSample(measured(a=1.0))] * 100)
    second = summarise([ReferenceSample(measured(b=1.0))] * 100)
    bare = [_only(first, "a"), _only(second, "b")]
    with pytest.raises(InputError, match="no feature in common"):
        _merge(*bare)


@pytest.mark.parametrize(
    ("spans", "is_overlapping"),
    [
        ([(0, 1), (2, 3)], False),
        ([(2, 3), (0, 1)], False),
        ([(0, 2), (2, 3)], True),
        ([(0, 9), (1, 2), (3, 4)], True),
        ([(0, 1), (None, 3)], True),
        ([(None, 3)], False),
        ([(0, 1), (None, None)], False),
    ],
)
def test_the_same_time_may_be_the_same_samples(
    spans: Sequence[tuple[int | None, int | None]], is_overlapping: bool
) -> None:
    """Where a beginning is not known it may be long ago; of files no time is known at all."""
    parts = [
        reference_of(
            replace(
                draw_summary(100, seed=seed),
                covers_from=None if begin is None else START + begin * HOUR,
            ),
            covers_until=None if end is None else START + end * HOUR,
        )
        for seed, (begin, end) in enumerate(spans)
    ]
    assert is_overlapping is (why_overlapping(parts) is not None)


def test_the_same_file_twice_is_the_same_samples() -> None:
    """Though nothing is known of when its samples were."""
    same, other = draw_summary(100, seed=1), draw_summary(100, seed=2)
    assert why_overlapping(_references(same, other)) is None
    assert "references 1 and 3 hold the same samples" == why_overlapping(
        _references(same, other, replace(same, examples=()))
    )


def _references(*parts: ReferenceSummary) -> list[Reference]:
    return [reference_of(part, reference_id=number) for number, part in enumerate(parts, start=1)]


def _merge(*parts: ReferenceSummary, max_slices: int = 0) -> ReferenceSummary:
    return merge_references(_references(*parts), max_slices=max_slices).summary


def _with_shares(summary: ReferenceSummary, shares: dict[int, float]) -> ReferenceSummary:
    return replace(summary, fit=Fit(class_shares=shares, embedding=summary.fit.embedding))


def _of_classes(*class_ids: int) -> list[ReferenceSample]:
    return [ReferenceSample(found(*class_ids))] * 100


def _only(summary: ReferenceSummary, name: str) -> ReferenceSummary:
    (everything,) = summary.slices
    (stratum,) = everything.strata
    kept = replace(stratum, features={name: stratum.features[name]})
    return replace(summary, slices=(replace(everything, strata=(kept,)),))
