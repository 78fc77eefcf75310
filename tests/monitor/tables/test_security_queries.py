"""What the rules keep comes back as it was stored, on both databases."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from gateway.store.database import write_transaction
from monitor.records import Cursor, Finding, Place, Rule, Severity
from monitor.tables.security_queries import (
    find_newest_until,
    insert_known_keys,
    list_cursors,
    list_known_keys,
    list_open_findings,
    prune_findings,
    save_cursors,
    save_findings,
)
from tests.monitor.security.ledger_events import at

FINDING = Finding(
    rule=Rule.TOKEN_SHARED,
    key="https://login.test|ä'\"",
    severity=Severity.PAGE,
    opened_at=at(0),
    seen_at=at(1),
    since=at(-5),
    until=at(-4),
    count=3_000_000_000,
    words="it was ☃",
    evidence=(Place("gateway", 2**40), Place("b", 0)),
)


def test_findings_come_back_and_change(engine: Engine) -> None:
    """Until they are closed."""
    with write_transaction(engine) as connection:
        save_findings(connection, [FINDING])
        (stored,) = list_open_findings(connection, for_update=True)
        assert FINDING == replace(stored, id=None)
        save_findings(connection, [replace(stored, count=7, words="more")])
        (changed,) = list_open_findings(connection)
        assert replace(stored, count=7, words="more") == changed
        save_findings(connection, [replace(changed, closed_at=at(9), closed_why="over")])
        assert [] == list_open_findings(connection)


def test_closed_findings_are_pruned_by_age_and_open_ones_never(engine: Engine) -> None:
    """By when they were closed."""
    with write_transaction(engine) as connection:
        closed = replace(FINDING, closed_at=at(9), closed_why="over")
        save_findings(connection, [FINDING, closed])
        assert 0 == prune_findings(connection, closed_before=at(9))
        assert 1 == prune_findings(connection, closed_before=at(9) + timedelta(seconds=1))
        assert 1 == len(list_open_findings(connection))


def test_the_newest_record_of_a_key_is_found_open_or_closed(engine: Engine) -> None:
    """Of that rule and key only."""
    with write_transaction(engine) as connection:
        older = replace(FINDING, until=at(-100), closed_at=at(9), closed_why="over")
        save_findings(connection, [FINDING, older])
        assert at(-4) == find_newest_until(connection, FINDING.rule, FINDING.key)
        assert find_newest_until(connection, Rule.KEY_NEW, FINDING.key) is None
        assert find_newest_until(connection, FINDING.rule, "x") is None


def test_cursors_are_kept_by_ledger(engine: Engine) -> None:
    """One a ledger."""
    with write_transaction(engine) as connection:
        save_cursors(connection, [Cursor("a", 1, 0), Cursor("b", 2**40, 5)])
        save_cursors(connection, [Cursor("a", 7, 0)])
        expected = {"a": Cursor("a", 7, 0), "b": Cursor("b", 2**40, 5)}
        assert expected == list_cursors(connection)


def test_known_keys_are_kept_once(engine: Engine) -> None:
    """The longest that there are fit."""
    longest = ("é" * 256, "sha256:" + "0" * 64)
    with write_transaction(engine) as connection:
        insert_known_keys(connection, [("a", ""), longest], now=at(0))
        insert_known_keys(connection, [], now=at(0))
        assert {("a", ""), longest} == set(list_known_keys(connection))
    with pytest.raises(IntegrityError), write_transaction(engine) as connection:
        insert_known_keys(connection, [("a", "")], now=at(0))
