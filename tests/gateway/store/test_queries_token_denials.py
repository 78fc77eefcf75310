"""SQL over token_denials, on both databases."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from gateway.store.database import write_transaction
from gateway.store.queries.token_denials import (
    ChangeMark,
    StoredDenial,
    find_denial,
    insert_denial,
    lift_denial,
    list_denials,
    load_active,
    read_change_mark,
)
from gateway.store.records import TokenDenial

NOW = datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
FULL = TokenDenial(
    issuer="https://issuer.example",
    subject="caméra-7",
    token_id="token-1",
    issued_before=NOW + timedelta(seconds=1),
    ends_at=NOW + timedelta(hours=1),
    why="leaked in a chat",
    created_at=NOW,
    created_by="root",
)
OPEN = replace(FULL, subject=None, token_id=None, issued_before=None, ends_at=None)


def stored(engine: Engine, *denials: TokenDenial) -> list[int]:
    """The ids of denials that were put in."""
    with write_transaction(engine) as connection:
        return [insert_denial(connection, denial) for denial in denials]


def lifted(engine: Engine, denial_id: int) -> bool:
    """Whether lifting this one changed anything."""
    with write_transaction(engine) as connection:
        return lift_denial(connection, denial_id, now=NOW)


def mark(engine: Engine) -> ChangeMark:
    """The change mark now."""
    with engine.connect() as connection:
        return read_change_mark(connection)


def test_a_denial_comes_back_as_it_was_stored(engine: Engine) -> None:
    """With every member, or with none that may be missing."""
    ids = stored(engine, FULL, OPEN)
    with engine.connect() as connection:
        assert [FULL, OPEN] == [find_denial(connection, denial_id) for denial_id in ids]
        assert find_denial(connection, max(ids) + 1) is None
        listed = list_denials(connection, now=NOW, is_history_included=False)
    assert [StoredDenial(ids[0], FULL), StoredDenial(ids[1], OPEN)] == listed


def test_a_denial_is_lifted_once(engine: Engine) -> None:
    """It stays on the list as history, with the time."""
    (denial_id,) = stored(engine, OPEN)
    assert [False, True, False] == [lifted(engine, number) for number in (99, denial_id, denial_id)]
    with engine.connect() as connection:
        assert not load_active(connection, now=NOW)
        assert not list_denials(connection, now=NOW, is_history_included=False)
        assert [StoredDenial(denial_id, replace(OPEN, lifted_at=NOW))] == list_denials(
            connection, now=NOW, is_history_included=True
        )


def test_an_end_ends_a_denial_at_that_moment(engine: Engine) -> None:
    """Not before, and one without an end goes on."""
    stored(engine, FULL, OPEN)
    assert FULL.ends_at is not None
    with engine.connect() as connection:
        before = load_active(connection, now=FULL.ends_at - timedelta(microseconds=1))
        after = load_active(connection, now=FULL.ends_at)
    assert ({FULL, OPEN}, [OPEN]) == (set(before), after)


def test_the_mark_changes_with_every_change(engine: Engine) -> None:
    """Insert and lift; and stays otherwise."""
    marks = [mark(engine)]
    first, second = stored(engine, OPEN, FULL)
    marks.append(mark(engine))
    for denial_id in (first, second):
        lifted(engine, denial_id)
        marks.append(mark(engine))
    assert [
        ChangeMark(0, None, 0), ChangeMark(2, second, 0), ChangeMark(2, second, 1),
        ChangeMark(2, second, 2),
    ] == marks  # fmt: skip
    lifted(engine, first)
    assert marks[-1] == mark(engine)


def test_a_smaller_id_that_is_committed_later_changes_the_mark(postgres_engine: Engine) -> None:
    """PostgreSQL gives ids out before transactions commit."""
    with postgres_engine.connect() as slow:
        slow_id = insert_denial(slow, OPEN)
        (fast_id,) = stored(postgres_engine, FULL)
        before = mark(postgres_engine)
        slow.commit()
    assert slow_id < fast_id
    after = mark(postgres_engine)
    assert (before.max_id, before.count + 1) == (after.max_id, after.count)


@pytest.mark.parametrize("member", ["issued_before", "ends_at"])
def test_a_time_of_another_zone_is_the_same_moment(engine: Engine, member: str) -> None:
    """Times come back in UTC."""
    elsewhere = datetime.fromisoformat("2031-05-06T12:08:09.123456+05:00")
    (denial_id,) = stored(engine, replace(OPEN, **{member: elsewhere}))  # type: ignore[arg-type]
    with engine.connect() as connection:
        found = find_denial(connection, denial_id)
    assert replace(OPEN, **{member: NOW}) == found  # type: ignore[arg-type]
