"""The lease: one monitor of several acts, on both databases; one that slept writes nothing."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from gateway.store.database import write_transaction
from monitor.jobs.lease import LeaseKeeper, Standing, lease_seconds, new_holder
from monitor.records import LeaseLostError


@pytest.fixture
def first() -> LeaseKeeper:
    """A monitor."""
    return LeaseKeeper(holder="first", duration_seconds=30.0)


@pytest.fixture
def second() -> LeaseKeeper:
    """Another one."""
    return LeaseKeeper(holder="second", duration_seconds=30.0)


def test_the_first_takes_it_and_the_second_is_told_until_when(
    engine: Engine, first: LeaseKeeper, second: LeaseKeeper
) -> None:
    """By the database's clock."""
    taken, refused = first.ask(engine), second.ask(engine)
    assert (True, False) == (taken.is_held, refused.is_held)
    assert timedelta(seconds=1) > abs(taken.until - refused.until)
    assert f"another monitor holds the lease until {refused.until:%Y-%m-%d}" in refused.why_not()


def test_it_is_renewed_without_a_new_fence(engine: Engine, first: LeaseKeeper) -> None:
    """The same holding, longer."""
    before = first.ask(engine)
    after = first.ask(engine)
    assert before.until <= after.until
    assert 1 == _fence(engine)


def test_a_holder_whose_time_is_over_is_followed(
    engine: Engine, first: LeaseKeeper, second: LeaseKeeper
) -> None:
    """As one that was killed; it stands by when it comes back."""
    first.ask(engine)
    _expire(engine)
    assert second.ask(engine).is_held
    assert 2 == _fence(engine)
    assert not first.ask(engine).is_held


def test_a_holder_that_slept_writes_nothing(
    engine: Engine, first: LeaseKeeper, second: LeaseKeeper
) -> None:
    """It was followed meanwhile, between what it read and what it stores."""
    first.ask(engine)
    _expire(engine)
    second.ask(engine)
    with pytest.raises(LeaseLostError, match="stands by"), write_transaction(engine) as connection:
        first.check(connection)
    with write_transaction(engine) as connection:
        second.check(connection)


def test_one_that_took_it_back_does_not_go_on_with_what_it_had(
    engine: Engine, first: LeaseKeeper, second: LeaseKeeper
) -> None:
    """The holder's name is the same again and the fence is not."""
    first.ask(engine)
    _expire(engine)
    second.ask(engine)
    second.release(engine)
    again = LeaseKeeper(holder="first", duration_seconds=30.0)
    again.ask(engine)
    with pytest.raises(LeaseLostError), write_transaction(engine) as connection:
        first.check(connection)


def test_one_that_nobody_followed_may_finish(engine: Engine, first: LeaseKeeper) -> None:
    """A long tick outlasts its lease, and nobody else acts."""
    first.ask(engine)
    _expire(engine)
    with write_transaction(engine) as connection:
        first.check(connection)


def test_what_was_given_back_is_taken_at_once(
    engine: Engine, first: LeaseKeeper, second: LeaseKeeper
) -> None:
    """And whoever gave it back does not write any more."""
    first.ask(engine)
    first.release(engine)
    first.release(engine)
    with pytest.raises(LeaseLostError), write_transaction(engine) as connection:
        first.check(connection)
    assert second.ask(engine).is_held


def test_giving_back_what_another_has_takes_it_from_nobody(
    engine: Engine, first: LeaseKeeper, second: LeaseKeeper
) -> None:
    """Of one that slept until its end."""
    first.ask(engine)
    _expire(engine)
    second.ask(engine)
    first.release(engine)
    with write_transaction(engine) as connection:
        second.check(connection)


def test_of_many_that_start_at_once_one_has_it(engine: Engine) -> None:
    """Though there was no row yet."""
    keepers = [LeaseKeeper(holder=f"monitor-{n}", duration_seconds=30.0) for n in range(8)]
    standings: list[Standing] = []
    barrier = threading.Barrier(len(keepers))

    def ask(keeper: LeaseKeeper) -> None:
        barrier.wait()
        standings.append(keeper.ask(engine))

    threads = [threading.Thread(target=ask, args=(keeper,)) for keeper in keepers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 == sum(standing.is_held for standing in standings)
    assert 8 == len(standings)


@pytest.mark.parametrize(
    "change",
    [
        "expires_at_seconds = 4e9",
        "expires_at_seconds = 1e300",
        "expires_at_seconds = 9e999",
        "expires_at_seconds = 'x'",
        "fence = 'x'",
        "fence = -1",
        "fence = 9223372036854775807",
        "expires_at_seconds = 4e9, renewed_at = 'x'",
    ],
)
def test_a_lease_that_no_monitor_wrote_is_taken_over(
    sqlite_engine: Engine, first: LeaseKeeper, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    """Or nobody would judge until then; by the database's clock, and said in the log."""
    first.ask(sqlite_engine)
    with sqlite_engine.begin() as connection:
        connection.execute(text(f"UPDATE leases SET holder = 'x', {change}"))
    assert first.ask(sqlite_engine).is_held
    assert "lease_broken name=drift" in caplog.text
    with write_transaction(sqlite_engine) as connection:
        first.check(connection)
    caplog.clear()
    assert first.ask(sqlite_engine).is_held
    assert not caplog.messages


def test_the_longest_lease_of_another_is_left_to_it(engine: Engine, first: LeaseKeeper) -> None:
    """That of ticks of a day."""
    longest = LeaseKeeper(holder="slow", duration_seconds=lease_seconds(86_400))
    assert longest.ask(engine).is_held
    assert not first.ask(engine).is_held


def test_it_lasts_three_ticks_and_half_a_minute_at_least() -> None:
    """One late tick hands nothing over."""
    assert (180.0, 30.0) == (lease_seconds(60.0), lease_seconds(1.0))


def test_no_two_processes_have_one_name() -> None:
    """Not even on one host, one after the other; and it fits its column."""
    names = {new_holder() for _ in range(100)}
    assert 100 == len(names)
    assert 128 >= max(len(name) for name in names)


def _expire(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE leases SET expires_at_seconds = expires_at_seconds - 31"))


def _fence(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT fence FROM leases")).scalar_one())
