"""How far before the cursors a start reads again."""

import pytest
from sqlalchemy import Engine, text

from gateway.store.database import write_transaction
from monitor.jobs import security_begin
from monitor.jobs.security_begin import Following, begin_following, thresholds_of
from monitor.records import Cursor
from monitor.settings import MonitorSettings
from monitor.tables.security_queries import save_cursors
from tests.monitor.jobs.security_world import add_ledgers, begin_ledger
from tests.monitor.security.ledger_events import at, call

pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
HOUR = 3600


def begun(engine: Engine, *cursors: Cursor, **settings: object) -> Following:
    """What a process begins with after these cursors were stored."""
    with write_transaction(engine) as connection:
        save_cursors(connection, cursors)
    thresholds = thresholds_of(MonitorSettings.read({}, **settings))
    return begin_following(engine, thresholds)


@pytest.fixture
def hourly(engine: Engine) -> Engine:
    """100 records, one an hour."""
    add_ledgers(engine, {"gateway": [call(at(HOUR * n)) for n in range(100)]})
    return engine


def test_the_longest_window_before_the_cursor_is_read_again(hourly: Engine) -> None:
    """By the ledger's own clock, from the last record that was judged."""
    following = begun(hourly, Cursor("gateway", 80, 0))
    assert ({"gateway": 55}, {"gateway": 80}) == (
        following.feed.positions,
        following.judged_until,
    )


def test_without_the_rule_on_tokens_an_hour_is_read_again(hourly: Engine) -> None:
    """Or the window of failures."""
    off = {"security_token_addresses": 0, "security_token_certificates": 0}
    assert {"gateway": 78} == begun(hourly, Cursor("gateway", 80, 0), **off).feed.positions
    long = {**off, "security_failure_window_seconds": 5 * HOUR}
    assert {"gateway": 74} == begun(hourly, **long).feed.positions


def test_so_many_records_are_read_again_at_most(
    hourly: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a ledger with more of them in a window."""
    monkeypatch.setattr(security_begin, "MAX_REPLAYED_RECORDS", 10)
    assert {"gateway": 70} == begun(hourly, Cursor("gateway", 80, 0)).feed.positions


def test_a_time_that_cannot_be_read_does_not_stop_a_start(hourly: Engine) -> None:
    """What stands beside a body is not verified."""
    with hourly.begin() as connection:
        connection.execute(text("UPDATE audit_records SET recorded_at = 'x' WHERE position = 79"))
    assert {"gateway": 0} == begun(hourly, Cursor("gateway", 80, 0)).feed.positions


def test_a_first_start_begins_a_window_before_the_end_and_learns_until_it(hourly: Engine) -> None:
    """Nothing of before was judged by anybody."""
    following = begun(hourly)
    assert Cursor("gateway", 75, learn_until=100) == following.cursors["gateway"]
    assert ({}, {}) == (following.judged_until, following.stored)


def test_a_ledger_that_is_new_to_a_monitor_that_ran_is_read_from_its_first_record(
    hourly: Engine,
) -> None:
    """And teaches nothing."""
    begin_ledger(hourly, "replica")
    following = begun(hourly, Cursor("gateway", 80, 0))
    assert Cursor("replica", 0, learn_until=0) == following.cursors["replica"]


def test_a_database_without_ledgers_is_nothing_to_follow(engine: Engine) -> None:
    """They may come."""
    assert {} == begun(engine).feed.positions


def test_orders_that_cannot_be_read_do_not_stop_a_start(
    hourly: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so."""
    with hourly.begin() as connection:
        change = "UPDATE audit_records SET action = 'models.promote', body = x'00'"
        connection.execute(text(f"{change} WHERE position = 3"))
    begun(hourly, Cursor("gateway", 80, 0))
    assert "orders_not_read" in caplog.text
