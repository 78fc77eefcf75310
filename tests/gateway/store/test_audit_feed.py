"""Where a moment is in a ledger, and what rare actions there are, on both databases."""

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.event import listen

from gateway.audit.entries import audit_record, encode_event, format_time
from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.store.database import write_transaction
from gateway.store.queries.audit import insert_audit_records
from gateway.store.queries.audit_feed import (
    find_end,
    find_position_since,
    find_record_from,
    has_misplaced,
    load_bodies,
    load_bodies_of_actions,
    load_positions,
)
from tests.monitor.security.ledger_events import at


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """100 records ten seconds apart in one ledger, of which every tenth is a promotion; 5 in another."""
    for origin, count in (("gateway", 100), ("other", 5)):
        records = [
            audit_record(encode_event(_event(n)), origin=origin, position=n) for n in range(count)
        ]
        with write_transaction(engine) as connection:
            insert_audit_records(connection, records)
    return engine


def _event(number: int) -> AuditEvent:
    action = Action.PREDICT if number % 10 else Action.MODELS_PROMOTE
    return AuditEvent(
        action=action, outcome=Outcome.ANSWERED, recorded_at=at(10 * number), subject=f"s{number}"
    )


def test_the_first_record_from_a_position_is_found(filled: Engine) -> None:
    """Behind a gap as well; none behind the end."""
    with filled.begin() as connection:
        connection.execute(text("DELETE FROM audit_records WHERE position BETWEEN 20 AND 29"))
        assert (30, format_time(at(300))) == find_record_from(connection, "gateway", 22)
        assert find_record_from(connection, "gateway", 100) is None


@pytest.mark.parametrize(
    ("seconds", "expected"), [(-5, 0), (0, 0), (1, 1), (500, 50), (501, 51), (5000, 90)]
)
def test_the_position_of_a_moment_is_found(filled: Engine, seconds: float, expected: int) -> None:
    """No record from there to the end is older."""
    since = format_time(at(seconds))
    with filled.connect() as connection:
        assert expected == find_position_since(connection, "gateway", since, end=90)


@pytest.mark.parametrize("seconds", [200, 205, 290, 299])
def test_a_gap_does_not_mislead(filled: Engine, seconds: float) -> None:
    """Nothing that is young enough is left out."""
    with filled.begin() as connection:
        connection.execute(text("DELETE FROM audit_records WHERE position BETWEEN 20 AND 29"))
        found = find_position_since(connection, "gateway", format_time(at(seconds)), end=100)
        assert 20 <= found <= 30


def test_bodies_are_read_in_order(filled: Engine) -> None:
    """Of one ledger, from a position on, at most so many."""
    with filled.connect() as connection:
        bodies = load_bodies(connection, "gateway", from_position=97, limit=2)
        assert [(97, encode_event(_event(97)).body), (98, encode_event(_event(98)).body)] == bodies
        assert 3 == len(load_bodies(connection, "gateway", from_position=97, limit=9))


def test_records_of_rare_actions_are_read_from_all_ledgers(filled: Engine) -> None:
    """The newest, the oldest of them first."""
    with filled.connect() as connection:
        found = load_bodies_of_actions(connection, ["models.promote"], limit=3)
        everything = load_bodies_of_actions(connection, ["models.promote"], limit=99)
    assert [70, 80, 90] == [position for _, position, _ in found]
    assert 11 == len(everything)
    assert {"gateway", "other"} == {origin for origin, _, _ in everything}


def test_records_of_rare_actions_are_read_from_a_part_of_a_ledger(filled: Engine) -> None:
    """From a position to before another."""
    with filled.connect() as connection:
        span = ("gateway", 20, 50)
        found = load_bodies_of_actions(connection, ["models.promote"], limit=99, span=span)
    assert [("gateway", 20), ("gateway", 30), ("gateway", 40)] == [
        (origin, position) for origin, position, _ in found
    ]


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_body_of_another_type_is_refused(filled: Engine) -> None:
    """SQLite enforces no types."""
    with filled.begin() as connection:
        connection.execute(text("UPDATE audit_records SET body = x'00' WHERE position = 90"))
        with pytest.raises(ValueError, match="position 90"):
            load_bodies(connection, "gateway", from_position=0, limit=99)
        with pytest.raises(ValueError, match="wrong types"):
            load_bodies_of_actions(connection, ["models.promote"], limit=99)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_rare_actions_are_found_by_their_index(filled: Engine) -> None:
    """A ledger has millions of predictions between them."""
    asked: list[tuple[str, tuple[object, ...]]] = []
    listen(filled, "before_cursor_execute", lambda *call: asked.append((call[2], call[3])))
    with filled.connect() as connection:
        load_bodies_of_actions(connection, ["models.promote", "models.retire"], limit=9)
        load_bodies_of_actions(connection, ["models.load"], limit=9, span=("gateway", 1, 9))
        statements = [each for each in asked if each[0].startswith("SELECT")]
        plans = [
            str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all())
            for statement, values in statements
        ]
    assert 2 == len(plans)
    assert "ix_audit_records_action" in plans[0]
    # Or a part of the ledger by its key, which is no scan either.
    assert "ix_audit_records_action" in plans[1] or "position>" in plans[1]


def test_a_ledger_ends_behind_its_last_record(filled: Engine) -> None:
    """At 0 without any."""
    with filled.connect() as connection:
        ends = [find_end(connection, origin) for origin in ("gateway", "other", "none")]
        assert [100, 5, 0] == ends
        assert not any(has_misplaced(connection, origin) for origin in ("gateway", "none"))
        assert [3, 4] == load_positions(connection, "other", from_position=3, limit=9)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize("value", ["'x'", "x'ff'", "CAST(x'ff' AS TEXT)", "9e99"])
def test_what_is_at_no_position_is_neither_the_end_nor_read(filled: Engine, value: str) -> None:
    """It is found by itself."""
    with filled.begin() as connection:
        connection.execute(text(f"UPDATE audit_records SET position = {value} WHERE position = 99"))
    with filled.connect() as connection:
        assert 99 == find_end(connection, "gateway")
        assert has_misplaced(connection, "gateway")
        assert [98] == load_positions(connection, "gateway", from_position=98, limit=9)
        assert 1 == len(load_bodies(connection, "gateway", from_position=98, limit=9))
        assert find_record_from(connection, "gateway", 99) is None


def test_the_largest_position_is_none(filled: Engine) -> None:
    """The one after it could not be stored."""
    with filled.begin() as connection:
        connection.execute(
            text("UPDATE audit_records SET position = 9223372036854775807 WHERE position = 99")
        )
    with filled.connect() as connection:
        assert 99 == find_end(connection, "gateway")
        assert has_misplaced(connection, "gateway")


def test_a_position_before_the_first_is_found(filled: Engine) -> None:
    """Whoever begins at the first never reads it."""
    with filled.begin() as connection:
        connection.execute(text("UPDATE audit_records SET position = -1 WHERE position = 99"))
    with filled.connect() as connection:
        assert has_misplaced(connection, "gateway")


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_time_of_another_type_is_refused(filled: Engine) -> None:
    """SQLite enforces no types."""
    with filled.begin() as connection:
        connection.execute(text("UPDATE audit_records SET recorded_at = x'00' WHERE position = 9"))
    with filled.connect() as connection, pytest.raises(ValueError, match="position 9"):
        find_record_from(connection, "gateway", 9)
