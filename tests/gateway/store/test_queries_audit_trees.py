"""SQL over what makes records a ledger, on both databases."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from gateway.store.queries.audit_trees import (
    find_cosigned,
    find_ledger,
    find_newest_checkpoint,
    insert_checkpoint,
    insert_ledger,
    insert_nodes,
    list_ledger_names,
    load_checkpoints,
    load_nodes,
    store_cosigned,
)
from gateway.store.records import AuditLedger, StoredCheckpoint, StoredNode

MOMENT = datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """Two ledgers: a with nodes and checkpoints, b with little."""
    with engine.begin() as connection:
        for origin in ("b", "a"):
            insert_ledger(connection, origin, verifier=f"key of {origin}", created_at=MOMENT)
            insert_checkpoint(connection, origin, size=0, note=f"nothing in {origin}")
        for size in (12, 9):
            insert_checkpoint(connection, "a", size=size, note=f"{size} in a")
        nodes = [StoredNode("a", 1, number, bytes([number]) * 32) for number in (2, 0, 1)]
        insert_nodes(connection, [*nodes, StoredNode("a", 2, 0, b"\x09" * 32)])
    return engine


def test_ledgers_come_by_name(filled: Engine) -> None:
    """Each with the key that signs it."""
    with filled.connect() as connection:
        a, b = (AuditLedger(name, f"key of {name}", MOMENT) for name in ("a", "b"))
        assert list_ledger_names(connection) == ["a", "b"]
        assert list_ledger_names(connection, limit=1) == ["a"]
        assert find_ledger(connection, "a") == a
        assert [find_ledger(connection, name) for name in ("b", "c")] == [b, None]


def test_a_ledger_begins_once(filled: Engine) -> None:
    """A second key under the same name would be a second history."""
    with filled.connect() as connection, pytest.raises(IntegrityError):
        insert_ledger(connection, "a", verifier="another", created_at=MOMENT)


def test_nodes_come_by_level_and_number(filled: Engine) -> None:
    """From the first number asked for to before the last."""
    with filled.connect() as connection:
        assert load_nodes(connection, "a", 1, 1, 9) == [(1, b"\1" * 32), (2, b"\2" * 32)]
        assert load_nodes(connection, "a", 2, 0, 1) == [(0, b"\x09" * 32)]
        assert load_nodes(connection, "b", 1, 0, 9) == []


def test_a_node_is_stored_once(filled: Engine) -> None:
    """It never changes once it is full; none to store is nothing to do."""
    with filled.connect() as connection:
        insert_nodes(connection, [])
        with pytest.raises(IntegrityError):
            insert_nodes(connection, [StoredNode("a", 1, 0, bytes(32))])


def test_the_newest_checkpoint_is_the_largest(filled: Engine) -> None:
    """Of its own ledger."""
    with filled.connect() as connection:
        assert find_newest_checkpoint(connection, "a") == StoredCheckpoint("a", 12, "12 in a")
        assert find_newest_checkpoint(connection, "b") == StoredCheckpoint("b", 0, "nothing in b")
        assert find_newest_checkpoint(connection, "c") is None


def test_checkpoints_come_in_pages(filled: Engine) -> None:
    """The smallest first, after a size, at most limit."""
    with filled.connect() as connection:
        sizes = [c.size for c in load_checkpoints(connection, "a", limit=9)]
        assert sizes == [0, 9, 12]
        page = load_checkpoints(connection, "a", after_size=0, limit=1)
    assert page == [StoredCheckpoint("a", 9, "9 in a")]


def test_one_size_is_signed_once(filled: Engine) -> None:
    """Two checkpoints of one size would be two histories."""
    with filled.connect() as connection, pytest.raises(IntegrityError):
        insert_checkpoint(connection, "a", size=9, note="another")


def test_the_newest_cosigned_checkpoint_takes_the_place_of_the_one_before(filled: Engine) -> None:
    """One a ledger."""
    with filled.begin() as connection:
        assert find_cosigned(connection, "a") is None
        store_cosigned(connection, StoredCheckpoint("a", 9, "cosigned"))
        store_cosigned(connection, StoredCheckpoint("a", 12, "cosigned too"))
        store_cosigned(connection, StoredCheckpoint("b", 0, "of b"))
    with filled.connect() as connection:
        assert find_cosigned(connection, "a") == StoredCheckpoint("a", 12, "cosigned too")


_CHANGES: Mapping[str, Callable[..., object]] = {
    "UPDATE audit_ledgers SET verifier = x'00'": find_ledger,
    "UPDATE audit_ledgers SET created_at = 'never'": find_ledger,
    "UPDATE audit_ledgers SET created_at = x'00'": find_ledger,
    "UPDATE audit_checkpoints SET note = x'00'": find_newest_checkpoint,
    "UPDATE audit_checkpoints SET size = 'x' WHERE size = 12": find_newest_checkpoint,
    "UPDATE audit_checkpoints SET note = x'01'": partial(load_checkpoints, limit=9),
    "UPDATE audit_cosignatures SET note = x'00'": find_cosigned,
    "UPDATE audit_cosignatures SET size = 1.5": find_cosigned,
}


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize("statement", _CHANGES)
def test_values_of_other_types_are_refused(filled: Engine, statement: str) -> None:
    """SQLite stores any in any column."""
    find = _CHANGES[statement]
    with filled.begin() as connection:
        store_cosigned(connection, StoredCheckpoint("a", 9, "cosigned"))
        connection.execute(text(statement))
        with pytest.raises(ValueError, match=r"wrong types|no time"):
            find(connection, "a")


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_name_of_another_type_hides_no_other(filled: Engine) -> None:
    """It is given as it is."""
    with filled.begin() as connection:
        connection.execute(text("UPDATE audit_ledgers SET origin = x'ff' WHERE origin = 'a'"))
        assert ["b", b"\xff"] == list_ledger_names(connection)
