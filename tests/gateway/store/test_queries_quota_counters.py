"""SQL over quota_counters, on both databases."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, func, select

from gateway.store.database import write_transaction
from gateway.store.queries.quota_counters import (
    count_up,
    delete_ended_counters,
    find_count,
)
from gateway.store.tables import quota_counters


def add(
    engine: Engine,
    *,
    amount: int = 1,
    limit: int = 100,
    key: str = "k",
    now_seconds: float = 0.0,
    ends_at_seconds: float = 60.0,
) -> int | None:
    """Count in a transaction of its own."""
    with write_transaction(engine) as connection:
        return count_up(
            connection,
            key,
            amount=amount,
            limit=limit,
            now_seconds=now_seconds,
            ends_at_seconds=ends_at_seconds,
        )


def count(engine: Engine, key: str = "k", *, now_seconds: float = 0.0) -> int:
    """What is counted at a time."""
    with engine.connect() as connection:
        return find_count(connection, key, now_seconds=now_seconds)


def rows(engine: Engine) -> int:
    """How many counters are stored."""
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(quota_counters)).scalar_one()


def test_amounts_add_up_by_key(engine: Engine) -> None:
    """Each counter has its own number."""
    assert [add(engine), add(engine, amount=4), add(engine, key="other")] == [1, 5, 1]
    assert (5, 1, 0) == (count(engine), count(engine, "other"), count(engine, "none"))


def test_what_would_be_over_the_limit_is_not_counted(engine: Engine) -> None:
    """A refused amount leaves the count as it was, and a smaller one still fits."""
    add(engine, amount=3, limit=5)
    assert add(engine, amount=3, limit=5) is None
    assert add(engine, amount=2, limit=5) == 5
    assert add(engine, limit=5) is None
    assert 5 == count(engine)


def test_a_first_amount_over_the_limit_is_not_counted(engine: Engine) -> None:
    """There is no row yet whose condition could refuse it."""
    assert add(engine, amount=3, limit=2) is None
    assert 0 == rows(engine)


def test_a_counter_that_has_ended_begins_anew(engine: Engine) -> None:
    """At its end it counts nothing more, and the next amount starts another span, even at the limit."""
    add(engine, amount=5, limit=5, ends_at_seconds=60.0)
    assert (5, 0) == (count(engine, now_seconds=59.9), count(engine, now_seconds=60.0))
    assert add(engine, amount=2, limit=5, now_seconds=60.0, ends_at_seconds=120.0) == 2
    assert (2, 0) == (count(engine, now_seconds=119.9), count(engine, now_seconds=120.0))


def test_a_counter_keeps_its_end_while_it_counts(engine: Engine) -> None:
    """Or somebody who asks often enough would never be let in again."""
    add(engine, ends_at_seconds=60.0)
    add(engine, now_seconds=59.0, ends_at_seconds=119.0)
    assert (2, 0) == (count(engine, now_seconds=59.9), count(engine, now_seconds=60.0))


def test_gateways_at_the_same_moment_never_grant_more_than_the_limit(engine: Engine) -> None:
    """Eight threads want 120 of 50 and get exactly 50."""
    with ThreadPoolExecutor(8) as pool:
        granted = [n for n in pool.map(lambda _: add(engine, limit=50), range(120)) if n]
    assert list(range(1, 51)) == sorted(granted)


@pytest.mark.parametrize(("at_most", "left"), [(2, 2), (10, 1)])
def test_ended_counters_are_deleted_the_oldest_first(
    engine: Engine, at_most: int, left: int
) -> None:
    """No more than asked for at once, and none that still counts."""
    for number in range(4):
        add(engine, key=f"k{number}", ends_at_seconds=10.0 * (number + 1))
    with write_transaction(engine) as connection:
        deleted = delete_ended_counters(connection, now_seconds=30.0, at_most=at_most)
    assert (4 - left, left) == (deleted, rows(engine))
    assert 1 == count(engine, "k3", now_seconds=30.0)
