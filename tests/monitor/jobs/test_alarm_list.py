"""The list of alarms says in words how they stand, and the same as JSON."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from gateway.store.database import write_transaction
from monitor.jobs.alarm_list import (
    AlarmsView,
    alarm_lines,
    describe_alarms,
    read_alarms,
    read_stale,
)
from monitor.jobs.lease import LeaseKeeper
from monitor.records import Alarm, AlarmState, AlarmTransition, Delivery, Harm, Silence
from monitor.settings import MonitorSettings
from monitor.tables.alarm_queries import (
    insert_delivery,
    insert_silence,
    insert_transition,
    save_alarm,
)
from monitor.webhooks import parse_webhooks
from tests.monitor.conftest import START

pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
NOW = START
RINGING = Alarm(
    model_name="conveyor",
    name="drift",
    state=AlarmState.ACKNOWLEDGED,
    since=NOW,
    model_version="1",
    slice="source=cam3",
    features=("noise", "sharpness"),
    diagnosis="images are noisier",
    harm=Harm.HARMFUL,
    details={"pattern": "noise", "memory": [1]},
    acknowledged_at=NOW,
    acknowledged_by="alice",
    acknowledged_why="lens is dirty",
)
HOOK = "https://hooks.example/secret-path"


def stored(engine: Engine, *alarms: Alarm) -> None:
    """These alarms."""
    with write_transaction(engine) as connection:
        for alarm in alarms:
            save_alarm(connection, alarm)


def read(engine: Engine, settings: MonitorSettings, **members: Any) -> AlarmsView:
    """The list."""
    usual: dict[str, Any] = {"model_name": None, "newest": 0, "now": NOW}
    return read_alarms(engine, settings, **usual | members)


def lines(view: AlarmsView, *, shows_all: bool = False) -> list[str]:
    """In words."""
    return alarm_lines(view, shows_all=shows_all, now=NOW)


def test_an_alarm_says_what_differs_and_who_knows(
    engine: Engine, settings: MonitorSettings
) -> None:
    """State, since when, slice, harm, diagnosis, features, and the account with its why."""
    stored(engine, RINGING)
    assert [
        "conveyor",
        "  drift source=cam3 acknowledged since 2030-01-01 00:00:00 UTC, harmful: images are noisier",
        "    features: noise, sharpness",
        "    acknowledged by alice at 2030-01-01 00:00:00 UTC: lens is dirty",
    ] == lines(read(engine, settings))


def test_no_stored_text_steers_a_terminal(engine: Engine, settings: MonitorSettings) -> None:
    """Diagnoses, features, names, whys, accounts: each line stays one line."""
    bad = "\x1b[2J\x9b\n\u202eall is well"
    alarm = replace(
        RINGING, diagnosis=bad, features=(bad,), acknowledged_by=bad, acknowledged_why=bad
    )
    stored(engine, alarm, replace(alarm, model_name=f"m{bad}", name=f"a{bad}", slice=f"s{bad}"))
    with write_transaction(engine) as connection:
        made = Silence(bad, bad, bad, NOW, bad, bad, NOW + timedelta(hours=1))
        insert_silence(connection, made)
        states = (AlarmState.CLEAR, AlarmState.FIRING)
        insert_transition(connection, AlarmTransition(bad, bad, NOW, *states, "1", (), bad, bad))
    shown = lines(read(engine, settings, newest=9))
    assert all(line.isprintable() for line in shown)
    assert 20 == sum(line.count("\\x1b[2J\\x9b\\x0a\\u202e") for line in shown)


def test_what_is_quiet_is_counted_and_shown_if_asked_for(
    engine: Engine, settings: MonitorSettings
) -> None:
    """Of each model."""
    clear = Alarm("(ledger)", "key_new", AlarmState.CLEAR, NOW, "")
    pending = Alarm("conveyor", "drift", AlarmState.PENDING, NOW, "1")
    stored(engine, clear, pending)
    assert [
        "conveyor",
        "  drift pending since 2030-01-01 00:00:00 UTC",
        "1 clear or unknown: monitor alarms list --all",
    ] == lines(read(engine, settings))
    assert "  key_new clear since 2030-01-01 00:00:00 UTC" in lines(
        read(engine, settings), shows_all=True
    )
    assert [pending] == list(read(engine, settings, model_name="conveyor").alarms)


def test_nothing_judged_yet_is_said(engine: Engine, settings: MonitorSettings) -> None:
    """An empty list could mean that all is well."""
    assert ["nothing was judged yet: is `monitor run` running?"] == lines(read(engine, settings))


def test_silences_are_shown_with_their_end(engine: Engine, settings: MonitorSettings) -> None:
    """And on whatever rings unheard."""
    stored(engine, replace(RINGING, state=AlarmState.FIRING, acknowledged_at=None))
    with write_transaction(engine) as connection:
        for model, name, slice_text in ((None, None, None), ("other", "drift", "")):
            insert_silence(
                connection,
                Silence(model, name, slice_text, NOW, "ops", "moving", NOW + timedelta(hours=2)),
            )
    said = lines(read(engine, settings))
    assert "    silenced: nobody is told of it" in said
    assert [
        "silence 1 by ops until 2030-01-01 02:00:00 UTC, every alarm: moving",
        "silence 2 by ops until 2030-01-01 02:00:00 UTC, drift of all samples of other: moving",
    ] == said[-2:]


def test_what_webhooks_have_not_taken_is_shown(
    engine: Engine, settings: MonitorSettings, tmp_path: Path
) -> None:
    """By host alone, with what it said last."""
    settings = settings.model_copy(
        update={"webhook_urls": HOOK, "webhook_secret_file": str(tmp_path / "secret")}
    )
    (hook,) = parse_webhooks(HOOK)
    with write_transaction(engine) as connection:
        for number in (1, 2):
            insert_delivery(
                connection, Delivery(number, hook.target, 3, NOW, last_error="answered 500")
            )
    view = read(engine, settings)
    assert (
        "webhook https://hooks.example: 2 changes wait, next try at 2030-01-01 00:00:00 UTC, "
        "the last time it answered 500"
    ) in lines(view)
    assert [
        {
            "webhook": "https://hooks.example",
            "waiting": 2,
            "next_at": "2030-01-01T00:00:00+00:00",
            "last_error": "answered 500",
        }
    ] == describe_alarms(view, now=NOW)["webhooks"]


def test_ticks_that_are_missed_now_are_shown_although_nothing_is_stored(
    engine: Engine, settings: MonitorSettings
) -> None:
    """No monitor runs that could store it."""
    assert describe_alarms(read(engine, settings), now=NOW)["stale"] is None
    assert read_stale(engine, settings, now=NOW) is None
    LeaseKeeper(holder="a", duration_seconds=60).ask(engine)
    later = read(engine, settings, now=START + timedelta(days=36_500))
    assert later.stale.is_on
    assert any(line.startswith("stale now: no monitor ticked between") for line in lines(later))
    assert describe_alarms(later, now=NOW)["stale"].startswith("no monitor ticked")
    assert later.stale.why == read_stale(engine, settings, now=START + timedelta(days=36_500))


def test_history_is_shown_if_asked_for(engine: Engine, settings: MonitorSettings) -> None:
    """The newest changes, oldest first."""
    with write_transaction(engine) as connection:
        for before, after in (("clear", "pending"), ("pending", "firing")):
            insert_transition(
                connection,
                AlarmTransition(
                    "conveyor",
                    "drift",
                    NOW,
                    AlarmState(before),
                    AlarmState(after),
                    "1",
                    (),
                    "noisy",
                ),
            )
    view = read(engine, settings, newest=1)
    assert [
        "history",
        "  2030-01-01 00:00:00 UTC conveyor drift pending to firing: noisy",
    ] == lines(view)[-2:]
    (change,) = describe_alarms(view, now=NOW)["history"]
    assert ("pending", "firing") == (change["before"], change["after"])


def test_json_has_every_alarm(engine: Engine, settings: MonitorSettings) -> None:
    """With everything but what the alarm remembers for itself."""
    stored(engine, RINGING)
    described = json.loads(json.dumps(describe_alarms(read(engine, settings), now=NOW)))
    assert [
        {
            "model": "conveyor",
            "version": "1",
            "alarm": "drift",
            "slice": "source=cam3",
            "state": "acknowledged",
            "since": "2030-01-01T00:00:00+00:00",
            "features": ["noise", "sharpness"],
            "diagnosis": "images are noisier",
            "harm": "harmful",
            "details": {"pattern": "noise"},
            "quiet_samples": 0,
            "acknowledged": {
                "at": "2030-01-01T00:00:00+00:00",
                "by": "alice",
                "why": "lens is dirty",
            },
            "silenced": False,
        }
    ] == described["alarms"]
