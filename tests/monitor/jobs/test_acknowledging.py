"""Acknowledging is on record before it is done and after, and not done where it cannot be recorded."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine

from monitor.jobs.acknowledging import record_acknowledgement
from monitor.records import NotReadyError, Rule
from monitor.settings import MonitorSettings
from tests.monitor.conftest import own_ledger
from tests.monitor.jobs.security_world import World, add, add_ledgers
from tests.monitor.security.ledger_events import at, call

pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
EVERY = frozenset(Rule)
Recorded = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def world(engine: Engine) -> World:
    """One token was shared."""
    add_ledgers(engine, {"gateway": [call(at(-60))]})
    made = World(engine)
    add(engine, [call(at(0), address="198.51.100.1")], first=1)
    made.look()
    return made


def test_it_is_on_record_by_whom_and_why(
    world: World, begun: MonitorSettings, recorded: Recorded
) -> None:
    """With the findings' numbers and nobody's name."""
    closed = record_acknowledgement(
        own_ledger(begun),
        world.engine,
        Rule.TOKEN_SHARED,
        None,
        watched=EVERY,
        why="moved",
        now=world.now,
    )
    assert ["acknowledged: moved"] == [finding.closed_why for finding in closed]
    assert [] == world.found()
    first, last = [body for body in recorded() if body["action"] == "alarm.change"]
    assert ("admitted", "answered") == (first["outcome"], last["outcome"])
    assert ("(ledger)", "operating-system") == (last["model_name"], last["issuer"])
    assert f"alarm=token_shared why=moved findings={closed[0].id}" == last["detail"]


def test_what_is_not_open_is_on_record_as_failed(
    world: World, begun: MonitorSettings, recorded: Recorded
) -> None:
    """Somebody tried."""
    with pytest.raises(NotReadyError):
        record_acknowledgement(
            own_ledger(begun),
            world.engine,
            Rule.KEY_NEW,
            None,
            watched=EVERY,
            why="",
            now=world.now,
        )
    assert "failed" == recorded()[-1]["outcome"]


def test_without_a_ledger_nothing_is_acknowledged(world: World, settings: MonitorSettings) -> None:
    """It has to be begun first."""
    with pytest.raises(NotReadyError, match="monitor ledger create"):
        record_acknowledgement(
            own_ledger(settings),
            world.engine,
            Rule.TOKEN_SHARED,
            None,
            watched=EVERY,
            why="",
            now=world.now,
        )
    assert 1 == len(world.found())
