"""Sliding windows in memory and in the database."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from limits.errors import StorageError
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter, SlidingWindowCounterRateLimiter
from sqlalchemy import Engine, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from gateway.identity.quota_stores import BoundedStorage, DatabaseStorage, SlidingWindowStorage
from gateway.store.tables import quota_counters
from tests.gateway.identity.quota_world import Clock, rate


@pytest.fixture
def clock() -> Clock:
    """At the start of a window of any length, so that tests count from there."""
    return Clock(86_400.0 * 20_000)


@pytest.fixture
def bounded(clock: Clock) -> BoundedStorage:
    """Room for three keys."""
    return BoundedStorage(max_keys=3, monotonic=clock)


@pytest.fixture(params=["bounded", "sqlite", "postgres"])
def storage(request: pytest.FixtureRequest, clock: Clock) -> SlidingWindowStorage:
    """Each storage that there is."""
    if request.param == "bounded":
        chosen: BoundedStorage = request.getfixturevalue("bounded")
        return chosen
    return DatabaseStorage(request.getfixturevalue(f"{request.param}_engine"), clock=clock)


def hits(storage: Storage, number: int, *, key: str = "k", text: str = "4/minute") -> int:
    """How many of a number of calls pass."""
    limiter = SlidingWindowCounterRateLimiter(storage)
    return sum(limiter.hit(rate(text), key) for _ in range(number))


def window(storage: SlidingWindowStorage, text: str = "4/minute") -> tuple[int, float, int, float]:
    """What is counted for the key k."""
    return storage.get_sliding_window(rate(text).key_for("k"), rate(text).get_expiry())


def test_as_many_pass_as_the_rate_says(storage: SlidingWindowStorage) -> None:
    """Each key has its own count, and so has each rate of a key."""
    assert 4 == hits(storage, 7)
    assert 1 == hits(storage, 1, key="other")
    assert 2 == hits(storage, 3, text="2/second")


def test_no_burst_of_twice_the_rate_passes_where_windows_meet(
    storage: SlidingWindowStorage, clock: Clock
) -> None:
    """All at the end of one window leave nothing for the start of the next."""
    clock.seconds += 59
    assert 4 == hits(storage, 4)
    clock.seconds += 1
    assert 0 == hits(storage, 4)
    clock.seconds += 15.5
    assert 2 == hits(storage, 4)
    clock.seconds += 44
    assert 2 == hits(storage, 4)


@pytest.mark.parametrize("windows", [2, 3, 4, 1000])
def test_a_window_counts_for_the_next_and_no_longer(
    storage: SlidingWindowStorage, clock: Clock, windows: int
) -> None:
    """Whether its number is even or odd."""
    hits(storage, 4)
    clock.seconds += 60 * windows
    assert (0, 0) == window(storage)[::2]
    assert 4 == hits(storage, 5)


def test_what_is_counted_can_be_looked_at(storage: SlidingWindowStorage, clock: Clock) -> None:
    """The counts of both windows, and for how long they count; looking counts nothing."""
    assert (0, 0) == window(storage)[::2]
    hits(storage, 3)
    clock.seconds += 20
    assert (0, 3, 100.0) == (window(storage)[0], *window(storage)[2:])
    clock.seconds += 50
    assert (3, 50.0, 0, 110.0) == window(storage)
    hits(storage, 1)
    assert (3, 50.0, 1, 110.0) == window(storage)


def test_more_than_the_rate_at_once_is_refused(storage: SlidingWindowStorage) -> None:
    """And leaves no trace."""
    assert not SlidingWindowCounterRateLimiter(storage).hit(rate("4/minute"), "k", cost=5)
    assert (0, 0) == window(storage)[::2]


def test_fixed_windows_are_not_offered(storage: SlidingWindowStorage) -> None:
    """Through them twice the rate would pass."""
    with pytest.raises(NotImplementedError):
        FixedWindowRateLimiter(storage).hit(rate("4/minute"), "k")


def test_of_too_many_keys_those_that_end_first_leave_first(
    bounded: BoundedStorage, clock: Clock
) -> None:
    """One that is used in a later window stays, though it came before."""
    for key in ("a", "b", "c"):
        hits(bounded, 4, key=key)
    clock.seconds += 60
    hits(bounded, 1, key="a")
    hits(bounded, 4, key="d")
    assert 3 == len(bounded)
    clock.seconds += 30
    assert 2 == hits(bounded, 4, key="c")
    assert 3 == len(bounded)
    assert 4 == hits(bounded, 4, key="b")


def test_many_keys_take_bounded_memory(bounded: BoundedStorage) -> None:
    """A stranger can choose as many as he likes."""
    for number in range(1000):
        hits(bounded, 1, key=str(number))
    assert 3 == len(bounded)


def test_keys_that_have_ended_leave_when_others_come(bounded: BoundedStorage, clock: Clock) -> None:
    """Two for each that comes, so that nobody waits for a sweep."""
    for key in ("a", "b", "c"):
        hits(bounded, 1, key=key)
    clock.seconds += 600
    hits(bounded, 1, key="d")
    assert 2 == len(bounded)


def test_keys_of_rates_with_different_spans_do_not_push_each_other_out(
    bounded: BoundedStorage,
) -> None:
    """A key of a day would leave before one of a second that came later."""
    hits(bounded, 4, key="slow", text="4/day")
    for number in range(10):
        hits(bounded, 1, key=str(number), text="4/second")
    assert 0 == hits(bounded, 1, key="slow", text="4/day")


def test_a_clock_that_jumps_back_refuses_nobody_for_long(
    bounded: BoundedStorage, clock: Clock
) -> None:
    """What was counted in a window that is yet to come does not count."""
    hits(bounded, 4)
    clock.seconds -= 3600
    assert (0, 0) == window(bounded)[::2]
    assert 4 == hits(bounded, 4)


def test_a_window_in_the_database_takes_two_rows(engine: Engine, clock: Clock) -> None:
    """A row for each window would be 86,400 a day."""
    storage = DatabaseStorage(engine, clock=clock)
    for _ in range(9):
        hits(storage, 1)
        clock.seconds += 60
    with engine.connect() as connection:
        count = select(func.count()).select_from(quota_counters)
        assert 2 == connection.execute(count).scalar_one()


def test_gateways_share_a_window(engine: Engine, clock: Clock) -> None:
    """Two storages on one database let as many pass as one."""
    storages = [DatabaseStorage(engine, clock=clock) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        passed = list(pool.map(lambda s: hits(s, 30, text="40/hour"), storages))
    assert 40 == sum(passed)


def test_gateways_never_grant_more_than_a_budget(engine: Engine, clock: Clock) -> None:
    """Two storages on one database, 80 wanted of 50: exactly 50, each number once."""
    storages = [DatabaseStorage(engine, clock=clock) for _ in range(2)]

    def take_many(storage: DatabaseStorage) -> list[int]:
        taken = [storage.take("d", amount=1, budget=50, lasts_seconds=60) for _ in range(40)]
        return [used for used in taken if used is not None]

    with ThreadPoolExecutor(2) as pool:
        granted = [used for taken in pool.map(take_many, storages) for used in taken]
    assert list(range(1, 51)) == sorted(granted)


def test_a_budget_survives_the_gateway(engine: Engine, clock: Clock) -> None:
    """A new storage counts on, also with a larger budget."""
    for _ in range(3):
        DatabaseStorage(engine, clock=clock).take("d", amount=1, budget=2, lasts_seconds=60)
    again = DatabaseStorage(engine, clock=clock)
    assert again.take("d", amount=1, budget=2, lasts_seconds=60) is None
    assert 3 == again.take("d", amount=1, budget=3, lasts_seconds=60)


def test_ended_counters_are_purged(engine: Engine, clock: Clock) -> None:
    """Those that still count stay."""
    storage = DatabaseStorage(engine, clock=clock)
    hits(storage, 4)
    storage.take("d", amount=1, budget=1, lasts_seconds=600)
    assert 0 == storage.purge()
    clock.seconds += 120
    assert 1 == storage.purge()
    assert storage.take("d", amount=1, budget=1, lasts_seconds=600) is None


def test_a_database_that_fails_raises_errors_of_two_kinds(engine: Engine, clock: Clock) -> None:
    """limits' own where limits asks, the database's where we do."""
    storage = DatabaseStorage(engine, clock=clock)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE quota_counters"))
    with pytest.raises(StorageError):
        hits(storage, 1)
    with pytest.raises(SQLAlchemyError):
        storage.take("d", amount=1, budget=1, lasts_seconds=60)
    storage.close()
