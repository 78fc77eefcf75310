"""What a person does about alarms is on record with why; what the monitor lacks rings."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, text

from gateway.audit.operators import account_name
from gateway.store.database import write_transaction
from monitor.jobs.alarms import (
    acknowledge,
    log_change,
    silence,
    unsilence,
)
from monitor.jobs.lacks import LackWatch
from monitor.jobs.lease import LeaseKeeper
from monitor.metrics import MonitorMetrics
from monitor.records import (
    Alarm,
    AlarmState,
    AlarmTransition,
    DriftCursor,
    InputError,
    NotReadyError,
    Rule,
)
from monitor.settings import MonitorSettings
from monitor.tables.alarm_queries import (
    find_alarm,
    list_silences,
    list_transitions,
    save_alarm,
)
from monitor.tables.drift_queries import save_cursor
from tests.monitor.conftest import START, own_ledger
from tests.monitor.jobs.security_world import World, add, add_ledgers
from tests.monitor.security.ledger_events import at, call

pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
Recorded = Callable[[], list[dict[str, Any]]]
NOW = START
FIRING = AlarmState.FIRING


def ring(engine: Engine, **members: Any) -> None:
    """The drift alarm of conveyor is firing, or what is said instead."""
    usual: dict[str, Any] = {
        "model_name": "conveyor",
        "name": "drift",
        "state": FIRING,
        "since": NOW,
        "model_version": "1",
    }
    with write_transaction(engine) as connection:
        save_alarm(connection, Alarm(**usual | members))


def ack(engine: Engine, settings: MonitorSettings, **members: Any) -> list[str]:
    """Acknowledge it."""
    usual: dict[str, Any] = {"name": "drift", "model_name": None, "slice_text": "", "why": "known"}
    return acknowledge(
        own_ledger(settings), engine, watched=frozenset(Rule), now=NOW, **usual | members
    )


def found(engine: Engine, name: str, *, model: str = "conveyor", slice_text: str = "") -> Alarm:
    """The stored alarm."""
    with engine.connect() as connection:
        alarm = find_alarm(connection, model, name, slice=slice_text)
    assert alarm is not None
    return alarm


def test_an_alarm_is_acknowledged_on_record(
    engine: Engine, begun: MonitorSettings, recorded: Recorded
) -> None:
    """By whom and why; the history says that it was, not by whom."""
    ring(engine, slice="source=a")
    ring(engine)
    done = ack(engine, begun, slice_text="source=a", why="lens\nis dirty")
    assert ["drift of conveyor, source=a: acknowledged"] == done
    assert AlarmState.ACKNOWLEDGED is found(engine, "drift", slice_text="source=a").state
    assert account_name() == found(engine, "drift", slice_text="source=a").acknowledged_by
    assert FIRING is found(engine, "drift").state
    first, last = [body for body in recorded() if body["action"] == "alarm.change"]
    assert ("admitted", "answered") == (first["outcome"], last["outcome"])
    assert ("conveyor", account_name()) == (last["model_name"], last["subject"])
    assert "alarm=drift slice=source%3Da why=lens%5Cx0ais%20dirty" == last["detail"]
    assert last["detail"] == first["detail"]
    with engine.connect() as connection:
        (change,) = list_transitions(connection, "conveyor", newest=9)
    assert (AlarmState.ACKNOWLEDGED, "acknowledged: lens\\x0ais dirty") == (
        change.after,
        change.diagnosis,
    )


def test_without_a_slice_every_one_that_is_firing_is_acknowledged(
    engine: Engine, begun: MonitorSettings, recorded: Recorded
) -> None:
    """One camera's change makes several alarms; which ones is said, and each is on record."""
    for slice_text in ("", "source=a", "client=b"):
        ring(engine, slice=slice_text)
    done = ack(engine, begun, slice_text=None)
    assert {
        "drift of conveyor: acknowledged",
        "drift of conveyor, source=a: acknowledged",
        "drift of conveyor, client=b: acknowledged",
    } == set(done)
    for slice_text in ("", "source=a", "client=b"):
        alarm = found(engine, "drift", slice_text=slice_text)
        assert AlarmState.ACKNOWLEDGED is alarm.state
    assert 6 == len([body for body in recorded() if body["action"] == "alarm.change"])
    with pytest.raises(NotReadyError, match="no alarm drift is firing"):
        ack(engine, begun, slice_text=None)
    with pytest.raises(NotReadyError, match="is acknowledged since"):
        ack(engine, begun, slice_text=None, model_name="conveyor")


@pytest.mark.parametrize(
    ("members", "error", "words"),
    [
        ({"name": "drifft"}, InputError, "no alarm is called drifft: one of"),
        ({"name": "ledger"}, InputError, "monitor witness --acknowledge LEDGER"),
        ({"slice_text": "cam3"}, InputError, "write source=NAME or client=NAME"),
        ({"slice_text": "source=b"}, NotReadyError, "no alarm drift, source=b is firing"),
        ({"model_name": "other"}, NotReadyError, "other has no alarm drift"),
        ({"name": "samples"}, NotReadyError, "no alarm samples is firing"),
        ({"name": "token_shared"}, NotReadyError, "no finding of token_shared is open"),
        ({"why": " \n"}, InputError, "--why is empty: say why"),
    ],
)
def test_what_cannot_be_acknowledged_is_told(
    engine: Engine,
    begun: MonitorSettings,
    members: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    """And changes nothing."""
    ring(engine)
    with pytest.raises(error, match=words):
        ack(engine, begun, **members)
    assert FIRING is found(engine, "drift").state


def test_of_several_models_one_must_be_named(engine: Engine, begun: MonitorSettings) -> None:
    """The others are not known by that."""
    ring(engine)
    ring(engine, model_name="other")
    with pytest.raises(InputError, match=r"several models \(conveyor, other\)"):
        ack(engine, begun)
    ack(engine, begun, model_name="other")
    assert FIRING is found(engine, "drift").state
    with pytest.raises(NotReadyError, match="is acknowledged since"):
        ack(engine, begun, model_name="other")


def test_a_rule_on_the_ledgers_is_acknowledged_by_the_same_command(
    engine: Engine, begun: MonitorSettings
) -> None:
    """Its findings are closed."""
    add_ledgers(engine, {"gateway": [call(at(-60))]})
    world = World(engine)
    add(engine, [call(at(0), address="198.51.100.1")], first=1)
    world.look()
    (line,) = ack(engine, begun, name="token_shared")
    assert line.startswith("token_shared: closed https:")
    assert [] == world.found()


def test_nothing_is_done_that_cannot_be_recorded(engine: Engine, settings: MonitorSettings) -> None:
    """The ledger was not begun."""
    ring(engine)
    with pytest.raises(NotReadyError, match="monitor ledger create"):
        ack(engine, settings)
    with pytest.raises(NotReadyError, match="monitor ledger create"):
        be_silent(engine, settings)
    with pytest.raises(NotReadyError, match="monitor ledger create"):
        unsilence(own_ledger(settings), engine, 1, now=NOW)
    assert FIRING is found(engine, "drift").state
    assert [] == silences(engine)


def be_silent(engine: Engine, settings: MonitorSettings, **members: Any) -> int:
    """Silence everything for two hours, or some alarms where they are named."""
    usual: dict[str, Any] = {
        "name": None,
        "model_name": None,
        "slice_text": None,
        "duration": timedelta(hours=2),
        "why": "moving",
    }
    usual["is_of_all"] = not any(members.get(n) for n in ("name", "model_name", "slice_text"))
    return silence(own_ledger(settings), engine, now=NOW, **usual | members)


def silences(engine: Engine) -> list[tuple[Any, ...]]:
    """What goes on: model, name, slice, by whom, why, until when."""
    with engine.connect() as connection:
        return [
            (s.model_name, s.name, s.slice, s.created_by, s.why, s.ends_at - NOW)
            for s in list_silences(connection, now=NOW)
        ]


def test_a_silence_is_made_and_ended_on_record(
    engine: Engine, begun: MonitorSettings, recorded: Recorded
) -> None:
    """Of everything, or of what is named."""
    first = be_silent(engine, begun)
    be_silent(engine, begun, name="drift", model_name="conveyor", slice_text="")
    by, until = account_name(), timedelta(hours=2)
    assert [
        (None, None, None, by, "moving", until),
        ("conveyor", "drift", "", by, "moving", until),
    ] == silences(engine)
    unsilence(own_ledger(begun), engine, first, now=NOW)
    assert 1 == len(silences(engine))
    until_then = "until=2030-01-01T02:00:00+00:00 why=moving"
    details = [body["detail"] for body in recorded() if body["outcome"] == "answered"]
    assert [
        f"model=* alarm=* slice=* {until_then} silence={first}",
        f"model=conveyor alarm=drift slice=(all%20samples) {until_then} silence={first + 1}",
        f"silence={first} ended=2030-01-01T00:00:00+00:00 model=* alarm=* slice=* {until_then}",
    ] == details
    begun_details = [body["detail"] for body in recorded() if body["outcome"] == "admitted"]
    assert [detail.partition(" silence=")[0] for detail in details] == begun_details


def test_a_silence_of_what_does_not_exist_is_refused(
    engine: Engine, begun: MonitorSettings
) -> None:
    """It would silence nothing."""
    with pytest.raises(InputError, match="no alarm is called drfit"):
        be_silent(engine, begun, name="drfit")
    with pytest.raises(InputError, match="--slice"):
        be_silent(engine, begun, slice_text="camera=3")
    with pytest.raises(NotReadyError, match="there is no silence 7"):
        unsilence(own_ledger(begun), engine, 7, now=NOW)
    number = be_silent(engine, begun)
    unsilence(own_ledger(begun), engine, number, now=NOW)
    with pytest.raises(NotReadyError, match=f"there is no silence {number}"):
        unsilence(own_ledger(begun), engine, number, now=NOW)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"why": ""}, "--why is empty: say why"),
        ({"is_of_all": False}, "name one, or --model or --slice with a value; --all silences"),
        ({"is_of_all": False, "slice_text": ""}, "name one, or --model or --slice with a value"),
        ({"is_of_all": True, "name": "drift"}, "leave out what names some"),
        ({"is_of_all": True, "slice_text": ""}, "leave out what names some"),
        ({"duration": timedelta(days=30, seconds=1)}, "at most 30 days"),
    ],
)
def test_a_silence_says_of_what_and_why_and_ends(
    engine: Engine,
    begun: MonitorSettings,
    recorded: Recorded,
    members: dict[str, Any],
    words: str,
) -> None:
    """Nothing is recorded of one that is refused."""
    with pytest.raises(InputError, match=words):
        be_silent(engine, begun, **members)
    assert ([], []) == (silences(engine), recorded())


def test_a_silence_of_a_model_or_a_client_is_enough(engine: Engine, begun: MonitorSettings) -> None:
    """The client is stored as its digest."""
    be_silent(engine, begun, model_name="conveyor", duration=timedelta(days=30))
    be_silent(engine, begun, slice_text="client=x")
    assert [None, "client=2d711642b726b044"] == [found[2] for found in silences(engine)]


def test_the_first_record_says_what_is_about_to_be_done(
    engine: Engine, begun: MonitorSettings, recorded: Recorded
) -> None:
    """Where the monitor dies in between, it is known what may have been done."""
    add_ledgers(engine, {"gateway": [call(at(-60))]})
    world = World(engine)
    add(engine, [call(at(0), address="198.51.100.1")], first=1)
    world.look()
    ack(engine, begun, name="token_shared")
    (first, _) = [body for body in recorded() if body["action"] == "alarm.change"]
    assert ("admitted", "alarm=token_shared why=known") == (first["outcome"], first["detail"])


def test_a_line_of_the_log_stays_one_line(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the table of alarms held."""
    caplog.set_level("INFO")
    forged = "\x1b[2J\n2030-01-01 alarm_changed all clear"
    change = AlarmTransition(
        forged, forged, NOW, AlarmState.CLEAR, FIRING, "1", (), forged, slice=f"source={forged}"
    )
    log_change(change)
    (record,) = caplog.records
    assert record.getMessage().isprintable()
    assert 4 == record.getMessage().count("\\x1b[2J\\x0a2030")


class Lacks:
    """A monitor that looks at what it lacks."""

    def __init__(self, engine: Engine, settings: MonitorSettings) -> None:
        self.engine = engine
        self.registry = CollectorRegistry()
        self.watch = LackWatch(settings=settings, metrics=MonitorMetrics(self.registry))

    def look(self, now: datetime) -> None:
        """Look, as of then."""
        self.watch.look(self.engine, now)

    def metric(self, name: str, *, model: str, alarm: str) -> float | None:
        """One number of the exposition."""
        labels = {"model": model, "alarm": alarm, "slice": ""}
        return self.registry.get_sample_value(name, labels)


def ticked(engine: Engine, *, before: timedelta) -> datetime:
    """A monitor holds the lease and ticked that long ago; gives the database's time."""
    LeaseKeeper(holder="a", duration_seconds=60).ask(engine)
    with write_transaction(engine) as connection:
        now: datetime = connection.execute(text("SELECT max(renewed_at) FROM leases")).scalar_one()
        now = datetime.fromisoformat(str(now))
    return now.replace(tzinfo=START.tzinfo) + before


def test_ticks_that_were_missed_ring_until_there_are_some(
    engine: Engine, settings: MonitorSettings
) -> None:
    """Before the first tick of the next monitor, or beside one whose ticks hang."""
    lacks = Lacks(engine, settings)
    lacks.look(START)
    assert AlarmState.CLEAR is found(engine, "stale", model="(monitor)").state
    lacks.look(ticked(engine, before=timedelta(seconds=299)))
    assert AlarmState.CLEAR is found(engine, "stale", model="(monitor)").state
    lacks.look(ticked(engine, before=timedelta(seconds=301)))
    stale = found(engine, "stale", model="(monitor)")
    assert FIRING is stale.state
    assert stale.diagnosis.startswith("no monitor ticked between")
    assert 1.0 == lacks.metric("monitor_alarm_active", model="(monitor)", alarm="stale")
    lacks.look(ticked(engine, before=timedelta(seconds=1)))
    assert AlarmState.RESOLVED is found(engine, "stale", model="(monitor)").state


def test_a_model_that_is_hardly_judged_rings(
    engine: Engine, settings: MonitorSettings, promote: Callable[[str], None]
) -> None:
    """After a day with fewer than MONITOR_MIN_WINDOW_SAMPLES; goes quiet once there are as many."""
    promote("1")
    lacks = Lacks(engine, settings)
    lacks.look(START)
    judged(engine, 29)
    lacks.look(START + timedelta(hours=24))
    assert found(engine, "samples").diagnosis.startswith("29 samples of conveyor 1 were judged")
    assert 1.0 == lacks.metric("monitor_alarm_active", model="conveyor", alarm="samples")
    judged(engine, 59)
    lacks.look(START + timedelta(hours=25, minutes=30))
    assert AlarmState.RESOLVED is found(engine, "samples").state
    with engine.connect() as connection:
        states = [
            change.after.value for change in list_transitions(connection, "conveyor", newest=9)
        ]
    assert ["clear", "firing", "resolved"] == states


def test_a_model_that_leaves_production_lacks_nothing(
    engine: Engine, settings: MonitorSettings, promote: Callable[[str], None]
) -> None:
    """Nor one, once the alarm is switched off."""
    promote("1")
    off = settings.model_copy(update={"starved_hours": 0.0})
    for hours, used in ((0, settings), (24, settings), (25, off), (26, off)):
        Lacks(engine, used).look(START + timedelta(hours=hours))
    assert AlarmState.RESOLVED is found(engine, "samples").state
    ring(engine, name="samples")
    with write_transaction(engine) as connection:
        connection.execute(text("UPDATE model_versions SET stage = 'retired'"))
    Lacks(engine, settings).look(START + timedelta(hours=27))
    assert AlarmState.RESOLVED is found(engine, "samples").state


def test_a_quiet_look_writes_nothing(
    engine: Engine, settings: MonitorSettings, promote: Callable[[str], None]
) -> None:
    """Looks come every few seconds."""
    promote("1")
    lacks = Lacks(engine, settings)
    lacks.look(START)
    before = found(engine, "samples")
    lacks.look(START + timedelta(seconds=5))
    assert before == found(engine, "samples")


def test_a_change_is_logged_as_a_warning_where_it_rings(
    engine: Engine,
    settings: MonitorSettings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And as news where it is over."""
    caplog.set_level("INFO")
    lacks = Lacks(engine, settings)
    lacks.look(ticked(engine, before=timedelta(seconds=400)))
    lacks.look(ticked(engine, before=timedelta(seconds=1)))
    levels = [record.levelname for record in caplog.records if "alarm=stale" in record.getMessage()]
    assert ["WARNING", "INFO"] == levels
    assert "before=firing after=resolved" in caplog.text


def judged(engine: Engine, count: int) -> None:
    """So many samples of conveyor 1 so far."""
    cursor = DriftCursor("conveyor", "1", 1, count, count, 0, {}, START)
    with write_transaction(engine) as connection:
        save_cursor(connection, cursor)
