"""The evidence: silent while nothing changes, soon and sure when something does, whole however it is cut."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.drift.bets import LOSSES, TAIL_SHARES, Bets, plan_bets
from monitor.drift.evidence import (
    Evidence,
    _growth,
    _is_beyond,
    dump_evidence,
    log10_by_feature,
    log10_total,
    merge,
    no_evidence,
    observe,
    parse_evidence,
    start_shares,
)
from monitor.drift.levels import level_of_all
from monitor.ranks import Values
from tests.monitor.drift.references import NIGHT, column, names, noons, normal, stratum, summary

LEVEL = level_of_all(0.01, has_slices=False)


def plan(values: Values) -> Bets:
    """The bets on a reference of some values at the level of the tests."""
    return plan_bets(
        summary(stratum(values)),
        features=names(values.shape[1]),
        alpha_reference=LEVEL.alpha_reference,
    )


def same(first: Evidence, second: Evidence) -> bool:
    """Whether two are equal up to rounding."""
    return (
        (first.start, first.count) == (second.start, second.count)
        and np.allclose(first.log_growth, second.log_growth, rtol=1e-9, atol=1e-9)
        and np.allclose(first.log_value, second.log_value, rtol=1e-9, atol=1e-9)
    )


@pytest.mark.parametrize("count", [60, 200, 1000])
def test_it_is_silent_while_nothing_changes(count: int) -> None:
    """At a level of a half: far fewer than half of the streams ring, each with a reference of its own."""
    rng = np.random.default_rng(count)
    level = level_of_all(0.5, has_slices=False)
    rang = 0
    for _ in range(40):
        bets = plan_bets(
            summary(stratum(normal(rng, count, 3))),
            features=names(3),
            alpha_reference=level.alpha_reference,
        )
        stream = normal(rng, 1500, 3)
        rang += observe(
            bets, no_evidence(bets), stream, noons(1500), limit=level.firing
        ).has_crossed
    assert rang <= 12


def test_taking_a_reference_for_the_truth_rings_sooner_or_later() -> None:
    """Why the bounds are there: bets against k / n, and nothing else changed, ring on most clean streams."""
    rng = np.random.default_rng(7)
    rang = {"bound": 0, "truth": 0}
    for _ in range(10):
        reference, stream = normal(rng, 100, 3), normal(rng, 5000, 3)
        bets = plan(reference)
        shares = np.maximum(np.array(TAIL_SHARES * 2), 1 / 100)[:, None]
        kept = np.array(LOSSES)
        naive = replace(
            bets,
            win=np.broadcast_to((1 - (1 - shares) * kept) / shares, bets.win.shape),
            lose=np.broadcast_to(kept, bets.lose.shape),
        )
        for name, tried in (("bound", bets), ("truth", naive)):
            seen = observe(tried, no_evidence(tried), stream, noons(5000), limit=LEVEL.firing)
            rang[name] += seen.has_crossed
    assert 0 == rang["bound"]
    assert rang["truth"] >= 5


def test_ties_do_not_ring() -> None:
    """Counts and constants: what equals a limit is not beyond it."""
    rng = np.random.default_rng(3)
    reference = np.stack((rng.integers(0, 3, 200), np.full(200, 640)), axis=1).astype(np.float32)
    bets = plan(reference)
    stream = np.stack((rng.integers(0, 3, 4000), np.full(4000, 640)), axis=1).astype(np.float32)
    assert not observe(
        bets, no_evidence(bets), stream, noons(4000), limit=LEVEL.pending
    ).has_crossed


@pytest.mark.parametrize("quiet", [0, 1000])
def test_a_change_of_one_feature_in_many_rings_within_a_few_samples(quiet: int) -> None:
    """By four deviations, after any quiet time."""
    rng = np.random.default_rng(11)
    bets = plan(normal(rng, 200, 30))
    before = observe(bets, no_evidence(bets), normal(rng, quiet, 30), noons(quiet))
    drifted = normal(rng, 40, 30)
    drifted[:, 17] += 4
    seen = observe(bets, before.evidence, drifted, noons(40), limit=LEVEL.firing)
    assert seen.has_crossed
    assert seen.used <= 20
    by_feature = log10_by_feature(bets, seen.evidence)
    assert "f17" == max(by_feature, key=lambda name: by_feature[name])


@pytest.mark.parametrize(
    ("reference", "stream"),
    [
        ([0.5] * 100, [0.6] * 20),
        ([0.5] * 100, [0.4] * 20),
        ([float(n % 7) for n in range(100)], [-np.inf] * 20),
        ([-np.inf] * 100, [0.1] * 20),
    ],
    ids=["constant goes up", "constant goes down", "goes missing", "comes up"],
)
def test_what_never_was_rings(reference: list[float], stream: list[float]) -> None:
    """A constant that changes, a value that goes missing or was always missing before."""
    bets = plan(column(reference))
    assert observe(
        bets, no_evidence(bets), column(stream), noons(20), limit=LEVEL.firing
    ).has_crossed


def test_it_stops_at_the_sample_that_reaches_the_limit() -> None:
    """Looking after each sample, or at all together, finds the same one."""
    rng = np.random.default_rng(2)
    bets = plan(normal(rng, 300, 2))
    stream = np.concatenate((normal(rng, 300, 2), normal(rng, 300, 2, shift=3.0)))
    seen = observe(bets, no_evidence(bets), stream, noons(600), limit=LEVEL.firing)
    evidence, used = no_evidence(bets), 0
    while log10_total(evidence) < np.log10(LEVEL.firing):
        evidence = observe(bets, evidence, stream[used : used + 1], noons(1)).evidence
        used += 1
    assert (used, True) == (seen.used, seen.has_crossed)
    assert same(evidence, seen.evidence)
    assert seen.largest == pytest.approx(10 ** log10_total(evidence))


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 40), min_size=1, max_size=5))
def test_segments_merge_to_what_one_pass_gives(seed: int, lengths: list[int]) -> None:
    """In whichever order the segments are merged."""
    rng = np.random.default_rng(seed)
    bets = plan(normal(rng, 50, 2))
    stream = normal(rng, sum(lengths), 2, shift=float(rng.normal()))
    whole = observe(bets, no_evidence(bets), stream, noons(len(stream))).evidence
    segments, start = [], 0
    for length in lengths:
        part = stream[start : start + length]
        segments.append(observe(bets, no_evidence(bets, start=start), part, noons(length)).evidence)
        start += length
    from_left = segments[0]
    for segment in segments[1:]:
        from_left = merge(from_left, segment)
    from_right = segments[-1]
    for segment in segments[-2::-1]:
        from_right = merge(segment, from_right)
    assert same(whole, from_left)
    assert same(whole, from_right)


def test_one_by_one_gives_the_very_numbers_of_its_batches() -> None:
    """The evidence of each sample alone is reckoned in another way, which must not show; hours mixed as they come."""
    rng = np.random.default_rng(8)
    bets = plan_bets(
        summary(
            stratum(normal(rng, 400, 3), hours=frozenset(range(12))),
            stratum(normal(rng, 400, 3), hours=NIGHT),
        ),
        features=names(3),
        alpha_reference=LEVEL.alpha_reference,
    )
    values, hours = normal(rng, 40, 3), rng.integers(0, 24, 40)
    single = no_evidence(bets)
    growth = np.zeros(len(bets))
    for row in range(40):
        strata = bets.stratum_of_hour[hours[row : row + 1]]
        if strata[0] >= 0:
            growth = growth + _growth(bets, _is_beyond(bets, values[row : row + 1], strata), strata)
        single = observe(bets, single, values[row : row + 1], hours[row : row + 1]).evidence
    assert growth.tolist() == single.log_growth.tolist()
    assert same(single, observe(bets, no_evidence(bets), values, hours).evidence)


def test_segments_that_do_not_meet_are_refused() -> None:
    """A gap, and other bets."""
    bets = plan(normal(np.random.default_rng(1), 50, 2))
    others = plan(normal(np.random.default_rng(1), 50, 1))
    first = observe(bets, no_evidence(bets), np.zeros((3, 2), np.float32), noons(3)).evidence
    with pytest.raises(ValueError, match="begins after 4 samples, the first ends after 3"):
        merge(first, no_evidence(bets, start=4))
    with pytest.raises(ValueError, match="different bets"):
        merge(first, no_evidence(others, start=3))


def test_the_hour_says_what_is_normal() -> None:
    """Values of the night ring by day, and are silent at night; at an unknown hour nothing is said."""
    rng = np.random.default_rng(4)
    day = frozenset(range(8, 20))
    bets = plan_bets(
        summary(stratum(normal(rng, 200, 1), NIGHT), stratum(normal(rng, 200, 1, shift=9.0), day)),
        features=names(1),
        alpha_reference=LEVEL.alpha_reference,
    )
    stream = normal(rng, 60, 1)
    for hour, rings in ((3, False), (12, True), (7, False)):
        seen = observe(bets, no_evidence(bets), stream, np.full(60, hour), limit=LEVEL.firing)
        assert rings == seen.has_crossed
    at_unknown = observe(bets, no_evidence(bets), stream, np.full(60, 7))
    assert (60, 0) == (at_unknown.used, at_unknown.evidence.count)


def test_the_shares_of_all_times_sum_to_one() -> None:
    """However they are asked for; and what waits after n is what all later ones have."""
    parts = np.concatenate((start_shares(0, 10), start_shares(10, 90)))
    assert np.allclose(start_shares(0, 100), parts, rtol=1e-12)
    assert (np.diff(parts) < 0).all()
    spent = start_shares(0, 2_000_000).sum()
    assert 0.9 < spent < 1.0


def test_overwhelming_evidence_stays_a_number() -> None:
    """Ten thousand samples far out, and a clean stream after them."""
    rng = np.random.default_rng(6)
    bets = plan(normal(rng, 1000, 2))
    loud = observe(bets, no_evidence(bets), normal(rng, 10_000, 2, shift=50.0), noons(10_000))
    assert np.isfinite(log10_total(loud.evidence))
    assert log10_total(loud.evidence) > 200
    after = observe(bets, loud.evidence, normal(rng, 500, 2), noons(500)).evidence
    assert log10_total(after) < log10_total(loud.evidence)


def test_no_samples_change_nothing() -> None:
    """An empty window is no news."""
    bets = plan(normal(np.random.default_rng(1), 50, 2))
    seen = observe(bets, no_evidence(bets), np.zeros((0, 2), np.float32), noons(0))
    assert (0, 0.0, False) == (seen.used, seen.largest, seen.has_crossed)
    assert -np.inf == log10_total(seen.evidence)


def test_what_is_stored_is_rounded_down_and_goes_on() -> None:
    """By next to nothing: the evidence after a restart is that of before."""
    rng = np.random.default_rng(8)
    bets = plan(normal(rng, 100, 3))
    evidence = observe(bets, no_evidence(bets), normal(rng, 100, 3), noons(100)).evidence
    stored = parse_evidence(dump_evidence(evidence), bets=bets)
    assert (stored.start, stored.count) == (0, 100)
    assert (stored.log_value <= evidence.log_value).all()
    assert np.allclose(stored.log_value, evidence.log_value, atol=1e-5)
    later = replace(evidence, start=100)
    segment = parse_evidence(dump_evidence(later), bets=bets)
    assert (segment.log_growth <= later.log_growth).all()
    assert np.allclose(segment.log_growth, later.log_growth, rtol=1e-6)
    both = merge(stored, segment).log_value
    assert np.allclose(both, merge(evidence, later).log_value, atol=1e-4)
    fresh = no_evidence(bets)
    assert same(fresh, parse_evidence(dump_evidence(fresh), bets=bets))
    assert len(dump_evidence(later)) == 2 * len(dump_evidence(evidence)) - 16


@given(st.binary(max_size=300))
def test_bytes_that_are_no_evidence_are_refused(content: bytes) -> None:
    """Nothing else comes out of them than a ValueError, or evidence."""
    bets = plan(np.zeros((10, 1), np.float32))
    try:
        evidence = parse_evidence(content, bets=bets)
    except ValueError:
        return
    assert np.isfinite(evidence.log_growth).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_evidence_that_cannot_be_is_refused(value: float) -> None:
    """A row that somebody wrote must not ring by itself."""
    bets = plan(np.zeros((10, 1), np.float32))
    evidence = replace(no_evidence(bets), log_value=np.full(len(bets), value))
    with pytest.raises(ValueError, match="not evidence"):
        parse_evidence(dump_evidence(evidence), bets=bets)
    with pytest.raises(ValueError, match="not the evidence of 30 bets"):
        parse_evidence(dump_evidence(no_evidence(bets))[:-1], bets=bets)
