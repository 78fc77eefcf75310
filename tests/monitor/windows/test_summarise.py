"""References of samples: what is ranked on what, slices, hours, and a size that is bounded."""

from collections.abc import Sequence

import numpy as np
import pytest

from monitor.records import NotReadyError
from monitor.summaries import ALL_SAMPLES, HOURS_OF_DAY, Slice, SliceKind, SliceSummary
from monitor.windows.choosing import LeftOut, Omission
from monitor.windows.content import MAX_CONTENT_BYTES, dump_summary, parse_summary
from monitor.windows.fitting import fit_reference
from monitor.windows.slicing import client_slice, parse_bands
from monitor.windows.summarise import ReferenceSample, _drawn_halves, summarise, summarise_told
from tests.monitor.windows.summaries import START, draw_samples, found, measured

DAY_AND_NIGHT = parse_bands("06-18,18-06")
HOUR_MINUTES = 60.0


def test_features_of_the_gateway_are_ranked_on_all_samples() -> None:
    """And those that the reference defines on the half that did not define them."""
    summary = summarise(draw_samples(200), preprocessing="weights 0")
    (everything,) = summary.slices
    (stratum,) = everything.strata
    counts = {name: ranked.sample_count for name, ranked in stratum.features.items()}
    assert (200, 200) == (counts["f00"], counts["f01"])
    assert {100} == {counts[name] for name in counts if not name.startswith("f")}
    assert {"class_surprise", "embedding_1", "embedding_residual"} < counts.keys()
    assert (200, HOURS_OF_DAY, ALL_SAMPLES) == (
        summary.sample_count,
        stratum.hours,
        everything.slice,
    )
    assert "weights 0" == summary.preprocessing


def test_the_fit_knows_nothing_of_the_samples_that_are_ranked() -> None:
    """Of each two neighbours one is drawn, and only the others define what is usual."""
    samples = draw_samples(200)
    fitting = [
        sample.measurement
        for sample, ranked in zip(samples, _drawn_halves(200), strict=True)
        if not ranked
    ]
    assert fit_reference(fitting).class_shares == summarise(samples).fit.class_shares


def test_cameras_that_take_turns_are_on_both_sides() -> None:
    """Every second sample would give each side cameras of its own."""
    is_ranked = _drawn_halves(2000)
    assert 1000 == is_ranked.sum()
    for number in (2, 4, 10):
        for first in range(number):
            assert 0.35 < is_ranked[first::number].mean() < 0.65


def test_too_few_samples_are_refused_with_the_number_needed() -> None:
    """99 cannot tell a rare scene from a new one."""
    with pytest.raises(NotReadyError, match="only 99 samples, a reference needs at least 100"):
        summarise(draw_samples(99))


def test_a_few_samples_have_a_reference() -> None:
    """A hundred without boxes, numbers or embeddings."""
    summary = summarise([ReferenceSample(measured(a=None))] * 100)
    (stratum,) = summary.slices[0].strata
    assert {-np.inf} == set(stratum.features["a"].lowest.tolist())
    assert ("a", "class_count_other", "class_surprise") == tuple(stratum.features)
    assert (None, ()) == (summary.covers_from, summary.examples)


def test_hours_have_strata_of_their_own() -> None:
    """Each of the samples of its hours alone."""
    samples = draw_samples(480, minutes=HOUR_MINUTES)
    summary = summarise(samples, bands=DAY_AND_NIGHT)
    day, night = summary.slices[0].strata
    assert DAY_AND_NIGHT == (day.hours, night.hours)
    by_day = [
        sample.measurement.features["f00"]
        for sample in samples
        if sample.received_at is not None and sample.received_at.hour in day.hours
    ]
    assert sorted(np.float32(each) for each in by_day if each is not None) == (
        day.features["f00"].lowest.tolist()
    )
    assert (240, 240) == (day.features["f00"].sample_count, night.features["f00"].sample_count)


def test_samples_of_other_hours_are_left_out() -> None:
    """Nothing is known of these hours then."""
    summary = summarise(draw_samples(480, minutes=HOUR_MINUTES), bands=parse_bands("06-18"))
    (stratum,) = summary.slices[0].strata
    assert (240, 240) == (summary.sample_count, stratum.features["f00"].sample_count)


def test_each_band_needs_its_samples() -> None:
    """The message counts them for each."""
    message = "only 152 at 00-18 UTC, 48 at 18-24 UTC: a reference needs at least 100 in each band"
    with pytest.raises(NotReadyError, match=message):
        summarise(draw_samples(200, minutes=HOUR_MINUTES), bands=parse_bands("00-18,18-24"))


def test_hours_without_times_are_no_hours() -> None:
    """Of files nothing is known of when their images were taken."""
    with pytest.raises(ValueError, match="samples without a time"):
        summarise([ReferenceSample(found(1))] * 100, bands=DAY_AND_NIGHT)


def test_common_cameras_and_clients_are_slices() -> None:
    """In turn, the commonest first of each, and only those with enough samples."""
    samples = draw_samples(900, sources=("a", "a", "b", "b", "b", None), clients=("x", "y"))
    rare = draw_samples(99, sources=("rare",), clients=("z",), seed=1)
    summary = summarise([*samples, *rare], max_slices=16)
    assert ["", "client=2d711642b726b044", "source=b", "client=a1fce4363854ff88", "source=a"] == [
        each.slice.text for each in summary.slices
    ]
    assert 450 == _samples_of(summary.slices[2])


def test_the_only_camera_is_no_slice() -> None:
    """It is all samples, and would be judged twice; one beside unnamed samples is a slice."""
    only = draw_samples(200, sources=("a",), clients=("x",))
    assert 1 == len(summarise(only, max_slices=16).slices)
    mixed = draw_samples(200, sources=("a", None), clients=("x",))
    assert [ALL_SAMPLES, Slice(SliceKind.SOURCE, "a")] == [
        each.slice for each in summarise(mixed, max_slices=16).slices
    ]


def test_slices_are_few() -> None:
    """As many as the level is shared out to; none where none are asked for."""
    samples = draw_samples(600, sources=("a", "b", "c"), clients=("x", "y"))
    assert ["", "client=2d711642b726b044", "source=a"] == [
        each.slice.text for each in summarise(samples, max_slices=2).slices
    ]
    assert 1 == len(summarise(samples).slices)


def test_names_of_one_client_do_not_crowd_out_the_cameras_of_another() -> None:
    """Each of mallory's is commoner, and there are as many as slots."""
    victims = draw_samples(480, sources=[f"cam{n}" for n in range(4)], clients=["victim"])
    fakes = draw_samples(2000, sources=[f"fake{n}" for n in range(16)], clients=["mallory"], seed=1)
    told = summarise_told([*victims, *fakes], max_slices=16)
    texts = {each.slice.text for each in told.summary.slices}
    assert {f"source=cam{n}" for n in range(4)} < texts
    assert {client_slice("victim").text, client_slice("mallory").text} < texts
    assert 8 == sum(text.startswith("source=fake") for text in texts)
    assert {(f"source=fake{n}", Omission.SLOTS) for n in range(2, 10)} == {
        (each.slice.text, each.why) for each in told.left_out
    }


def test_what_is_left_out_is_told_with_why() -> None:
    """Rare ones are no slices anyway."""
    samples = draw_samples(300, sources=("a", "b"), clients=(None,), minutes=HOUR_MINUTES)
    rare = draw_samples(99, sources=("rare",), seed=1)
    told = summarise_told([*samples, *rare], bands=DAY_AND_NIGHT, max_slices=16)
    assert [("source=a", "hours"), ("source=b", "hours")] == _told(told.left_out)
    assert [("source=b", "slots")] == _told(summarise_told(samples, max_slices=1).left_out)


def test_slices_without_room_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last ones, so that both kinds keep half."""
    samples = draw_samples(600, sources=("a", "b", "c"), clients=("x", "y"))
    monkeypatch.setattr("monitor.windows.summarise.room_for_ranks", lambda *_: 8_000)
    told = summarise_told(samples, max_slices=16)
    kept = [each.slice.kind for each in told.summary.slices[1:]]
    assert [SliceKind.CLIENT, SliceKind.SOURCE] == kept[:2]
    assert {"room"} == {why for _, why in _told(told.left_out)}
    assert 5 == len(kept) + len(told.left_out)


def test_a_slice_knows_the_hours_that_it_has_samples_of() -> None:
    """A camera that is off at night is not judged then."""
    day = draw_samples(480, sources=("a", "b"), minutes=HOUR_MINUTES)
    off = [
        s
        for s in day
        if s.source == "b" or (s.received_at is not None and 6 <= s.received_at.hour < 18)
    ]
    more = draw_samples(300, sources=("a", "b"), minutes=HOUR_MINUTES, seed=1)
    summary = summarise(
        [*off, *(each for each in more if each.source == "b")],
        bands=DAY_AND_NIGHT,
        max_slices=4,
    )
    strata = {each.slice.text: [s.hours for s in each.strata] for each in summary.slices}
    assert [DAY_AND_NIGHT[0]] == strata["source=a"]
    assert [*DAY_AND_NIGHT] == strata["source=b"]


def test_examples_and_the_first_time_are_kept() -> None:
    """Eight of the requests, spread over all."""
    summary = summarise(draw_samples(200))
    assert START == summary.covers_from
    assert [f"00000000-0000-4000-8000-{number:012}" for number in range(0, 200, 25)] == [
        *summary.examples
    ]


@pytest.mark.parametrize(
    ("features", "embedding", "sources", "hours", "slices"),
    [
        (48, 256, 16, "06-18,18-06", 11),
        (48, 2048, 16, "06-18,18-06", 7),
        (48, 8, 16, "00-06,06-12,12-18,18-24", 5),
        (4, 8, 2, "00-24", 3),
    ],
)
def test_the_stored_form_is_bounded(
    features: int, embedding: int, sources: int, hours: str, slices: int
) -> None:
    """With every feature that can be watched, and as many slices as fit; most of the room is used."""
    samples = draw_samples(
        130 * sources * len(parse_bands(hours)) + 200,
        features=features,
        embedding=embedding,
        sources=[f"camera-{number}" for number in range(sources)],
        minutes=61.0,
    )
    samples = [
        ReferenceSample(
            type(s.measurement)(
                {f"{name}_{'x' * 60}": v for name, v in s.measurement.features.items()},
                s.measurement.detections,
                s.measurement.embedding,
            ),
            s.received_at,
            s.client,
            s.source,
            s.request_id,
        )
        for s in samples
    ]
    summary = summarise(samples, bands=parse_bands(hours), max_slices=16, preprocessing="p" * 200)
    content = dump_summary(summary)
    assert len(content.encode()) <= MAX_CONTENT_BYTES
    assert slices == len(summary.slices)
    assert dump_summary(parse_summary(content, sample_count=summary.sample_count)) == content


def _told(left_out: Sequence[LeftOut]) -> list[tuple[str, str]]:
    return [(each.slice.text, each.why.value) for each in left_out]


def _samples_of(summary: SliceSummary) -> int:
    return max(ranked.sample_count for ranked in summary.strata[0].features.values())
