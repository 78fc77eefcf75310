"""Roots and proofs from what is stored, against RFC 6962 by the book."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, text

from gateway.audit.merkle import LogInvalidError, frontier_root
from gateway.audit.stored_tree import load_frontier, prove_consistency, prove_inclusion
from gateway.store.database import open_database
from gateway.store.tables import audit_nodes, metadata
from tests.gateway.audit.conftest import ORIGIN
from tests.gateway.audit.sample_log import consistency_proof, inclusion_proof, root
from tests.gateway.audit.stored_logs import LEAVES, store, stored

# Two nodes of level 1 and some records, and a whole node of level 2 with more behind it.
SMALL, LARGE = 700, 66_000


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """A stored ledger of LARGE records."""
    path = tmp_path_factory.mktemp("stored") / "large.db"
    path.touch()
    engine = open_database(f"sqlite:///{path}")
    metadata.create_all(engine)
    with engine.begin() as connection:
        store(connection, LARGE)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@given(st.integers(0, SMALL))
@example(65_535)
@example(65_536)
@example(LARGE)
@settings(deadline=None)  # the book is slow
def test_the_frontier_has_the_root(large: Connection, size: int) -> None:
    """Of any number of the first records."""
    frontier = load_frontier(large, ORIGIN, size)
    assert root(LEAVES[:size]) == frontier_root(frontier)


@given(st.integers(0, SMALL - 1), st.integers(1, SMALL))
@example(0, 65_536)
@example(65_535, 65_537)
@example(40_000, LARGE)
@settings(deadline=None)  # the book is slow
def test_inclusion_is_proved_by_the_book(large: Connection, index: int, size: int) -> None:
    """Any record in any tree that has it."""
    index %= size
    proof = prove_inclusion(large, ORIGIN, index=index, size=size)
    assert inclusion_proof(index, LEAVES[:size]) == proof


@given(st.integers(1, SMALL), st.integers(1, SMALL))
@example(65_535, 65_536)
@example(65_536, LARGE)
@example(959, 65_537)
@settings(deadline=None)  # the book is slow
def test_consistency_is_proved_by_the_book(large: Connection, first: int, second: int) -> None:
    """Any older tree and any newer one."""
    old_size, size = sorted((first, second))
    proof = prove_consistency(large, ORIGIN, old_size=old_size, size=size)
    assert consistency_proof(old_size, LEAVES[:size]) == proof


def test_both_databases_give_the_same(engine: Engine) -> None:
    """And nothing of other ledgers."""
    stored(engine, [300, SMALL])
    with engine.begin() as connection:
        store(connection, 600, origin="other")
    with engine.connect() as connection:
        assert frontier_root(load_frontier(connection, ORIGIN, SMALL)) == root(LEAVES[:SMALL])
        assert prove_inclusion(connection, ORIGIN, index=299, size=SMALL) == inclusion_proof(
            299, LEAVES[:SMALL]
        )
        assert prove_consistency(connection, ORIGIN, old_size=299, size=SMALL) == consistency_proof(
            299, LEAVES[:SMALL]
        )


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda c: c.execute(text("DELETE FROM audit_records WHERE position = 650")), "record 650 is missing"),
        (lambda c: c.execute(text("DELETE FROM audit_records WHERE position = 699")), "record 699 is missing"),
        (lambda c: c.execute(audit_nodes.delete().where(audit_nodes.c.number == 0)), "node 0 of level 1 is missing"),
        (lambda c: c.execute(audit_nodes.delete()), "node 0 of level 1 is missing"),
        (
            lambda c: c.execute(audit_nodes.update().values(node_hash=b"short")),
            "node 0 of level 1 has no hash of 32 bytes",
        ),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(
    engine: Engine, damage: Callable[[Connection], object], told: str
) -> None:
    """The first of it."""
    stored(engine, [SMALL])
    with engine.begin() as connection:
        damage(connection)
        with pytest.raises(LogInvalidError, match=told):
            load_frontier(connection, ORIGIN, SMALL)


def test_a_hash_of_a_wrong_type_is_named(sqlite_engine: Engine) -> None:
    """SQLite stores any type in any column."""
    stored(sqlite_engine, [7])
    with sqlite_engine.begin() as connection:
        connection.execute(text("UPDATE audit_records SET leaf_hash = 'abc' WHERE position = 5"))
        with pytest.raises(LogInvalidError, match="record 5 has no hash of 32 bytes"):
            load_frontier(connection, ORIGIN, 7)
