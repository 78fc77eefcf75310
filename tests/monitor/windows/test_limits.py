"""How many ranks are kept: what fits, all samples first."""

from hypothesis import given
from hypothesis import strategies as st

from monitor.windows.limits import (
    MAX_RANKS,
    MAX_SLICE_RANKS,
    MIN_RANKS,
    MIN_SLICE_RANKS,
    Sizes,
    choose_limits,
)

SIZES = st.builds(
    Sizes,
    room_bytes=st.integers(60_000, 190_000),
    features=st.integers(1, 64),
    arrays=st.integers(1, 2),
)


@given(SIZES, st.integers(1, 8), st.lists(st.integers(1, 8), max_size=64))
def test_what_is_kept_fits(sizes: Sizes, strata: int, slices: list[int]) -> None:
    """Whatever the number of features, hours and slices."""
    named = [(f"source=camera-{number}", count) for number, count in enumerate(slices)]
    limits = choose_limits(sizes, strata=strata, slices=named)
    kept = slices[: limits.slices_kept]
    used = strata * (sizes.stratum_bytes() + limits.ranks * sizes.rank_bytes())
    used += sum(kept) * (sizes.stratum_bytes() + limits.slice_ranks * sizes.rank_bytes())
    if limits.ranks > 4:
        assert used <= sizes.room_bytes
    assert 4 <= limits.ranks <= MAX_RANKS
    if kept:
        assert limits.ranks >= MIN_RANKS
        assert MIN_SLICE_RANKS <= limits.slice_ranks <= MAX_SLICE_RANKS


def test_a_small_reference_keeps_the_most() -> None:
    """There is room."""
    limits = choose_limits(
        Sizes(room_bytes=190_000, features=10), strata=1, slices=[("source=a", 1)]
    )
    assert (MAX_RANKS, MAX_SLICE_RANKS, 1) == (limits.ranks, limits.slice_ranks, limits.slices_kept)
