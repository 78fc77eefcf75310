"""Lists of ids come back as they were."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.jobs.id_lists import dump_ids, parse_ids


@given(st.lists(st.integers(0, 2**62)))
def test_ids_come_back(ids: list[int]) -> None:
    """In their order, repetitions among them."""
    assert tuple(ids) == parse_ids(dump_ids(ids))


def test_neighbours_are_short() -> None:
    """As most ids of a busy model are."""
    assert [10**12, 1, 1, 2] == dump_ids([10**12, 10**12 + 1, 10**12 + 2, 10**12 + 4])


@pytest.mark.parametrize("broken", [None, {}, "12", [1.5], [True], [None], ["1"]])
def test_anything_else_is_refused(broken: object) -> None:
    """Somebody wrote into the table."""
    with pytest.raises(ValueError, match="something else"):
        parse_ids(broken)
