"""The end of a ledger: found, followed, extended, and never followed over a loss."""

import pytest
from sqlalchemy import Engine, text

from gateway.audit.merkle import EMPTY_ROOT, LogInvalidError
from gateway.audit.tail import EMPTY_TAIL, Tail, extend_tail, follow_tail
from tests.gateway.audit.conftest import ORIGIN
from tests.gateway.audit.sample_log import root
from tests.gateway.audit.stored_logs import LEAVES, entries, store, stored
from tests.gateway.audit.tampering import change_record, cut


def followed(engine: Engine, known: Tail | None) -> Tail:
    """The tail now."""
    with engine.connect() as connection:
        return follow_tail(connection, ORIGIN, known)


@pytest.mark.parametrize("known", [None, EMPTY_TAIL], ids=["unknown", "known"])
def test_an_empty_ledger_has_an_empty_tail(engine: Engine, known: Tail | None) -> None:
    """Whether it was known or not; records of other ledgers are not its own."""
    with engine.begin() as connection:
        store(connection, 3, origin="other")
    tail = followed(engine, known)
    assert (tail.size, tail.root, tail.last_leaf) == (0, EMPTY_ROOT, EMPTY_ROOT)


@pytest.mark.parametrize("sizes", [[1], [3, 7], [255, 256], [256, 257, 700]])
def test_a_tail_is_found_and_followed(engine: Engine, sizes: list[int]) -> None:
    """From stored hashes, or from what was known before; its root is that of the book."""
    tail = stored(engine, sizes)
    assert (tail.size, tail.root, tail.last_leaf) == (
        sizes[-1], root(LEAVES[: sizes[-1]]), LEAVES[sizes[-1] - 1],
    )  # fmt: skip
    assert tail == followed(engine, None)
    assert tail == followed(engine, EMPTY_TAIL)
    assert followed(engine, tail) is tail
    with engine.connect() as connection:
        before = store(connection, 900, tail=tail)
    assert before.size == 900
    assert followed(engine, tail) is tail


def test_a_tail_that_is_not_committed_is_nobodys(engine: Engine) -> None:
    """What a failed transaction gave is not in the database."""
    tail = stored(engine, [5])
    with engine.connect() as connection:
        extend_tail(connection, ORIGIN, tail, entries(5, 9))
    assert tail == followed(engine, tail)


@pytest.mark.parametrize("size", [0, 4, 6])
def test_a_loss_is_not_followed(engine: Engine, size: int) -> None:
    """Whether it ends before what was known or others wrote over it."""
    tail = stored(engine, [6])
    with engine.begin() as connection:
        cut(connection, 3)
        kept = follow_tail(connection, ORIGIN, None)
        other = entries(100, 100 + size)
        if other:
            extend_tail(connection, ORIGIN, kept, other)
    with pytest.raises(LogInvalidError, match="lost records that were durable"):
        followed(engine, tail)


def test_a_gap_is_not_followed(engine: Engine) -> None:
    """Between what was known and the end."""
    tail = stored(engine, [4])
    stored_on = stored_from(engine, tail, 9)
    assert stored_on.size == 9
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM audit_records WHERE position = 6"))
    with pytest.raises(LogInvalidError, match="lacks records between its first and its last"):
        followed(engine, tail)


def stored_from(engine: Engine, tail: Tail, size: int) -> Tail:
    """The ledger grown from a tail."""
    with engine.begin() as connection:
        return store(connection, size, tail=tail)


def test_a_changed_last_record_is_not_followed(engine: Engine) -> None:
    """The same number of records with another last hash is another ledger."""
    tail = stored(engine, [4])
    with engine.begin() as connection:
        change_record(connection, 3, leaf_hash=bytes(32))
    with pytest.raises(LogInvalidError, match="lost records that were durable"):
        followed(engine, tail)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("position = 'abc' WHERE position = 8", "the ledger's last record cannot be read"),
        ("leaf_hash = 'abc' WHERE position = 8", "the ledger's last record cannot be read"),
        ("leaf_hash = 12 WHERE position = 6", "a record of the ledger has no leaf hash"),
        ("leaf_hash = x'12' WHERE position = 6", "a hash is not 32 bytes long"),
    ],
)
def test_values_of_wrong_types_are_not_followed(
    sqlite_engine: Engine, change: str, told: str
) -> None:
    """SQLite stores any type in any column."""
    tail = stored(sqlite_engine, [4])
    stored_from(sqlite_engine, tail, 9)
    with sqlite_engine.begin() as connection:
        connection.execute(text(f"UPDATE audit_records SET {change}"))
    with pytest.raises(LogInvalidError, match=told):
        followed(sqlite_engine, tail)


@pytest.mark.parametrize("kept", [0, 2])
def test_a_database_that_takes_records_away_again_is_not_believed(
    sqlite_engine: Engine, kept: int
) -> None:
    """By a trigger: without the look the call would be answered, and its record be gone."""
    tail = stored(sqlite_engine, [5])
    with sqlite_engine.begin() as connection:
        connection.execute(
            text(
                "CREATE TRIGGER hide AFTER INSERT ON audit_records "
                f"WHEN NEW.position >= {5 + kept} BEGIN "
                "DELETE FROM audit_records WHERE position = NEW.position; END"
            )
        )
    with (
        sqlite_engine.connect() as connection,
        pytest.raises(LogInvalidError, match=r"from position 5 on .* look for triggers"),
    ):
        extend_tail(connection, ORIGIN, tail, entries(5, 9))
