"""Counts in a sliding window: never fewer than are in it, and bounded."""

import random

from hypothesis import given
from hypothesis import strategies as st

from monitor.records import Place
from monitor.security.counting import Counted, WindowCounts


def add(counts: WindowCounts, key: str, seconds: float, *, weight: int = 1) -> Counted:
    """Count one record whose position is its time."""
    return counts.add(key, at_seconds=seconds, weight=weight, place=Place("gateway", int(seconds)))


def test_what_is_in_the_window_is_counted_and_what_is_older_is_not() -> None:
    """With the oldest record that still counts."""
    counts = WindowCounts(window_seconds=100, max_keys=10)
    add(counts, "a", 0)
    assert Counted(2, 0.0, Place("gateway", 0)) == add(counts, "a", 99)
    assert Counted(2, 99.0, Place("gateway", 99)) == add(counts, "a", 150)
    assert 1 == add(counts, "a", 300).count


def test_a_record_counts_for_as_many_as_it_stands_for() -> None:
    """As one of a flood does."""
    counts = WindowCounts(window_seconds=100, max_keys=10)
    add(counts, "a", 0, weight=5)
    assert 9 == add(counts, "a", 1, weight=4).count


def test_keys_are_counted_apart() -> None:
    """One address is not another."""
    counts = WindowCounts(window_seconds=100, max_keys=10)
    add(counts, "a", 0)
    assert 1 == add(counts, "b", 0).count


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=60))
def test_at_least_the_window_and_at_most_a_tenth_more_is_counted(times: list[float]) -> None:
    """For records in order."""
    counts = WindowCounts(window_seconds=100, max_keys=10)
    for number, now in enumerate(sorted(times)):
        counted = add(counts, "a", now).count
        seen = sorted(times)[: number + 1]
        assert sum(t > now - 100 for t in seen) <= counted <= sum(t >= now - 110 for t in seen)


def test_records_a_little_out_of_order_are_counted() -> None:
    """Replicas' clocks differ by seconds."""
    counts = WindowCounts(window_seconds=100, max_keys=10)
    add(counts, "a", 50)
    assert 2 == add(counts, "a", 20).count


def test_a_clock_that_was_set_back_does_not_count_for_ever() -> None:
    """A count from the future would never leave."""
    counts = WindowCounts(window_seconds=100, max_keys=10)
    add(counts, "a", 1_000_000, weight=50)
    assert 1 == add(counts, "a", 10).count


def test_the_key_counted_longest_ago_leaves_and_that_is_told() -> None:
    """The ones that are busy stay."""
    counts = WindowCounts(window_seconds=100, max_keys=2)
    add(counts, "a", 0)
    add(counts, "b", 1)
    add(counts, "a", 2)
    assert 0 == counts.forgotten
    add(counts, "c", 3)
    assert 1 == counts.forgotten
    assert 3 == add(counts, "a", 4).count
    assert 1 == add(counts, "b", 5).count


def test_keys_whose_window_has_passed_leave_by_themselves() -> None:
    """Without counting as forgotten: nothing of them counted."""
    counts = WindowCounts(window_seconds=100, max_keys=1000)
    for number in range(500):
        add(counts, f"old-{number}", 0)
    for number in range(300):
        add(counts, f"new-{number}", 1000)
    assert (300, 0) == (len(counts), counts.forgotten)


def test_a_million_keys_take_the_room_of_a_thousand() -> None:
    """Whatever strangers bring."""
    counts = WindowCounts(window_seconds=100, max_keys=1000)
    rng = random.Random(1)
    for _ in range(20_000):
        add(counts, f"{rng.random()}", 0)
    assert (1000, 19_000) == (len(counts), counts.forgotten)
