"""The feed gives each record once, in the order of times across ledgers, and tells what it cannot read."""

import pytest
from sqlalchemy import Engine, text

from monitor.jobs import ledger_feed
from monitor.jobs.ledger_feed import LedgerFeed, missing_at_end
from monitor.records import Place
from tests.monitor.jobs.security_world import add, add_ledgers
from tests.monitor.security.ledger_events import at, call

pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three records a page."""
    monkeypatch.setattr(ledger_feed, "PAGE_RECORDS", 3)


def places(feed: LedgerFeed, engine: Engine, *, limit: int = 1000) -> tuple[list[Place], bool]:
    """What is fed, by place."""
    fed, is_at_end = feed.read(engine, limit=limit)
    return [each.place for each in fed], is_at_end


def test_ledgers_are_read_by_time_over_their_pages(engine: Engine) -> None:
    """One has a record a second, the other every fifth."""
    add_ledgers(
        engine,
        {
            "a": [call(at(n)) for n in range(20)],
            "b": [call(at(5 * n + 0.5)) for n in range(4)],
        },
    )
    fed, is_at_end = LedgerFeed({"a": 0, "b": 0}).read(engine, limit=1000)
    times = [each.record.at_seconds for each in fed if each.record is not None]
    assert (24, True) == (len(times), is_at_end)
    assert sorted(times) == times


def test_inside_a_ledger_positions_decide(engine: Engine) -> None:
    """Whatever the clock did."""
    add_ledgers(engine, {"a": [call(at(9 - n)) for n in range(10)]})
    found, _ = places(LedgerFeed({"a": 0}), engine)
    assert [Place("a", n) for n in range(10)] == found


def test_reading_goes_on_where_it_ended(engine: Engine) -> None:
    """At most so many, then the rest, then what came meanwhile."""
    add_ledgers(engine, {"a": [call(at(n)) for n in range(10)]})
    feed = LedgerFeed({"a": 2})
    assert ([Place("a", n) for n in range(2, 6)], False) == places(feed, engine, limit=4)
    assert {"a": 6} == feed.positions
    assert ([Place("a", n) for n in range(6, 10)], True) == places(feed, engine)
    assert ([], True) == places(feed, engine)
    add(engine, [call(at(10))], origin="a", first=10)
    assert ([Place("a", 10)], True) == places(feed, engine)


def test_records_that_are_missing_are_told_where_they_should_end(engine: Engine) -> None:
    """At a page's beginning too."""
    add_ledgers(engine, {"a": [call(at(n)) for n in range(10)]})
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM audit_records WHERE position IN (0, 3, 4)"))
    fed, _ = LedgerFeed({"a": 0}).read(engine, limit=1000)
    told = [(each.place.position, each.why) for each in fed if each.record is None]
    assert [
        (0, "1 records are missing up to here"),
        (4, "2 records are missing up to here"),
    ] == told
    assert 7 == sum(each.record is not None for each in fed)


def test_one_bad_value_spoils_its_own_record_only(engine: Engine) -> None:
    """Of a page that cannot be read whole."""
    add_ledgers(engine, {"a": [call(at(n)) for n in range(10)]})
    with engine.begin() as connection:
        connection.execute(text("UPDATE audit_records SET body = x'00' WHERE position = 4"))
    fed, is_at_end = LedgerFeed({"a": 0}).read(engine, limit=1000)
    assert is_at_end
    assert [4] == [each.place.position for each in fed if each.record is None]
    assert 10 == len(fed)


def test_a_ledger_that_ends_before_what_was_read_is_told(engine: Engine) -> None:
    """With how many it had; one that grew is not."""
    (told,) = missing_at_end({"a": 10, "b": 5, "c": 3}, {"a": 7, "b": 9, "c": 3})
    assert Place("a", 7) == told.place
    assert "had 3 records more" in told.why
    assert 1 == len(missing_at_end({"a": 1}, {}))
