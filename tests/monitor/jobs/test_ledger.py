"""The monitor's own ledger: nothing is made that is not on record, and no alarm waits for one."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, text

from gateway.audit.details import parse_detail
from gateway.audit.events import Action
from gateway.audit.operators import account_name
from gateway.audit.pseudonyms import create_pseudonym_key
from gateway.store.database import write_transaction
from monitor.metrics import MonitorMetrics
from monitor.records import (
    AlarmState,
    AlarmTransition,
    InputError,
    LedgerUnavailableError,
    NotReadyError,
)
from monitor.settings import MonitorSettings
from monitor.tables.alarm_queries import insert_transition
from tests.monitor.conftest import own_ledger

NOW = datetime(2030, 1, 1, tzinfo=UTC)
Recorded = Callable[[], list[dict[str, Any]]]


def change(
    engine: Engine,
    after: AlarmState = AlarmState.FIRING,
    *,
    name: str = "drift",
    slice_text: str = "",
) -> None:
    """An alarm changes, stored by whoever found it."""
    transition = AlarmTransition(
        model_name="conveyor",
        name=name,
        at=NOW,
        before=AlarmState.CLEAR,
        after=after,
        model_version="1",
        features=("brightness",),
        diagnosis="images are darker",
        slice=slice_text,
    )
    with write_transaction(engine) as connection:
        insert_transition(connection, transition)


def make(
    settings: MonitorSettings, engine: Engine, made: list[str], error: Exception | None = None
) -> None:
    """A report, or what goes wrong with it."""
    ledger = own_ledger(settings)
    with ledger.made(
        engine, Action.REPORT_MAKE, model_name="conveyor", model_version="1"
    ) as making:
        made.append("report")
        if error is not None:
            raise error
        making.add(report="a.html", drifted=2)


def failures(metrics: MonitorMetrics) -> float | None:
    """Tries that wrote nothing."""
    return metrics.registry.get_sample_value("monitor_audit_records_total", {"outcome": "failed"})


def test_it_is_begun_once_with_a_key_of_its_own(engine: Engine, settings: MonitorSettings) -> None:
    """And found again; the key is its owner's alone."""
    assert own_ledger(settings).begin()
    assert not own_ledger(settings).begin()
    assert 0o600 == settings.audit_key_file.stat().st_mode & 0o777
    with engine.connect() as connection:
        bodies = connection.execute(text("SELECT origin, body FROM audit_records")).all()
    assert [("monitor", "audit.create")] == [
        (origin, json.loads(body)["action"]) for origin, body in bodies
    ]
    own_ledger(settings).check(engine)


def test_where_none_was_begun_the_command_is_named(
    engine: Engine, settings: MonitorSettings
) -> None:
    """Nothing begins one by itself."""
    with pytest.raises(NotReadyError, match="run `monitor ledger create`"):
        own_ledger(settings).check(engine)
    own_ledger(settings.model_copy(update={"audit_origin": "other"})).begin()
    with pytest.raises(NotReadyError, match="run `monitor ledger create` once, or set MONITOR_"):
        own_ledger(settings).check(engine)


def test_a_ledger_whose_key_is_lost_gets_no_other(engine: Engine, begun: MonitorSettings) -> None:
    """A new one could not sign it; the operator must restore what was lost."""
    begun.audit_key_file.unlink()
    with pytest.raises(InputError, match="there is no key"):
        own_ledger(begun).begin()
    assert not begun.audit_key_file.exists()


def test_another_key_is_refused(engine: Engine, begun: MonitorSettings, tmp_path: Path) -> None:
    """By the name of the setting."""
    other = {"audit_origin": "other", "audit_key_file": tmp_path / "other.key"}
    own_ledger(begun.model_copy(update=other)).begin()
    wrong = begun.model_copy(update={"audit_key_file": tmp_path / "other.key"})
    with pytest.raises(InputError, match="another key than MONITOR_AUDIT_KEY_FILE"):
        own_ledger(wrong).check(engine)


def test_what_is_made_stands_between_two_records(
    engine: Engine, begun: MonitorSettings, recorded: Recorded
) -> None:
    """Who, of which model, and at the end what."""
    make(begun, engine, [])
    first, last = recorded()
    assert ("report.make", "admitted", None) == (first["action"], first["outcome"], first["detail"])
    assert ("answered", "report=a.html drifted=2") == (last["outcome"], last["detail"])
    members = ("issuer", "subject", "client_id", "model_name", "model_version")
    expected = ["operating-system", account_name(), "monitor", "conveyor", "1"]
    assert expected == [last[name] for name in members]


def test_what_fails_is_on_record_as_failed(
    engine: Engine, begun: MonitorSettings, recorded: Recorded
) -> None:
    """By the kind of its error; the text may hold anything."""
    with pytest.raises(OSError, match="full"):
        make(begun, engine, [], OSError("the disk is full"))
    last = recorded()[-1]
    assert ("failed", "internal", "OSError") == (last["outcome"], last["code"], last["reason"])


def test_what_cannot_be_recorded_is_not_made(engine: Engine, begun: MonitorSettings) -> None:
    """Fails closed."""
    made: list[str] = []
    with write_transaction(engine) as connection:
        connection.execute(text("ALTER TABLE audit_records RENAME TO away"))
    with pytest.raises(LedgerUnavailableError, match="not on record is not made"):
        make(begun, engine, made)
    assert [] == made


def test_what_was_made_and_cannot_be_recorded_as_made_is_told_as_that(
    engine: Engine, begun: MonitorSettings, recorded: Recorded
) -> None:
    """Whoever repeats it would make it twice."""

    def make_while_the_database_fails() -> None:
        ledger = own_ledger(begun)
        with (
            ledger.made(engine, Action.REPORT_MAKE, model_name="conveyor", model_version="1"),
            write_transaction(engine) as connection,
        ):
            connection.execute(text("ALTER TABLE audit_records RENAME TO away"))

    with pytest.raises(LedgerUnavailableError, match=r"report\.make was done.*Do not repeat"):
        make_while_the_database_fails()
    with write_transaction(engine) as connection:
        connection.execute(text("ALTER TABLE away RENAME TO audit_records"))
    assert ["admitted"] == [body["outcome"] for body in recorded()]


def test_two_monitors_record_a_change_once(
    engine: Engine, begun: MonitorSettings, recorded: Recorded
) -> None:
    """Each has read the ledger before the other wrote to it."""
    ledgers = [own_ledger(begun) for _ in range(2)]
    for number in range(3):
        for ledger in ledgers:
            ledger.settle()
        change(engine)
        for ledger in ledgers[:: 1 if number % 2 else -1]:
            ledger.settle()
    numbers = [parse_detail(body["detail"])["transition"] for body in recorded()]
    assert [("1",), ("2",), ("3",)] == numbers


def test_each_change_of_an_alarm_is_recorded_once(
    engine: Engine, begun: MonitorSettings, recorded: Recorded
) -> None:
    """Whoever stored it, over restarts, with its reason."""
    change(engine, slice_text="source=a")
    own_ledger(begun).settle()
    change(engine, AlarmState.CLEAR, name="ledger")
    for _ in range(2):
        own_ledger(begun).settle()
    first, second = recorded()
    assert ("alarm.change", "images are darker") == (first["action"], first["reason"])
    expected = {
        "alarm": ("drift",),
        "slice": ("source=a",),
        "before": ("clear",),
        "after": ("firing",),
        "at": ("2030-01-01T00:00:00+00:00",),
        "transition": ("1",),
    }
    assert expected == parse_detail(first["detail"])
    assert ("ledger",) == parse_detail(second["detail"])["alarm"]
    assert "slice" not in parse_detail(second["detail"])


def test_a_change_that_shows_after_a_later_one_is_recorded_too(
    engine: Engine, begun: MonitorSettings, recorded: Recorded
) -> None:
    """PostgreSQL shows rows in the order of their commits, and ids are older than those."""
    ledger = own_ledger(begun)
    for _ in range(3):
        change(engine)
    with write_transaction(engine) as connection:
        connection.execute(text("UPDATE alarm_transitions SET id = 9 WHERE id = 3"))
    ledger.settle()
    with write_transaction(engine) as connection:
        connection.execute(text("UPDATE alarm_transitions SET id = 5 WHERE id = 1"))
    ledger.settle()
    numbers = [parse_detail(body["detail"])["transition"] for body in recorded()]
    assert [("1",), ("2",), ("9",), ("5",)] == numbers


def test_alarms_do_not_wait_for_the_ledger(
    engine: Engine, begun: MonitorSettings, recorded: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    """What could not be recorded is told once, counted, and recorded when that is possible again."""
    metrics = MonitorMetrics(CollectorRegistry())
    ledger = own_ledger(begun, metrics)
    key = begun.audit_key_file.read_bytes()
    begun.audit_key_file.unlink()
    ledger.note(Action.MONITOR_START)
    change(engine)
    for _ in range(2):
        ledger.settle()
    assert (2.0, 1) == (failures(metrics), caplog.text.count("ledger_not_written"))
    assert [] == recorded()
    begun.audit_key_file.write_bytes(key)
    begun.audit_key_file.chmod(0o600)
    ledger.settle()
    assert ["monitor.start", "alarm.change"] == [body["action"] for body in recorded()]


def test_a_database_that_is_gone_is_waited_for(tmp_path: Path) -> None:
    """As the ticks do."""
    metrics = MonitorMetrics(CollectorRegistry())
    ledger = own_ledger(MonitorSettings(database_url=f"sqlite:///{tmp_path / 'x.db'}"), metrics)
    ledger.note(Action.MONITOR_START)
    ledger.settle()
    assert 1.0 == failures(metrics)


def test_the_account_is_a_pseudonym_where_that_is_wanted(
    engine: Engine, begun: MonitorSettings, recorded: Recorded, tmp_path: Path
) -> None:
    """With the key of the gateway's pseudonyms, so that both ledgers call one account the same."""
    create_pseudonym_key(tmp_path / "pseudonym.key")
    update = {"audit_pseudonym_key_file": str(tmp_path / "pseudonym.key")}
    make(begun.model_copy(update=update), engine, [])
    last = recorded()[-1]
    assert last["subject"].startswith("~")
    assert ("subject", "monitor") == (last["pseudonymised"], last["client_id"])


def test_nothing_new_is_no_record(
    engine: Engine, begun: MonitorSettings, recorded: Recorded
) -> None:
    """A tick a minute would fill the ledger."""
    ledger = own_ledger(begun)
    for _ in range(3):
        ledger.settle()
    assert [] == recorded()
