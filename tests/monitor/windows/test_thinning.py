"""Which samples stand for the traffic: by chance and time, never by what they show."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.store.records import Sample
from monitor.windows.thinning import (
    MAX_CHANCES,
    Chances,
    choose_samples,
    is_ordinary,
    is_taken,
    is_too_soon,
    thin_by_time,
)

START = datetime(2030, 1, 1, tzinfo=UTC)
IDS = [str(UUID(int=number)) for number in range(4000)]


def test_samples_that_chance_kept_are_all_taken() -> None:
    """And those of a time when fewer were kept."""
    assert all(is_taken(each, 0.1, 0.1) for each in IDS)
    assert all(is_taken(each, 0.05, 0.1) for each in IDS)


def test_forced_samples_are_taken_as_often_as_the_rest() -> None:
    """One in ten of those that were certain to be kept where the others had a tenth."""
    share = sum(is_taken(each, 1.0, 0.1) for each in IDS) / len(IDS)
    assert 0.1 == pytest.approx(share, abs=0.02)


def test_whether_a_sample_is_taken_is_always_the_same() -> None:
    """A literal: two monitors, and a tick and a reference, choose alike."""
    taken = [number for number in range(40) if is_taken(IDS[number], 1.0, 0.1)]
    assert [23, 27, 28, 31] == taken


@given(st.text(), st.floats(1e-6, 1.0), st.floats(1e-6, 1.0))
def test_a_larger_chance_never_loses_a_sample(request_id: str, first: float, second: float) -> None:
    """Whatever its id."""
    low, high = sorted((first, second))
    if is_taken(request_id, 1.0, low):
        assert is_taken(request_id, 1.0, high)


def test_a_camera_is_judged_once_in_a_while() -> None:
    """Its next sample counts from the last that was taken; other cameras have their own time."""
    samples = [
        *(_sample(0, source="a"), _sample(9.9, source="a"), _sample(10, source="a")),
        *(_sample(11, source="b"), _sample(19.9, source="a"), _sample(20, source="a")),
    ]
    assert [0, 10, 11, 20] == [_seconds(each) for each in thin_by_time(samples, 10.0)]


def test_samples_of_no_camera_are_all_taken() -> None:
    """Nobody knows which of them show one scene."""
    samples = [_sample(second) for second in range(5)]
    assert samples == thin_by_time(samples, 10.0)


def test_a_clock_that_was_set_back_stops_nothing() -> None:
    """An hour earlier is none too soon."""
    samples = [_sample(3600, source="a"), _sample(0, source="a"), _sample(5, source="a")]
    assert samples[:2] == thin_by_time(samples, 10.0)
    assert not is_too_soon(START, None, thin_seconds=10.0)


def test_nothing_is_too_soon_without_thinning() -> None:
    """Two samples of one moment are two."""
    samples = [_sample(0, source="a"), _sample(0, source="a")]
    assert samples == thin_by_time(samples, 0.0)


def test_what_was_left_out_is_counted() -> None:
    """The smallest chance is that of all that stay, also where most were forced."""
    forced = [replace(_sample(1000 + n), request_id=IDS[n]) for n in range(900)]
    others = [_sample(n, kept=0.1, source="a") for n in range(100)]
    chosen = choose_samples([*others, *forced], thin_seconds=2.0)
    taken = [each for each in chosen.samples if each.kept_probability == 1.0]
    assert [each for each in forced if is_taken(each.request_id, 1.0, 0.1)] == taken
    assert (900 - len(taken), 50) == (chosen.over_kept, chosen.too_soon)


def test_where_all_were_forced_the_samples_beside_them_say_how_rare_others_are() -> None:
    """One camera alone may have nothing but doubtful ones; with no ordinary sample at all, all stay."""
    forced = [replace(_sample(n), request_id=IDS[n], image_probability=1.0) for n in range(900)]
    beside = [*forced, _sample(1000, kept=0.1)]
    assert 150 > len(choose_samples(forced, thin_seconds=0.0, beside=beside).samples)
    assert forced == choose_samples(forced, thin_seconds=0.0).samples


def test_a_camera_of_each_principal_is_thinned_by_itself() -> None:
    """Whoever says another's name takes none of its turns."""
    mine, other = _sample(0, source="a"), replace(_sample(1, source="a"), principal="q")
    assert [mine, other] == thin_by_time([mine, other, _sample(2, source="a")], 10.0)


def test_only_ordinary_samples_say_how_rare_samples_are() -> None:
    """One that was certain with its image may have been forced."""
    ordinary = _sample(0, kept=0.1)
    forced = replace(_sample(1), image_probability=1.0)
    assert 1.0 == Chances().base == Chances().with_samples([forced]).base
    assert 0.1 == Chances().with_samples([forced, ordinary, forced]).base
    assert (True, True, False) == tuple(
        map(is_ordinary, (ordinary, replace(ordinary, image_probability=1.0), forced))
    )


def test_a_chance_is_forgotten_after_a_day_of_likelier_ordinary_samples() -> None:
    """Not by any number of forced ones, nor by time alone."""
    hours = 3600
    seen = Chances().with_samples([_sample(0, kept=0.1)])
    forced = [replace(_sample(30 * hours + n), image_probability=1.0) for n in range(3000)]
    assert 0.1 == seen.with_samples(forced).base
    assert 0.1 == seen.with_samples([_sample(23.9 * hours, kept=0.5)]).base
    assert 0.5 == seen.with_samples([_sample(24 * hours, kept=0.5)]).base
    renewed = seen.with_samples([_sample(12 * hours, kept=0.1), _sample(24 * hours, kept=0.5)])
    assert 0.1 == renewed.base
    assert 0.5 == renewed.with_samples([_sample(37 * hours, kept=0.5)]).base


@pytest.mark.parametrize("kept", [0.0, -1.0, 1.5])
def test_what_is_no_chance_counts_for_nothing(kept: float) -> None:
    """A row that somebody wrote."""
    assert 1.0 == Chances().with_samples([_sample(0, kept=kept)]).base
    assert [] == choose_samples([_sample(0, kept=kept)], thin_seconds=0.0).samples


@given(
    st.lists(st.lists(st.tuples(st.floats(0.01, 1.0), st.integers(0, 99)), max_size=30), max_size=9)
)
def test_chances_are_few_and_never_larger_than_those_of_the_last_day(
    batches: list[list[tuple[float, int]]],
) -> None:
    """In whatever order samples come."""
    chances = Chances()
    for batch in batches:
        chances = chances.with_samples([_sample(at * 3600, kept=kept) for kept, at in batch])
    everything = [entry for batch in batches for entry in batch]
    newest = max((at for _, at in everything), default=0)
    lately = [kept for kept, at in everything if newest - at < 24]
    assert chances.base <= min(lately, default=1.0)
    assert len(chances.seen) <= MAX_CHANCES
    assert [*chances.seen] == sorted(chances.seen)
    assert [at for _, at in chances.seen] == sorted(at for _, at in chances.seen)


def test_no_samples_are_none() -> None:
    """An empty table."""
    assert [] == choose_samples([], thin_seconds=10.0).samples


def _sample(second: float, *, source: str | None = None, kept: float = 1.0) -> Sample:
    return Sample(
        request_id=str(UUID(int=int(second * 1000) + (1 << 100))),
        received_at=START + timedelta(seconds=second),
        model_name="conveyor",
        model_version="1",
        principal="p",
        input_sha256="0" * 64,
        features={},
        detections=(),
        kept_probability=kept,
        image_probability=0.0,
        source=source,
    )


def _seconds(sample: Sample) -> float:
    return (sample.received_at - START).total_seconds()
