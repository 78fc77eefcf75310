"""A client's name stays in the samples: everything else has its digest, and people are told who it is."""

import json
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import Engine, text

from gateway.store.database import write_transaction
from monitor.jobs import client_names
from monitor.jobs.alarm_list import alarm_lines, describe_alarms, read_alarms
from monitor.jobs.alarms import acknowledge, log_change, silence, unsilence
from monitor.jobs.client_names import read_client_names
from monitor.jobs.judging import read_watched_models
from monitor.jobs.recording import record_reference
from monitor.jobs.reference import StoredReference, collect_stored
from monitor.jobs.reference_printing import print_reference
from monitor.jobs.references import describe_references, read_references, reference_lines
from monitor.jobs.selecting import Selection
from monitor.jobs.status import describe_status, read_status, status_lines
from monitor.metrics import MonitorMetrics
from monitor.records import AlarmState, AlarmTransition
from monitor.settings import MonitorSettings
from monitor.tables.alarm_queries import list_transitions
from monitor.webhooks import change_message
from monitor.windows.slicing import client_slice
from tests.monitor.conftest import START, AddSamples, new_watch, own_ledger

pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
Promote = Callable[[str], None]
Recorded = Callable[[], list[dict[str, Any]]]
ALICE, BOB = "https://idp.example|alice@corp.example", "https://idp.example|bob@corp.example"
OF_ALICE, OF_BOB = client_slice(ALICE).text, client_slice(BOB).text


class World:
    """Two clients in a reference; what one sends changes, and its alarm rings."""

    def __init__(self, engine: Engine, settings: MonitorSettings, add: AddSamples) -> None:
        self.engine, self.settings = engine, settings
        self.ledger = own_ledger(settings)
        self.registry = CollectorRegistry()
        now = START
        for _ in range(8):
            add(50, principal=ALICE)
            now = add(50, principal=BOB)
        self.reference = self.refer(Selection(), now=now)
        add(100, principal=BOB)
        now = add(100, drift=1, principal=ALICE)
        new_watch(settings, MonitorMetrics(self.registry)).tick(now)
        self.ledger.settle()

    def refer(self, selection: Selection, *, now: datetime = START) -> StoredReference:
        """Make a reference of stored samples, as the command does."""
        with self.engine.connect() as connection:
            (model,) = read_watched_models(connection, self.settings)
        collected = collect_stored(self.engine, model, force=True, selection=selection)
        return record_reference(self.ledger, self.engine, collected, now=now)

    def rung(self) -> list[AlarmTransition]:
        """The changes of the slice's alarm."""
        with self.engine.connect() as connection:
            changes = list_transitions(connection, "conveyor", newest=99)
        return [change for change in changes if change.slice == OF_ALICE]

    def told(self, *, with_json: bool = False) -> list[str]:
        """What people are told by `alarms list`, `status` and `references`."""
        view = read_alarms(self.engine, self.settings, model_name=None, newest=99, now=START)
        known = read_references(self.engine)
        statuses = read_status(self.engine, self.settings)
        if with_json:
            described = (
                describe_alarms(view, now=START),
                *describe_status(statuses)["models"],
                *describe_references(known),
            )
            return [json.dumps(each["clients"]) for each in described]
        return [
            "\n".join(alarm_lines(view, shows_all=True, now=START)),
            "\n".join(status_lines(statuses, settings=self.settings, now=START)),
            "\n".join(reference_lines(known)),
        ]


@pytest.fixture
def world(
    engine: Engine, begun: MonitorSettings, promote: Promote, add_samples: AddSamples
) -> World:
    """With the ledger begun."""
    promote("1")
    return World(engine, begun.model_copy(update={"thin_seconds": 0.0}), add_samples)


def names(where: object) -> list[str]:
    """Of the two clients, those that are named there."""
    return [name for name in ("alice", "bob", "idp.example") if name in str(where)]


def test_what_leaves_the_monitor_names_no_client(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Metrics, webhooks and logs."""
    changes = world.rung()
    assert AlarmState.FIRING is changes[-1].after
    exposition = generate_latest(world.registry).decode()
    assert OF_ALICE in exposition
    assert [] == names(exposition)
    for number, change in enumerate(changes):
        body = change_message(number, change).body.decode()
        assert OF_ALICE in body
        assert [] == names(body)
    caplog.clear()
    caplog.set_level(logging.INFO)
    log_change(changes[-1])
    assert f"slice={OF_ALICE} " in caplog.text
    assert [] == names(caplog.text)


def test_the_ledger_names_no_client(world: World, recorded: Recorded) -> None:
    """Not where a person names one, nor where a reference is of one alone."""
    acknowledge(
        world.ledger,
        world.engine,
        name="drift",
        model_name=None,
        slice_text=f"client={ALICE}",
        watched=frozenset(),
        why="known",
        now=START,
    )
    number = silence(
        world.ledger,
        world.engine,
        name=None,
        model_name=None,
        slice_text=f"client={BOB}",
        duration=START - START,
        why="known",
        now=START,
    )
    unsilence(world.ledger, world.engine, number, now=START.replace(year=START.year - 1))
    world.refer(Selection(client=ALICE))
    world.ledger.settle()
    details = [body.get("detail") or "" for body in recorded()]
    assert [] == names(recorded())
    of_alice, of_bob = OF_ALICE.replace("=", "%3D"), OF_BOB.replace("=", "%3D")
    assert any(f"alarm=drift slice={of_alice} why=known" in detail for detail in details)
    assert any(f"slice={of_bob} " in detail and "silence=1" in detail for detail in details)
    assert any(f"client%20{OF_ALICE[7:]}" in detail for detail in details)


def test_nothing_that_is_stored_names_a_client_but_the_samples(world: World) -> None:
    """References, evidence, alarms and scores."""
    world.refer(Selection(client=BOB))
    with world.engine.connect() as connection:
        tables = [
            row[0]
            for row in connection.execute(text("SELECT name FROM sqlite_master WHERE type='table'"))
        ]
        rows = {table: connection.execute(text(f"SELECT * FROM {table}")).all() for table in tables}
    assert ["samples"] == [table for table, found in rows.items() if names(found)]
    assert OF_ALICE in {row.slice for row in rows["drift_states"]}


def test_people_are_told_who_a_client_is(world: World) -> None:
    """Beside the digest, and as a member of its own in JSON."""
    for said in world.told()[:2]:
        assert f"{OF_ALICE} ({ALICE}) firing" in said
    assert f"     {OF_BOB} is {BOB}" in world.told()[2]
    expected = json.dumps({OF_ALICE: ALICE, OF_BOB: BOB}, sort_keys=True)
    for described in world.told(with_json=True):
        assert expected == json.dumps(json.loads(described), sort_keys=True)


def test_a_client_without_samples_is_a_digest(world: World) -> None:
    """Nobody knows any more who it was."""
    with write_transaction(world.engine) as connection:
        connection.execute(text("DELETE FROM samples WHERE principal LIKE '%alice%'"))
    for said in world.told():
        assert [] == names(said.replace(BOB, ""))
    assert f"{OF_ALICE} firing" in world.told()[0]
    assert {OF_BOB: BOB} == json.loads(world.told(with_json=True)[0])


def test_a_bounded_number_of_rows_is_looked_through(
    world: World, add_samples: AddSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that is watched is found by the samples that its slice remembers, however many came since."""
    monkeypatch.setattr(client_names, "MAX_LOOKED_AT", 5)
    add_samples(5, principal="other")
    slices = [OF_ALICE, OF_BOB, client_slice("other").text, "source=a", "broken"]
    with world.engine.connect() as connection:
        found = read_client_names(connection, "conveyor", "1", slices)
        assert {OF_ALICE: ALICE, OF_BOB: BOB, slices[2]: "other"} == found
    with write_transaction(world.engine) as connection:
        connection.execute(text("DELETE FROM drift_states"))
    with world.engine.connect() as connection:
        assert {slices[2]: "other"} == read_client_names(connection, "conveyor", "1", slices)


def test_what_a_slice_remembers_may_be_broken(world: World) -> None:
    """Names are then looked for among the newest samples."""
    for memory in ("[]", '{"window": 1}'):
        with write_transaction(world.engine) as connection:
            connection.execute(text("UPDATE drift_states SET memory = :m"), {"m": memory})
        with world.engine.connect() as connection:
            found = read_client_names(connection, "conveyor", "1", [OF_ALICE])
        assert {OF_ALICE: ALICE} == found


@pytest.mark.parametrize("named", [ALICE, OF_ALICE.removeprefix("client=")])
def test_a_reference_of_one_client_is_asked_for_by_name_or_digest(world: World, named: str) -> None:
    """And says the digest."""
    stored = world.refer(Selection(client=named))
    assert 500 == stored.sample_count
    assert f" of client {OF_ALICE.removeprefix('client=')}, " in stored.source
    assert f"{OF_ALICE} is {ALICE}" in world.told()[2]
    assert [ALICE] == [*read_references(world.engine)[0].clients.values()]


def test_who_asked_for_a_reference_is_told_who_is_in_it(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line each, without escapes of terminals."""
    print_reference(world.reference, clients={OF_ALICE: "al\x1b[2Jice"}, as_json=False)
    assert f"     {OF_ALICE} is al\\x1b[2Jice" == capsys.readouterr().out.splitlines()[-1]
    print_reference(world.reference, clients={OF_ALICE: ALICE}, as_json=True)
    assert {OF_ALICE: ALICE} == json.loads(capsys.readouterr().out)["clients"]
