"""The witness looks at every ledger of the database, keeps what it saw elsewhere, cosigns it and raises the alarm."""

import json
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, text

from gateway.audit.checkpoints import Checkpoint, open_checkpoint, sign_checkpoint
from gateway.audit.keys import create_ledger_key, load_cosigner
from gateway.audit.notes import Verifier
from gateway.audit.replaced_files import Disk
from gateway.store.database import open_database, write_transaction
from gateway.store.queries.audit_trees import find_cosigned, insert_ledger
from monitor.jobs.witness import Looked, Witness
from monitor.jobs.witness_folder import WitnessFolder, WitnessFolderError
from monitor.jobs.witness_loop import WitnessLoop, look_once
from monitor.metrics import MonitorMetrics
from monitor.records import (
    ABOUT_LEDGER,
    LEDGER_ALARM,
    Alarm,
    AlarmState,
    DatabaseUnavailableError,
    InputError,
)
from monitor.settings import MonitorSettings
from monitor.tables.alarm_queries import find_alarm, list_transitions, save_alarm
from monitor.witness import (
    DisagreementKind,
    Seen,
    StateInvalidError,
    parse_seen,
    state_file_name,
)
from tests.gateway.audit.sample_log import STRANGER
from tests.gateway.audit.witness_world import GrowingLedger, copy_database
from tests.gateway.ledgers import begin_ledger, signer_of

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)


class World:
    """A ledger, and a witness of it with a key and a folder."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self.ledger = GrowingLedger(engine)
        self.key_file = folder / "witness.key"
        create_ledger_key(self.key_file)
        self.settings = MonitorSettings(
            database_url=engine.url.render_as_string(hide_password=False),
            witness_folder=folder / "witness",
            witness_key_file=str(self.key_file),
            witness_name="monitor.example",
        )
        self.registry = CollectorRegistry()
        self.now = NOW

    @property
    def verifier(self) -> Verifier:
        """Of the witness."""
        return load_cosigner(self.key_file, name="monitor.example").verifier

    @property
    def state_file(self) -> Path:
        """What was seen of the ledger."""
        return self.settings.witness_folder / state_file_name("gateway")

    def witness(self, *, disk: Disk | None = None, **changed: Any) -> Witness:
        """As after a start of the monitor."""
        self.registry = CollectorRegistry()
        settings = self.settings.model_copy(update=changed)
        return Witness(settings=settings, metrics=MonitorMetrics(self.registry), disk=disk)

    def look(self, **changed: Any) -> list[Looked]:
        """What one look finds, a minute after the last."""
        self.now += timedelta(minutes=1)
        return self.witness(**changed).look(self.now)[0]

    def kinds(self, **changed: Any) -> list[DisagreementKind]:
        """What is wrong after one look."""
        return [one.kind for each in self.look(**changed) for one in each.disagreements]

    def alarm(self) -> Alarm | None:
        """As it is stored."""
        with self.engine.connect() as connection:
            return find_alarm(connection, ABOUT_LEDGER, LEDGER_ALARM)

    def cosigned(self) -> tuple[int, int] | None:
        """Size and time (seconds) of what the witness cosigned, verified."""
        with self.engine.connect() as connection:
            stored = find_cosigned(connection, "gateway")
        if stored is None:
            return None
        verifiers = [self.ledger.verifier, self.verifier]
        signed = open_checkpoint(stored.note.encode(), origin="gateway", verifiers=verifiers)
        (cosignature,) = signed.cosignatures
        return signed.checkpoint.size, cosignature.time_seconds or 0

    def do(self, *statements: str) -> None:
        """What somebody does who can write the database."""
        with write_transaction(self.engine) as connection:
            for statement in statements:
                connection.execute(text(statement))

    def metric(self, name: str, **labels: str) -> float | None:
        """One sample."""
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
def world(engine: Engine, tmp_path: Path) -> World:
    """In a database of each kind."""
    return World(engine, tmp_path)


@pytest.fixture
def small_world(sqlite_engine: Engine, tmp_path: Path) -> World:
    """In SQLite, where the kind of database does not matter."""
    return World(sqlite_engine, tmp_path)


def test_what_grows_is_seen_kept_and_cosigned(world: World) -> None:
    """From the first look on, with the time of the look; the metrics and the alarm say that all is well."""
    for size in (0, 3, 300):
        world.ledger.grow(size - world.ledger.history.size())
        (looked,) = world.look()
        assert () == looked.disagreements
        assert (size, int(world.now.timestamp())) == world.cosigned()
        assert float(size) == world.metric("monitor_witness_size", ledger="gateway")
    seconds = world.now.timestamp()
    name = "monitor_witness_last_checkpoint_timestamp_seconds"
    assert seconds == world.metric(name, ledger="gateway")
    assert seconds == world.metric("monitor_witness_last_look_timestamp_seconds")
    assert 0.0 == world.metric(
        "monitor_alarm_active", model=ABOUT_LEDGER, alarm=LEDGER_ALARM, slice=""
    )
    alarm = world.alarm()
    assert alarm is not None
    assert AlarmState.CLEAR is alarm.state


def test_a_look_at_what_stands_still_writes_nothing(world: World) -> None:
    """Neither file nor row."""
    world.ledger.grow(2)
    world.look()
    before = world.state_file.stat().st_mtime_ns, world.cosigned()
    world.look()
    assert before == (world.state_file.stat().st_mtime_ns, world.cosigned())


def test_a_cosignature_that_was_taken_away_comes_back(world: World) -> None:
    """Or one that somebody made up."""
    world.ledger.grow(2)
    world.look()
    for statement in (
        "DELETE FROM audit_cosignatures",
        "UPDATE audit_cosignatures SET note = 'made up'",
    ):
        world.do(statement)
        world.look()
        assert (2, int(world.now.timestamp())) == world.cosigned()


def test_without_a_key_it_sees_all_the_same(small_world: World) -> None:
    """And cosigns nothing."""
    small_world.ledger.grow(2)
    small_world.look(witness_key_file="")
    assert small_world.cosigned() is None
    small_world.do("DELETE FROM audit_records WHERE position = 1")
    assert [DisagreementKind.CUT] == small_world.kinds(witness_key_file="")


def test_two_witnesses_sign_the_same_checkpoint(small_world: World, tmp_path: Path) -> None:
    """Neither drops what the other signed."""
    small_world.ledger.grow(2)
    other_key = tmp_path / "other.key"
    create_ledger_key(other_key)
    small_world.look()
    small_world.look(
        witness_key_file=str(other_key),
        witness_name="other.example",
        witness_folder=tmp_path / "other",
    )
    other = load_cosigner(other_key, name="other.example").verifier
    with small_world.engine.connect() as connection:
        stored = find_cosigned(connection, "gateway")
    assert stored is not None
    verifiers = [small_world.ledger.verifier, small_world.verifier, other]
    signed = open_checkpoint(stored.note.encode(), origin="gateway", verifiers=verifiers)
    assert 2 == len(signed.cosignatures)


_CUT_TO_3 = (
    "DELETE FROM audit_records WHERE position >= 3",
    "DELETE FROM audit_checkpoints WHERE size > 3",
)
_LEAF_0 = "(SELECT leaf_hash FROM audit_records WHERE position = 0)"
TAMPERS = {
    "cut": (DisagreementKind.SMALLER, _CUT_TO_3),
    "records cut": (DisagreementKind.CUT, (_CUT_TO_3[0],)),
    "a record deleted": (
        DisagreementKind.CHANGED,
        ("DELETE FROM audit_records WHERE position = 1",),
    ),
    "a hash changed": (
        DisagreementKind.CHANGED,
        (f"UPDATE audit_records SET leaf_hash = {_LEAF_0} WHERE position = 2",),
    ),
    "a checkpoint changed": (
        DisagreementKind.UNSIGNED,
        ("UPDATE audit_checkpoints SET note = replace(note, 'gateway', 'gatewaz') WHERE size = 6",),
    ),
    "a checkpoint moved": (
        DisagreementKind.UNSIGNED,
        ("UPDATE audit_checkpoints SET size = 60 WHERE size = 6",),
    ),
    "a checkpoint made up": (
        DisagreementKind.UNSIGNED,
        ("INSERT INTO audit_checkpoints VALUES ('gateway', 99, 'made up')",),
    ),
    "checkpoints deleted": (DisagreementKind.VANISHED, ("DELETE FROM audit_checkpoints",)),
    "the ledger deleted": (
        DisagreementKind.VANISHED,
        ("DELETE FROM audit_records", "DELETE FROM audit_checkpoints", "DELETE FROM audit_ledgers"),
    ),
    "another key": (
        DisagreementKind.OTHER_KEY,
        (f"UPDATE audit_ledgers SET verifier = '{STRANGER.verifier.line()}'",),
    ),
}


@pytest.mark.parametrize("what", TAMPERS)
def test_what_was_changed_raises_the_alarm(world: World, what: str) -> None:
    """Says what; keeps what was seen, and cosigns nothing of it."""
    kind, statements = TAMPERS[what]
    world.ledger.grow(3)
    world.ledger.grow(3)
    world.look()
    cosigned = world.cosigned()
    world.do(*statements)
    (looked,) = world.look()
    assert [kind] == [one.kind for one in looked.disagreements]
    assert looked.seen is not None
    assert looked.seen.newest is not None
    assert 6 == looked.seen.newest.checkpoint.size
    assert cosigned == world.cosigned()
    alarm = world.alarm()
    assert alarm is not None
    assert (AlarmState.FIRING, ("gateway",)) == (alarm.state, alarm.features)
    assert looked.disagreements[0].words in alarm.diagnosis
    assert 1.0 == world.metric(
        "monitor_alarm_active", model=ABOUT_LEDGER, alarm=LEDGER_ALARM, slice=""
    )


def test_a_ledger_that_was_rolled_back_and_grew_again_is_a_fork(small_world: World) -> None:
    """Without the gateway's own witness it signs a second history; here it shows."""
    small_world.ledger.grow(3)
    small_world.ledger.grow(3)
    small_world.look()
    small_world.do(*_CUT_TO_3)
    small_world.ledger.grow(9, word="other")
    assert [DisagreementKind.FORKED] == small_world.kinds()


def test_an_older_copy_of_the_database_is_a_roll_back(small_world: World, tmp_path: Path) -> None:
    """The file of yesterday in the place of today's."""
    small_world.ledger.grow(3)
    copy = copy_database(small_world.engine, tmp_path / "copy.db")
    small_world.ledger.grow(3)
    small_world.look()
    kinds = small_world.kinds(database_url=f"sqlite:///{copy}")
    assert [DisagreementKind.SMALLER] == kinds


def test_a_fork_that_the_key_signed_is_seen(small_world: World) -> None:
    """Whoever has key and database can write a good history anew, and not what was seen of it."""
    small_world.ledger.grow(2)
    small_world.look()
    fork = sign_checkpoint(Checkpoint("gateway", 2, bytes(32)), signer_of()).decode()
    with write_transaction(small_world.engine) as connection:
        connection.execute(
            text("UPDATE audit_checkpoints SET note = :note WHERE size = 2"), {"note": fork}
        )
    assert [DisagreementKind.CHANGED] == small_world.kinds()


def test_the_alarm_does_not_clear_because_the_checkpoint_moves_on(world: World) -> None:
    """The database was mended before anybody looked."""
    world.ledger.grow(3)
    world.look()
    world.do("UPDATE audit_checkpoints SET size = 30 WHERE size = 3")
    world.look()
    world.do("UPDATE audit_checkpoints SET size = 3 WHERE size = 30")
    world.ledger.grow(3)
    (looked,) = world.look()
    assert [DisagreementKind.UNSIGNED] == [one.kind for one in looked.disagreements]
    # What is good of it goes on being seen.
    assert (6, int(world.now.timestamp())) == world.cosigned()
    alarm = world.alarm()
    assert alarm is not None
    assert AlarmState.FIRING is alarm.state


def test_an_acknowledged_disagreement_is_gone_unless_it_is_found_again(world: World) -> None:
    """First it still is, then the database is restored."""
    world.ledger.grow(3)
    world.look()
    world.do("UPDATE audit_checkpoints SET size = 30 WHERE size = 3")
    world.look()
    _, alarm = look_once(world.witness(), acknowledged="gateway", forgotten=None, now=world.now)
    assert AlarmState.FIRING is alarm.state
    world.do("UPDATE audit_checkpoints SET size = 3 WHERE size = 30")
    _, alarm = look_once(world.witness(), acknowledged="gateway", forgotten=None, now=world.now)
    assert AlarmState.CLEAR is alarm.state
    with world.engine.connect() as connection:
        states = [each.after for each in list_transitions(connection, ABOUT_LEDGER, newest=9)]
    assert [AlarmState.CLEAR, AlarmState.FIRING, AlarmState.CLEAR] == states


def test_a_forgotten_ledger_is_known_as_it_is_next(world: World) -> None:
    """What was seen is put aside, not deleted; the older cosignature does not speak against it."""
    world.ledger.grow(3)
    world.ledger.grow(3)
    world.look()
    world.do(*_CUT_TO_3)
    looked, alarm = look_once(
        world.witness(), acknowledged=None, forgotten="gateway", now=world.now
    )
    assert [()] == [each.disagreements for each in looked]
    assert AlarmState.CLEAR is alarm.state
    assert (3, int(world.now.timestamp())) == world.cosigned()
    assert 1 == len(list(world.settings.witness_folder.glob("*.forgotten-*")))


def test_nothing_is_acknowledged_of_what_was_never_seen(small_world: World) -> None:
    """A misspelt name."""
    for names in (("gatewax", None), (None, "gatewax")):
        with pytest.raises(InputError, match="nothing was seen of gatewax"):
            look_once(
                small_world.witness(),
                acknowledged=names[0],
                forgotten=names[1],
                now=small_world.now,
            )


def test_a_disagreement_that_comes_back_is_logged_again(
    small_world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """By the process that logged it before, once each time."""
    small_world.ledger.grow(3)
    small_world.look()
    witness = small_world.witness()
    for times in (1, 2):
        small_world.do("UPDATE audit_checkpoints SET size = 30 WHERE size = 3")
        for _ in range(2):
            witness.look(small_world.now)
            assert times == caplog.text.count("witness_disagreement ledger=gateway kind=unsigned")
        small_world.do("UPDATE audit_checkpoints SET size = 3 WHERE size = 30")
        # By the command, which is another process.
        small_world.witness().acknowledge("gateway")
        witness.look(small_world.now)


def test_a_folder_that_was_emptied_is_noticed_by_the_own_cosignature(
    small_world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """And the ledger is held to it, not taken anew as it is."""
    small_world.ledger.grow(3)
    small_world.ledger.grow(3)
    small_world.look()
    small_world.state_file.unlink()
    assert [DisagreementKind.FORGOTTEN] == small_world.kinds()
    small_world.state_file.unlink()
    small_world.do(*_CUT_TO_3)
    kinds = small_world.kinds()
    assert [DisagreementKind.FORGOTTEN, DisagreementKind.SMALLER] == kinds
    assert "witness_disagreement ledger=gateway kind=forgotten" in caplog.text


def test_an_emptied_folder_and_alarm_table_leave_the_alarm_raised_again(
    small_world: World,
) -> None:
    """The row alone is somebody else's to write."""
    small_world.ledger.grow(3)
    small_world.look()
    small_world.do("DELETE FROM audit_checkpoints")
    small_world.look()
    small_world.do("DELETE FROM alarms")
    small_world.look()
    alarm = small_world.alarm()
    assert alarm is not None
    assert AlarmState.FIRING is alarm.state
    small_world.state_file.unlink()
    small_world.ledger.engine.dispose()
    clear = Alarm(ABOUT_LEDGER, LEDGER_ALARM, AlarmState.CLEAR, NOW, "")
    with write_transaction(small_world.engine) as connection:
        save_alarm(connection, clear)
    assert [DisagreementKind.FORGOTTEN, DisagreementKind.VANISHED] == small_world.kinds()


def test_a_first_sight_is_told(small_world: World, caplog: pytest.LogCaptureFixture) -> None:
    """With the key, for whoever compares it."""
    small_world.look()
    line = small_world.ledger.verifier.line()
    assert f"witness_ledger_pinned ledger=gateway key={line}" in caplog.text


def test_a_witness_that_was_told_the_ledgers_takes_no_others(small_world: World) -> None:
    """Nor another key of one."""
    told = {"witness_ledgers": f" {small_world.ledger.verifier.line()} "}
    assert [] == small_world.kinds(**told)
    begin_ledger(small_world.engine, "uninvited")
    assert [DisagreementKind.UNKNOWN_LEDGER] == small_world.kinds(**told)
    other = signer_of("gateway").verifier
    assert other == small_world.ledger.verifier
    stranger = f"{STRANGER.verifier.line()}"
    assert [DisagreementKind.UNKNOWN_LEDGER] == [
        kind
        for kind in small_world.kinds(witness_ledgers=stranger)
        if kind is DisagreementKind.UNKNOWN_LEDGER
    ]


@pytest.mark.parametrize("verifier", ["", "gateway", STRANGER.verifier.line()])
def test_a_ledger_whose_key_cannot_be_its_own_is_not_taken(
    small_world: World, verifier: str
) -> None:
    """Somebody wrote the row."""
    with write_transaction(small_world.engine) as connection:
        insert_ledger(connection, "second", verifier=verifier, created_at=NOW)
    assert [DisagreementKind.OTHER_KEY] == small_world.kinds()


@pytest.mark.parametrize("value", ["verifier = x'00'", "created_at = 'never'", "origin = x'ff'"])
def test_a_row_of_wrong_types_is_told_and_hides_no_other(small_world: World, value: str) -> None:
    """SQLite stores any type in any column."""
    begin_ledger(small_world.engine, "second")
    small_world.do(f"UPDATE audit_ledgers SET {value} WHERE origin = 'second'")
    looked = small_world.look()
    assert 2 == len(looked)
    for each in looked:
        assert (each.origin == "gateway") == (each.disagreements == ())


def test_names_that_no_ledger_can_have_are_told(small_world: World) -> None:
    """Printable, and no file is made for them."""
    with write_transaction(small_world.engine) as connection:
        insert_ledger(connection, "two\nlines", verifier="x", created_at=NOW)
    looked = {each.origin: each.seen for each in small_world.look()}
    assert looked["two\\x0alines"] is None
    assert 1 == len(list(small_world.settings.witness_folder.glob("*.json")))


def test_a_flood_of_ledgers_is_bounded(small_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ones that were seen are looked at first."""
    small_world.look()
    monkeypatch.setattr("monitor.jobs.witness.MAX_LEDGERS", 3)
    for name in "abcde":
        begin_ledger(small_world.engine, name)
    looked = {each.origin: [one.kind for one in each.disagreements] for each in small_world.look()}
    # What was seen sorts behind what came.
    assert {"*": [DisagreementKind.CHANGED], "gateway": [], "a": [], "b": []} == looked


def test_a_damaged_file_is_an_alarm_and_is_kept(small_world: World) -> None:
    """It may hold the only trace of what the ledger was."""
    small_world.ledger.grow(2)
    small_world.look()
    content = small_world.state_file.read_bytes()[:-5]
    small_world.state_file.write_bytes(content)
    assert [DisagreementKind.CHANGED] == small_world.kinds()
    assert content == small_world.state_file.read_bytes()
    with pytest.raises(InputError, match="damaged"):
        small_world.witness().acknowledge("gateway")


def test_a_look_reads_each_file_once_and_once_more_under_its_lock(
    small_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time its signatures are verified."""
    begin_ledger(small_world.engine, "second")
    small_world.look()
    read: list[bytes] = []

    def counted(content: bytes) -> Seen:
        read.append(content)
        return parse_seen(content)

    monkeypatch.setattr("monitor.jobs.witness_folder.parse_seen", counted)
    small_world.look()
    assert 4 == len(read)


def test_a_file_of_another_ledger_is_not_taken(small_world: World) -> None:
    """Somebody copied it."""
    begin_ledger(small_world.engine, "second")
    small_world.look()
    other = small_world.settings.witness_folder / state_file_name("second")
    other.write_bytes(small_world.state_file.read_bytes())
    folder = WitnessFolder(small_world.settings.witness_folder)
    with pytest.raises(StateInvalidError, match="is about gateway"):
        folder.load("second")
    looked = {each.origin: [one.words for one in each.disagreements] for each in small_world.look()}
    told = ["the witness's own file: it is about gateway"]
    assert {"gateway": [], "second": [], other.name: told} == looked


class FaultyDisk(Disk):
    """Fails at one of its calls, before or after it has taken effect."""

    def __init__(self, *, at: int, after: bool) -> None:
        self.at, self.after, self.calls = at, after, 0

    def _try(self, call: Callable[[], None]) -> None:
        self.calls += 1
        if self.calls != self.at or self.after:
            call()
        if self.calls == self.at:
            raise OSError(28, "No space left on device")

    def write(self, descriptor: int, content: bytes) -> None:
        """Write."""
        self._try(lambda: super(FaultyDisk, self).write(descriptor, content))

    def sync(self, descriptor: int) -> None:
        """Make durable."""
        self._try(lambda: super(FaultyDisk, self).sync(descriptor))

    def rename(self, source: Path, target: Path) -> None:
        """Take the name."""
        self._try(lambda: super(FaultyDisk, self).rename(source, target))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_nothing_is_cosigned_that_is_not_durable(
    small_world: World, at: int, *, after: bool
) -> None:
    """Whichever step of keeping it fails; the next look keeps it and cosigns."""
    small_world.ledger.grow(2)
    small_world.look()
    before = small_world.cosigned()
    small_world.ledger.grow(2)
    with pytest.raises(WitnessFolderError, match="No space left"):
        small_world.witness(disk=FaultyDisk(at=at, after=after)).look(small_world.now)
    assert before == small_world.cosigned()
    assert [] == small_world.kinds()
    assert (4, int(small_world.now.timestamp())) == small_world.cosigned()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("witness_ledgers", "nonsense", "MONITOR_WITNESS_LEDGERS"),
        ("witness_key_file", "missing.key", "MONITOR_WITNESS_KEY_FILE"),
    ],
)
def test_keys_that_cannot_be_used_are_refused(
    small_world: World, name: str, value: str, said: str
) -> None:
    """By the name of the setting."""
    with pytest.raises(InputError, match=said):
        small_world.look(**{name: value})


def test_two_keys_of_one_ledger_are_refused(small_world: World) -> None:
    """One of them would be ignored."""
    lines = f"{small_world.ledger.verifier.line()},{small_world.ledger.verifier.line()}"
    with pytest.raises(InputError, match="two keys"):
        small_world.witness(witness_ledgers=lines)


def test_the_loop_outlives_what_fails(
    small_world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Counted each time, told once a cause; looks again as soon as it can."""
    caplog.set_level(logging.WARNING)
    settings = small_world.settings.model_copy(
        update={"database_url": f"sqlite:///{tmp_path / 'absent.db'}"}
    )
    registry = CollectorRegistry()
    loop = WitnessLoop(
        settings=settings,
        metrics=MonitorMetrics(registry),
        clock=lambda: NOW,
        stop=threading.Event(),
    )
    loop.step()
    loop.step()
    name = "monitor_witness_failures_total"
    assert 2.0 == registry.get_sample_value(name, {"outcome": "database_error"})
    assert 1 == caplog.text.count("witness_look_failed")
    with pytest.raises(DatabaseUnavailableError):
        Witness(settings=settings, metrics=MonitorMetrics(CollectorRegistry())).look(NOW)
    path = tmp_path / "absent.db"
    path.write_bytes(copy_database(small_world.engine, tmp_path / "copy.db").read_bytes())
    loop.step()
    assert NOW.timestamp() == registry.get_sample_value(
        "monitor_witness_last_look_timestamp_seconds"
    )
    open_database(f"sqlite:///{path}").dispose()


def test_what_is_kept_names_its_ledger(small_world: World) -> None:
    """For whoever has the folder and nothing else."""
    signed = small_world.ledger.grow(2)
    small_world.look()
    document = json.loads(small_world.state_file.read_bytes())
    assert small_world.ledger.verifier.line() == document["verifier"]
    assert signed.note.decode() == document["newest"]
