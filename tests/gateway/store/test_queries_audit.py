"""SQL over audit_records, on both databases."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from gateway.store.queries.audit import (
    find_last_position,
    insert_audit_records,
    list_positions,
    load_audit_records,
    load_leaf_hashes,
    lock_ledger,
)
from gateway.store.records import AuditRecord

TIME = "2031-05-06T07:08:09.123456Z"


def record(position: int, origin: str = "a") -> AuditRecord:
    """A record that need not verify."""
    body, leaf_hash = f'{{"n":{position}}}', bytes([position]) * 32
    return AuditRecord(
        origin, position, body, leaf_hash, TIME, "predict", "failed", f"r-{position}", "s", None
    )


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """Two ledgers: a with positions 0 to 4, b with 0."""
    with engine.begin() as connection:
        insert_audit_records(connection, [record(n) for n in (3, 1, 0, 4, 2)])
        insert_audit_records(connection, [record(0, origin="b")])
    return engine


def test_records_come_back_as_they_were(filled: Engine) -> None:
    """Time to the microsecond, text and bytes survive, in the order of positions."""
    with filled.connect() as connection:
        loaded = load_audit_records(connection, "a", limit=100)
    assert loaded == [record(n) for n in range(5)]


def test_pages_continue_after_a_position(filled: Engine) -> None:
    """A page starts after the position named and has at most limit records."""
    with filled.connect() as connection:
        page = load_audit_records(connection, "a", after_position=1, limit=2)
        positions = list_positions(connection, "a", after_position=1, limit=2)
        all_positions = list_positions(connection, "a", after_position=None, limit=9)
    assert page == [record(2), record(3)]
    assert (positions, all_positions) == ([2, 3], [0, 1, 2, 3, 4])


def test_last_position_is_that_of_its_own_ledger(filled: Engine) -> None:
    """Ledgers in one table do not mix."""
    with filled.connect() as connection:
        assert find_last_position(connection, "a") == (4, bytes([4]) * 32)
        assert find_last_position(connection, "b") == (0, bytes(32))
        assert find_last_position(connection, "c") is None


def test_taken_position_is_refused(filled: Engine) -> None:
    """Two records never share a place, whatever the code above does."""
    with filled.connect() as connection, pytest.raises(IntegrityError):
        insert_audit_records(connection, [record(4)])


def test_lock_holds_others_off_until_the_transaction_ends(postgres_engine: Engine) -> None:
    """On PostgreSQL the second writer of a ledger waits; a writer of another ledger does not."""
    done = threading.Event()

    def lock_too() -> None:
        with postgres_engine.begin() as connection:
            lock_ledger(connection, "a")
        done.set()

    with ThreadPoolExecutor(1) as pool:
        with postgres_engine.begin() as connection:
            lock_ledger(connection, "a")
            waiter = pool.submit(lock_too)
            with postgres_engine.begin() as other:
                lock_ledger(other, "b")
            assert not done.wait(0.2)
        waiter.result(20)
    assert done.is_set()


def test_leaf_hashes_come_in_order(filled: Engine) -> None:
    """From the first position asked for to before the last; what is not there is left out."""
    with filled.connect() as connection:
        assert load_leaf_hashes(connection, "a", 1, 3) == [(1, b"\1" * 32), (2, b"\2" * 32)]
        assert load_leaf_hashes(connection, "a", 4, 9) == [(4, b"\4" * 32)]
        assert load_leaf_hashes(connection, "b", 1, 9) == []
