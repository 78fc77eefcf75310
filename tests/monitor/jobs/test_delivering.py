"""Webhooks are told at least once and in order, through failures and restarts, and not of what is silenced."""

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, text

from gateway.store.database import write_transaction
from monitor.jobs.delivering import Deliveries, DeliveryLoop, read_waiting
from monitor.jobs.lacks import LackWatch
from monitor.metrics import MonitorMetrics
from monitor.records import Alarm, AlarmState, AlarmTransition, InputError, Silence
from monitor.settings import MonitorSettings
from monitor.tables.alarm_queries import (
    end_silence,
    insert_silence,
    insert_transition,
    list_open_deliveries,
    save_alarm,
)
from monitor.webhooks import parse_webhooks
from tests.monitor.jobs.security_world import World as Ledgers
from tests.monitor.jobs.security_world import add, add_ledgers
from tests.monitor.security.ledger_events import at, call
from tests.monitor.webhook_receiver import SECRET, Receiver, is_signed, received

NOW = datetime(2030, 1, 1, tzinfo=UTC)
CLEAR, PENDING, FIRING = AlarmState.CLEAR, AlarmState.PENDING, AlarmState.FIRING
ACKNOWLEDGED, RESOLVED = AlarmState.ACKNOWLEDGED, AlarmState.RESOLVED


class World:
    """A database whose alarms change, and the process that tells webhooks of it."""

    def __init__(self, engine: Engine, folder: Path, *urls: str) -> None:
        self.engine = engine
        self.now = NOW
        secret_file = folder / "webhook.secret"
        secret_file.write_bytes(SECRET)
        secret_file.chmod(0o600)
        self.settings = MonitorSettings(
            database_url=engine.url.render_as_string(hide_password=False),
            webhook_urls=",".join(urls),
            webhook_secret_file=str(secret_file),
            webhook_timeout_seconds=5.0,
        )
        self.restart()

    def restart(self) -> None:
        """Another process, which knows what is stored."""
        self.registry = CollectorRegistry()
        self.metrics = MonitorMetrics(self.registry)
        self.deliveries = Deliveries(
            settings=self.settings,
            metrics=self.metrics,
            draw=lambda: 0.5,
            clock=lambda: self.now,
        )

    def look(self, *, after: float = 0.0) -> None:
        """One look, some seconds later."""
        self.now += timedelta(seconds=after)
        self.deliveries.look(self.engine, should_stop=lambda: False)

    def change(
        self, before: AlarmState, after: AlarmState, *, name: str = "drift", slice_text: str = ""
    ) -> None:
        """One alarm takes another state."""
        with write_transaction(self.engine) as connection:
            insert_transition(
                connection,
                AlarmTransition(
                    model_name="conveyor",
                    name=name,
                    slice=slice_text,
                    at=self.now,
                    before=before,
                    after=after,
                    model_version="1",
                    features=("noise",),
                    diagnosis="images are noisier",
                ),
            )
            save_alarm(
                connection,
                Alarm(
                    model_name="conveyor",
                    name=name,
                    slice=slice_text,
                    state=after,
                    since=self.now,
                    model_version="1",
                ),
            )

    def silence(self, hours: float, *, name: str | None = None) -> int:
        """Have nobody told for a while."""
        made = Silence(None, name, None, self.now, "ops", "", self.now + timedelta(hours=hours))
        with write_transaction(self.engine) as connection:
            return insert_silence(connection, made)

    def counted(self, outcome: str) -> float | None:
        """Deliveries of one outcome."""
        labels = {"outcome": outcome}
        return self.registry.get_sample_value("monitor_webhook_deliveries_total", labels)

    def waiting(self) -> float | None:
        """What is not taken yet."""
        return self.registry.get_sample_value("monitor_webhook_waiting")


Make = Callable[..., World]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """One that takes everything."""
    with received() as made:
        yield made


@pytest.fixture
def world(engine: Engine, tmp_path: Path, receiver: Receiver) -> World:
    """One webhook, known since now."""
    made = World(engine, tmp_path, receiver.url)
    made.look()
    return made


def test_ringing_is_told_and_its_end(world: World, receiver: Receiver) -> None:
    """Signed; what neither begins nor ends ringing is not told."""
    for before, after in ((CLEAR, PENDING), (PENDING, FIRING), (FIRING, ACKNOWLEDGED)):
        world.change(before, after)
    world.look()
    world.change(ACKNOWLEDGED, RESOLVED)
    world.change(RESOLVED, PENDING)
    world.look()
    assert [("drift", "firing"), ("drift", "acknowledged"), ("drift", "resolved")] == (
        receiver.states()
    )
    assert all(is_signed(headers, body) for headers, body in receiver.got)
    assert (3.0, 0.0) == (world.counted("delivered"), world.waiting())


def test_what_was_before_a_webhook_was_set_is_not_told(
    engine: Engine, tmp_path: Path, receiver: Receiver
) -> None:
    """But the end of what rang then is."""
    world = World(engine, tmp_path, receiver.url)
    world.change(CLEAR, FIRING)
    world.look()
    assert [] == receiver.got
    world.change(FIRING, RESOLVED)
    world.look()
    assert [("drift", "resolved")] == receiver.states()


def test_a_failure_is_tried_again_later_and_in_order(world: World, receiver: Receiver) -> None:
    """What comes after waits; each message keeps its id, and is signed anew."""
    receiver.statuses = [500, 500, 200]
    world.change(CLEAR, FIRING)
    world.look()
    world.change(FIRING, RESOLVED)
    world.look(after=4)
    assert (1, 2.0) == (len(receiver.got), world.waiting())
    world.look(after=1)
    assert 2 == len(receiver.got)
    world.look(after=9)
    assert 2 == len(receiver.got)
    world.look(after=1)
    assert ["firing", "firing", "firing", "resolved"] == [state for _, state in receiver.states()]
    ids = [headers["webhook-id"] for headers, _ in receiver.got]
    assert (1, 2) == (len(set(ids[:3])), len(set(ids)))
    assert [0, 5, 15, 15] == [
        int(headers["webhook-timestamp"]) - int(NOW.timestamp()) for headers, _ in receiver.got
    ]
    assert (2.0, 2.0, 0.0) == (
        world.counted("failed"),
        world.counted("delivered"),
        world.waiting(),
    )


def test_a_receiver_is_heard_when_it_asks_for_time(world: World, receiver: Receiver) -> None:
    """With Retry-After."""
    receiver.statuses, receiver.headers = [429, 200], {"Retry-After": "600"}
    world.change(CLEAR, FIRING)
    world.look()
    world.look(after=599)
    assert 1 == len(receiver.got)
    world.look(after=1)
    assert 2 == len(receiver.got)


def test_a_restart_forgets_nothing(world: World, receiver: Receiver) -> None:
    """What waited is told by the next process, also what it was not told of itself."""
    receiver.statuses = [503, 200]
    world.change(CLEAR, FIRING)
    world.look()
    world.change(FIRING, RESOLVED)
    world.restart()
    world.look(after=3600)
    assert ["firing", "firing", "resolved"] == [state for _, state in receiver.states()]


def test_a_process_that_dies_in_a_try_is_followed_by_another(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the time of a try is over; nobody tries meanwhile."""
    world.change(CLEAR, FIRING)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("monitor.webhooks.Sender.send", die)
        with pytest.raises(KeyboardInterrupt):
            world.look()
    world.restart()
    world.look(after=34)
    assert [] == receiver.got
    world.look(after=1)
    assert [("drift", "firing")] == receiver.states()


def test_two_monitors_never_make_the_same_try(world: World, receiver: Receiver) -> None:
    """While one is at it, the other leaves it alone."""
    other = World(world.engine, Path(world.settings.webhook_secret_file).parent, receiver.url)
    world.change(CLEAR, FIRING)
    (hook,) = parse_webhooks(receiver.url)
    send = world.deliveries._sender.send  # type: ignore[union-attr]

    def send_beside(*arguments: Any, **named: Any) -> Any:
        other.look()
        return send(*arguments, **named)

    world.deliveries._sender.send = send_beside  # type: ignore[union-attr, method-assign]
    world.look()
    other.look()
    assert 1 == len(receiver.got)
    with world.engine.connect() as connection:
        assert [] == list_open_deliveries(connection, hook.target)


def test_after_a_day_it_is_given_up_and_counted(
    world: World, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """What came later is tried still."""
    receiver.statuses = [500]
    world.change(CLEAR, FIRING)
    world.look()
    for _ in range(60):
        world.look(after=1800)
    assert 1.0 == world.counted("given_up")
    assert (0.0, 0) == (world.waiting(), receiver.states().count(("drift", "resolved")))
    assert "webhook_given_up" in caplog.text
    assert 40 <= len(receiver.got) <= 60
    receiver.statuses = [200]
    world.change(FIRING, RESOLVED)
    world.look()
    assert ("drift", "resolved") == receiver.states()[-1]


def test_what_is_older_than_a_day_is_tried_once_all_the_same(
    world: World, receiver: Receiver
) -> None:
    """A monitor that was off for a weekend."""
    world.change(CLEAR, FIRING)
    world.look(after=200_000)
    assert [("drift", "firing")] == receiver.states()


def test_a_receiver_that_is_gone_is_not_asked_again(world: World, receiver: Receiver) -> None:
    """It answers 410."""
    receiver.statuses = [410]
    world.change(CLEAR, FIRING)
    world.look()
    world.look(after=3600)
    assert (1, 1.0) == (len(receiver.got), world.counted("given_up"))


def test_one_webhook_does_not_wait_for_another(
    engine: Engine, tmp_path: Path, receiver: Receiver
) -> None:
    """Each has its own order."""
    with received() as broken:
        broken.statuses = [500]
        world = World(engine, tmp_path, broken.url, receiver.url)
        world.look()
        world.change(CLEAR, FIRING)
        world.look()
        assert (1, 1) == (len(broken.got), len(receiver.got))
        hooks = parse_webhooks(world.settings.webhook_urls)
        with engine.connect() as connection:
            first, second = read_waiting(connection, hooks)
    assert (1, "answered 500", 0, None) == (
        first.count,
        first.last_error,
        second.count,
        second.last_error,
    )
    assert "secret-path" not in first.title


def test_what_is_silenced_is_not_told(world: World, receiver: Receiver) -> None:
    """Neither its beginning nor its end; others are."""
    world.silence(2, name="drift")
    world.change(CLEAR, FIRING)
    world.change(CLEAR, FIRING, name="samples")
    world.look()
    world.change(FIRING, RESOLVED)
    world.look(after=7200)
    assert [("samples", "firing")] == receiver.states()
    assert 2.0 == world.counted("silenced")


@pytest.mark.parametrize("seconds", [7199, 7200])
def test_what_rings_still_is_told_once_the_silence_ends(
    world: World, receiver: Receiver, seconds: float
) -> None:
    """A silence must not make it forgotten; and then its end is told, too."""
    world.silence(2)
    world.change(CLEAR, FIRING)
    world.look()
    world.look(after=seconds)
    told = [("drift", "firing")] if seconds == 7200 else []
    assert told == receiver.states()
    world.change(FIRING, RESOLVED)
    world.look(after=1)
    assert ([*told, ("drift", "resolved")] if told else []) == receiver.states()


def test_what_a_long_silence_held_back_is_tried_for_a_day_from_its_end(
    world: World, receiver: Receiver
) -> None:
    """And not given up at the first try that fails."""
    receiver.statuses = [500]
    world.silence(48)
    world.change(CLEAR, FIRING)
    world.look()
    world.look(after=48 * 3600 + 5)
    assert (0.0, 1.0) == (world.counted("given_up"), world.waiting())
    receiver.statuses = [200]
    world.look(after=60)
    assert ("drift", "firing") == receiver.states()[-1]


def test_a_silence_that_is_ended_early_holds_nothing_back(world: World, receiver: Receiver) -> None:
    """`monitor alarms unsilence`."""
    number = world.silence(24)
    world.change(CLEAR, FIRING)
    world.look()
    with write_transaction(world.engine) as connection:
        assert end_silence(connection, number, now=world.now)
    world.look()
    assert [("drift", "firing")] == receiver.states()


def test_what_a_person_knows_is_not_told_after_a_silence(world: World, receiver: Receiver) -> None:
    """Nor what rang in it, was over, and rang again unsilenced: that is told once."""
    world.silence(1)
    world.change(CLEAR, FIRING)
    world.look()
    world.change(FIRING, ACKNOWLEDGED)
    world.look(after=3600)
    assert [] == receiver.states()
    world.change(ACKNOWLEDGED, RESOLVED)
    world.change(RESOLVED, FIRING)
    world.look()
    assert [("drift", "firing")] == receiver.states()


def test_the_end_of_what_was_told_is_told_in_a_silence(world: World, receiver: Receiver) -> None:
    """Or it would seem to go on for ever."""
    world.change(CLEAR, FIRING)
    world.look()
    world.silence(2)
    world.change(FIRING, RESOLVED)
    world.look()
    assert [("drift", "firing"), ("drift", "resolved")] == receiver.states()


def test_what_a_silence_holds_back_keeps_nothing_waiting(world: World, receiver: Receiver) -> None:
    """Of the same webhook; and it is not counted as waiting."""
    world.silence(2, name="drift")
    world.change(CLEAR, FIRING)
    world.look()
    world.change(CLEAR, FIRING, name="stale")
    world.look()
    assert ([("stale", "firing")], 0.0) == (receiver.states(), world.waiting())


def test_a_slice_is_silenced_by_itself(world: World, receiver: Receiver) -> None:
    """And told by its name."""
    made = Silence(None, None, "source=a", NOW, "ops", "", NOW + timedelta(hours=1))
    with write_transaction(world.engine) as connection:
        insert_silence(connection, made)
    for slice_text in ("source=a", "source=b", ""):
        world.change(CLEAR, FIRING, slice_text=slice_text)
    world.look()
    assert ["source=b", ""] == [doc["data"]["slice"] for doc in receiver.documents()]


def test_silenced_alarms_are_shown_as_such(world: World) -> None:
    """In the metrics, within a look."""
    alarm = Alarm("conveyor", "drift", FIRING, NOW, "1")
    world.metrics.set_alarm(alarm, is_judged=True)
    labels = {"model": "conveyor", "alarm": "drift", "slice": ""}
    for hours, shown in ((0.0, 0.0), (1.0, 1.0)):
        world.silence(hours)
        world.look()
        assert shown == world.registry.get_sample_value("monitor_alarm_silenced", labels)


def test_neither_secret_nor_path_is_logged_or_stored(
    world: World, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever reads the log or the table cannot write to the receiver."""
    caplog.set_level(logging.DEBUG)
    receiver.statuses = [500, 200]
    world.change(CLEAR, FIRING)
    world.look()
    world.look(after=10)
    with world.engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT target, last_error FROM alarm_deliveries").all()
    text = "\n".join(
        record.getMessage() for record in caplog.records if record.name.startswith("monitor")
    )
    assert "webhook_failed" in text
    for secret in ("t0ken", "secret-path", SECRET.hex()):
        assert secret not in text + repr(rows) + repr(world.settings)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_what_a_rule_on_the_ledgers_found_is_told_without_names(
    world: World, receiver: Receiver
) -> None:
    """Receivers are told where the records stand, not whom they are about."""
    add_ledgers(world.engine, {"gateway": [call(at(-60))]})
    ledgers = Ledgers(world.engine)
    add(world.engine, [call(at(0), address="198.51.100.7")], first=1)
    ledgers.look()
    world.look()
    assert [("token_shared", "firing")] == receiver.states()
    ((_, body),) = receiver.got
    assert b"gateway/1" in body
    event = call(at(0))
    for name in (event.subject, event.token_id, event.address, event.issuer, "198.51.100.7"):
        assert name
        assert name.encode() not in body


def test_a_loop_looks_at_the_database_anew(world: World, receiver: Receiver) -> None:
    """As `monitor run` has it: alarms on lacks, then deliveries; nothing that fails ends it."""
    loop = DeliveryLoop(
        settings=world.settings,
        metrics=world.metrics,
        draw=lambda: 0.5,
        clock=lambda: world.now,
        stop=Event(),
    )
    loop.begin()
    world.change(CLEAR, FIRING)
    assert loop.step()
    assert [("drift", "firing")] == receiver.states()


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_database_that_is_gone_is_counted(
    engine: Engine, tmp_path: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """And logged once."""
    world = World(engine, tmp_path, receiver.url)
    absent = world.settings.model_copy(update={"database_url": "sqlite:///absent.db"})
    loop = DeliveryLoop(
        settings=absent,
        metrics=world.metrics,
        draw=lambda: 0.5,
        clock=lambda: world.now,
        stop=Event(),
    )
    assert loop.step()
    assert loop.step()
    assert 2.0 == world.counted("database_error")
    assert 1 == caplog.text.count("alarms_not_looked_at")


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_a_secret_that_cannot_be_used_is_refused_at_once(engine: Engine, tmp_path: Path) -> None:
    """Not with the first alarm."""
    world = World(engine, tmp_path)
    Path(world.settings.webhook_secret_file).chmod(0o644)
    world.restart()
    with pytest.raises(InputError, match="MONITOR_WEBHOOK_SECRET_FILE"):
        Deliveries(
            settings=world.settings.model_copy(update={"webhook_urls": "https://hooks.example/"}),
            metrics=world.metrics,
            draw=lambda: 0.5,
            clock=lambda: NOW,
        )


def test_a_change_that_cannot_be_read_is_told_as_such_and_passed_by(
    sqlite_engine: Engine, tmp_path: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Those after it arrive; one that breaks while it waits is passed by, too."""
    world = World(sqlite_engine, tmp_path, receiver.url)
    world.look()
    receiver.statuses = [503]
    world.change(CLEAR, FIRING)
    world.look()
    world.change(CLEAR, FIRING, name="samples")
    with sqlite_engine.begin() as connection:
        connection.execute(text("UPDATE alarm_transitions SET state_after = 'x'"))
    receiver.statuses = [200]
    world.change(CLEAR, FIRING, name="stale")
    for _ in range(3):
        world.look(after=3600)
    assert ("stale", "firing") == receiver.states()[-1]
    assert (2, 0.0) == (len(receiver.got), world.waiting())
    assert 2 == caplog.text.count("row_unreadable table=alarm_transitions")
    labels = {"table": "alarm_transitions"}
    assert 2.0 == world.registry.get_sample_value("monitor_unreadable_rows_total", labels)


def test_what_rings_anew_is_told(world: World, receiver: Receiver) -> None:
    """Also where a person knew of what rang first; in a silence after it, if nothing rang anew since."""
    world.change(CLEAR, FIRING)
    world.change(FIRING, ACKNOWLEDGED)
    world.change(ACKNOWLEDGED, FIRING)
    world.look()
    assert ["firing", "acknowledged", "firing"] == [state for _, state in receiver.states()]
    world.silence(1)
    world.change(FIRING, FIRING)
    world.look()
    world.change(FIRING, FIRING)
    world.look()
    assert 3 == len(receiver.got)
    world.look(after=3700)
    assert 4 == len(receiver.got)
    world.silence(1)
    world.change(FIRING, FIRING)
    world.change(FIRING, RESOLVED)
    world.look()
    assert "resolved" == receiver.states()[-1][1]


def test_alarms_are_told_where_looking_for_lacks_fails(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the failure is counted; the monitor starts all the same."""

    def fail(*_arguments: object) -> None:
        raise AttributeError("the bug")

    monkeypatch.setattr(LackWatch, "look_at_ticks", fail)
    loop = DeliveryLoop(
        settings=world.settings,
        metrics=world.metrics,
        draw=lambda: 0.5,
        clock=lambda: world.now,
        stop=Event(),
    )
    loop.begin()
    world.change(CLEAR, FIRING)
    loop.step()
    assert [("drift", "firing")] == receiver.states()
    assert 2.0 == world.counted("error")
