"""Acknowledging findings: one, or all of a rule, with who said so."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine

from monitor.jobs.security_begin import thresholds_of
from monitor.jobs.security_storing import acknowledge
from monitor.records import AlarmState, NotReadyError, Rule
from monitor.security.rules import watched_rules
from monitor.tables.alarm_queries import list_transitions
from tests.monitor.jobs.security_world import World, add, add_ledgers
from tests.monitor.security.ledger_events import ISSUER, at, call

EVERY = frozenset(Rule)


@pytest.fixture
def world(engine: Engine) -> World:
    """Two tokens were shared."""
    add_ledgers(engine, {"gateway": [call(at(-60), token_id="t0")]})
    made = World(engine)
    made.look()
    shared = [call(at(n), token_id=f"t{n % 2}", address=f"198.51.100.{n // 2}") for n in range(4)]
    add(engine, shared, first=1)
    made.look()
    keys = [(Rule.TOKEN_SHARED, f"{ISSUER}|t{n}") for n in range(2)]
    assert keys == made.found()
    return made


def test_one_finding_is_closed_and_the_alarm_stays_for_the_other(world: World) -> None:
    """Until both are understood."""
    key = f"{ISSUER}|t0"
    closed = acknowledge(
        world.engine,
        Rule.TOKEN_SHARED,
        key,
        watched=EVERY,
        why="acknowledged: a test",
        now=world.now,
    )
    assert [("acknowledged: a test", world.now)] == [(f.closed_why, f.closed_at) for f in closed]
    assert [(Rule.TOKEN_SHARED, f"{ISSUER}|t1")] == world.found()
    alarm = world.alarm(Rule.TOKEN_SHARED)
    assert AlarmState.FIRING is alarm.state
    assert alarm.diagnosis.startswith("1 finding,")


def test_all_of_a_rule_are_closed_and_its_history_says_by_whom(world: World) -> None:
    """The alarm clears."""
    acknowledge(
        world.engine, Rule.TOKEN_SHARED, None, watched=EVERY, why="acknowledged: ops", now=world.now
    )
    assert [] == world.found()
    with world.engine.connect() as connection:
        history = list_transitions(connection, "(ledger)", newest=1)
    assert [(AlarmState.CLEAR, "acknowledged: ops")] == [(t.after, t.diagnosis) for t in history]


def test_the_alarm_of_a_rule_that_is_switched_off_is_not_raised_by_acknowledging(
    world: World,
) -> None:
    """One of its findings: nobody looks whether there are others. The alarms of other rules stay as they are."""
    key = f"{ISSUER}|t0"
    watched = watched_rules(thresholds_of(world.settings)) - {Rule.TOKEN_SHARED}
    before = {alarm.name: alarm for alarm in world.status().alarms}
    acknowledge(world.engine, Rule.TOKEN_SHARED, key, watched=watched, why="a test", now=world.now)
    after = {alarm.name: alarm for alarm in world.status().alarms}
    assert AlarmState.UNKNOWN is after.pop("token_shared").state
    before.pop("token_shared")
    assert before == after


def test_what_goes_on_after_that_is_a_finding_again(world: World) -> None:
    """A third place of the same token."""
    acknowledge(
        world.engine, Rule.TOKEN_SHARED, None, watched=EVERY, why="acknowledged: ops", now=world.now
    )
    add(world.engine, [call(at(9), token_id="t0", address="203.0.113.9")], first=5)
    world.look(after=timedelta(minutes=1))
    assert [(Rule.TOKEN_SHARED, f"{ISSUER}|t0")] == world.found()


def test_a_finding_that_is_not_open_cannot_be_acknowledged(world: World) -> None:
    """A key that was misspelt must not look like done."""
    for rule, key in ((Rule.TOKEN_SHARED, "t0"), (Rule.CLOCK_JUMPED, None)):
        with pytest.raises(NotReadyError, match="see `monitor status`"):
            acknowledge(world.engine, rule, key, watched=EVERY, why="x", now=world.now)
    assert 2 == len(world.found())


def test_closed_findings_are_kept_for_the_set_time(engine: Engine, world: World) -> None:
    """As scores are."""
    acknowledge(
        engine, Rule.TOKEN_SHARED, None, watched=EVERY, why="acknowledged: ops", now=world.now
    )
    assert 2 == _count(engine)
    add(engine, [call(at(10))], first=5)
    world.look(after=timedelta(days=29))
    assert 2 == _count(engine)
    add(engine, [call(at(11))], first=6)
    world.look(after=timedelta(days=2))
    assert 0 == _count(engine)


def _count(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(
            connection.exec_driver_sql("SELECT count(*) FROM security_findings").scalar_one()
        )
