"""Which refused calls are recorded."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.identity.suppression import Suppression


def test_the_first_of_a_minute_is_recorded_and_tells_of_those_before() -> None:
    """Those in between are counted."""
    suppression = Suppression()
    told = [suppression.should_record("a", second) for second in (100, 101, 159.9, 160, 161, 220)]
    assert [(True, 0), (False, 0), (False, 0), (True, 2), (False, 0), (True, 1)] == told


def test_each_address_has_a_record_of_its_own() -> None:
    """One that floods does not hide another, and two of one /64 are one."""
    suppression = Suppression()
    for _ in range(5):
        suppression.should_record("203.0.113.7", 100)
    assert (True, 0) == suppression.should_record("203.0.113.8", 100)
    assert (True, 0) == suppression.should_record("2001:db8::1", 100)
    assert (False, 0) == suppression.should_record("2001:db8::2", 100)


def test_many_addresses_get_a_bounded_number_of_records_a_minute() -> None:
    """A botnet cannot fill the ledger; the next record after tells of all that had no room."""
    suppression = Suppression(max_records_per_minute=10)
    told = [suppression.should_record(f"host-{n}", 100 + n / 100) for n in range(1000)]
    assert 10 == sum(is_recorded for is_recorded, _ in told)
    assert (True, 990) == suppression.should_record("another", 160)


def test_an_address_that_finds_no_room_keeps_its_own_count() -> None:
    """Its next record tells of it, not that of another."""
    suppression = Suppression(max_records_per_minute=1)
    assert (True, 0) == suppression.should_record("a", 100)
    assert (True, 0) == suppression.should_record("b", 160)
    assert (False, 0) == suppression.should_record("a", 170)
    assert (True, 0) == suppression.should_record("c", 220)
    assert (True, 1) == suppression.should_record("a", 280)


def test_what_is_no_longer_remembered_is_told_with_the_next_record() -> None:
    """Memory is bounded, the count is whole."""
    suppression = Suppression(max_addresses=2)
    for _ in range(4):
        suppression.should_record("a", 100)
    assert (True, 0) == suppression.should_record("b", 100)
    assert (True, 0) == suppression.should_record("c", 100)
    assert (True, 3) == suppression.should_record("a", 100)


def test_a_clock_that_is_set_back_silences_nobody() -> None:
    """Or nothing would be recorded until it has caught up."""
    suppression = Suppression()
    suppression.should_record("a", 5000)
    assert (True, 0) == suppression.should_record("a", 100)


@given(st.lists(st.tuples(st.integers(0, 8), st.floats(0, 300)), max_size=80))
def test_no_refusal_is_lost_to_the_count(calls: list[tuple[int, float]]) -> None:
    """Records and what they tell of add up to all refusals, once each address was recorded again."""
    suppression = Suppression(max_addresses=3, max_records_per_minute=4)
    told = [suppression.should_record(f"h{host}", at) for host, at in sorted(calls, key=_time)]
    told += [suppression.should_record(f"h{host}", 1000.0 + 100 * host) for host in range(9)]
    told.append(suppression.should_record("last", 5000.0))
    assert len(told) == sum(is_recorded + unrecorded for is_recorded, unrecorded in told)


def _time(call: tuple[int, float]) -> float:
    return call[1]
