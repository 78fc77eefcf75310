"""Migrations against the tables that the code uses, on both databases."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, MetaData, inspect, text

from gateway.audit.events import Action, AuditEvent, Outcome
from gateway.store import migrations
from gateway.store.database import open_database, write_transaction
from gateway.store.migrations import upgrade_database
from gateway.store.queries.audit import insert_audit_records, list_positions, load_audit_records
from gateway.store.queries.models import (
    find_production_version,
    find_version_before,
    promote_version,
)
from gateway.store.records import AuditRecord
from gateway.store.revision import REVISION, is_current
from gateway.store.tables import metadata
from tests.gateway.audit.sample_log import leaf
from tests.gateway.ledgers import checked_bodies, open_log, signed_sizes

MOMENT = datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
TIME = "2031-05-06T07:08:09.123456Z"
RECORD = AuditRecord(
    "gateway", 0, '{"a":1}', b"\x01" * 32, TIME, "predict", "failed", "r", "camera-7", None
)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database without tables; SQLite's file does not even exist."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state/gatewatch.db"
    address: str = request.getfixturevalue("postgres_url")
    return address


@pytest.fixture
def migrated(url: str) -> Iterator[Engine]:
    """A database after its first upgrade."""
    upgrade_database(url)
    engine = open_database(url)
    yield engine
    engine.dispose()


@pytest.fixture
def empty(url: str) -> Iterator[Engine]:
    """A database without tables, opened."""
    if url.startswith("sqlite"):
        migrations._create_file(Path(url.removeprefix("sqlite:///")))
    engine = open_database(url)
    yield engine
    engine.dispose()


def move(engine: Engine, revision: str, *, way: Callable[[Config, str], None]) -> None:
    """Go to a revision."""
    config = migrations._config()
    config.attributes["engine"] = engine
    way(config, revision)


def upgrade(engine: Engine, revision: str) -> None:
    """Go forth, to a release before this one."""
    move(engine, revision, way=command.upgrade)


def downgrade(engine: Engine, revision: str) -> None:
    """Go back."""
    move(engine, revision, way=command.downgrade)


def test_an_upgrade_gives_exactly_the_tables_of_the_code(migrated: Engine) -> None:
    """No table, column, type, index or constraint differs; the monitor's are among them."""
    with migrated.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []
    assert {"audit_records", "samples", "alarms", "drift_results"} <= set(
        inspect(migrated).get_table_names()
    )


def test_the_comparison_sees_differences(migrated: Engine) -> None:
    """So that the test above means something: an empty wish list differs in every table."""
    with migrated.connect() as connection:
        context = MigrationContext.configure(connection)
        removed = {change[0] for change in compare_metadata(context, MetaData())}
    assert "remove_table" in removed


def test_primary_keys_are_those_of_the_code(migrated: Engine) -> None:
    """The comparison does not look at them, and two records at one position hang on one."""
    inspector = inspect(migrated)
    stored = {
        table: inspector.get_pk_constraint(table)["constrained_columns"]
        for table in metadata.tables
    }
    assert stored == {
        name: [column.name for column in table.primary_key.columns]
        for name, table in metadata.tables.items()
    }


def test_there_is_one_line_of_migrations() -> None:
    """Two heads would leave what an upgrade does to chance."""
    scripts = ScriptDirectory.from_config(migrations._config())
    assert len(scripts.get_heads()) == 1
    assert len(scripts.get_bases()) == 1


def test_the_code_is_written_for_the_newest_migration() -> None:
    """Processes compare with a constant, which a new migration has to move."""
    scripts = ScriptDirectory.from_config(migrations._config())
    assert scripts.get_current_head() == REVISION


def test_an_empty_database_is_not_current(empty: Engine) -> None:
    """A process refuses to start on it."""
    assert not is_current(empty)


def test_an_upgraded_database_is_current_and_another_upgrade_changes_nothing(
    url: str, migrated: Engine
) -> None:
    """Operators run it on every release."""
    assert is_current(migrated)
    upgrade_database(url)
    assert is_current(migrated)


def test_a_database_of_a_later_release_is_not_current(migrated: Engine) -> None:
    """Older code does not write into tables that it does not know."""
    with write_transaction(migrated) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'later'")
    assert not is_current(migrated)


def test_what_was_written_survives_an_upgrade(url: str, migrated: Engine) -> None:
    """The ledger above all."""
    with write_transaction(migrated) as connection:
        insert_audit_records(connection, [RECORD])
    upgrade_database(url)
    with migrated.connect() as connection:
        assert load_audit_records(connection, "gateway", limit=9) == [RECORD]


def test_going_back_to_nothing_and_forth_works(url: str, empty: Engine) -> None:
    """Each migration before the ledgers' trees can be undone; only alembic's own table stays."""
    upgrade(empty, "0003")
    downgrade(empty, "base")
    assert inspect(empty).get_table_names() == ["alembic_version"]
    assert not is_current(empty)
    upgrade_database(url)
    assert is_current(empty)


def test_signed_ledgers_do_not_go_back(migrated: Engine) -> None:
    """A hash chain made anew would be somebody's word; nothing is lost by the attempt."""
    with write_transaction(migrated) as connection:
        insert_audit_records(connection, [RECORD])
    with pytest.raises(NotImplementedError, match="restore a backup instead"):
        downgrade(migrated, "0003")
    assert is_current(migrated)
    with migrated.connect() as connection:
        assert load_audit_records(connection, "gateway", limit=9) == [RECORD]


START = AuditEvent(action=Action.GATEWAY_START, outcome=Outcome.ANSWERED, recorded_at=MOMENT)


def chained(number: int, **members: object) -> str:
    """A body as releases before this one wrote it; a number tells them apart."""
    names = "address client_id code input_bytes input_sha256 issuer method model_name model_version"
    names += " reason request_id result_count result_digest route subject"
    plain = dict.fromkeys(names.split())
    said = {"action": "predict", "format": 1, "outcome": "answered", "recorded_at": TIME}
    body = {**plain, **said, "request_id": f"r-{number}", **members}
    return json.dumps(body, sort_keys=True, separators=(",", ":"))


BEFORE = [
    chained(0),
    chained(1, subject="\u00e9 \\x0a", model_name="belt"),
    chained(2, format=2, token_id="t", certificate_thumbprint=None, request_id=None),
]


@pytest.fixture
def of_the_release_before(url: str, empty: Engine) -> Engine:
    """A ledger of hash-chained records of formats 1 and 2, and another, brought to this release."""
    upgrade(empty, "0003")
    rows: list[dict[str, object]] = [
        {"origin": "gateway", "position": place, "body": body} for place, body in enumerate(BEFORE)
    ]
    rows += [
        {"origin": "other", "position": place, "body": chained(place)} for place in range(2500)
    ]
    with write_transaction(empty) as connection:
        connection.execute(
            text(
                "INSERT INTO audit_records (origin, position, recorded_at, body, record_hash) "
                "VALUES (:origin, :position, '2031-05-06 07:08:09+00:00', :body, :hash)"
            ),
            [{**row, "hash": bytes(32)} for row in rows],
        )
    upgrade_database(url)
    return empty


def test_chained_records_are_kept_byte_for_byte(of_the_release_before: Engine) -> None:
    """With the members that they are searched by beside them, those they lack empty."""
    with of_the_release_before.connect() as connection:
        loaded = load_audit_records(connection, "gateway", limit=9)
    assert [record.body for record in loaded] == BEFORE
    assert [leaf(body.encode()) for body in BEFORE] == [record.leaf_hash for record in loaded]
    found = [(r.recorded_at, r.action, r.outcome) for r in loaded]
    assert found == [(TIME, "predict", "answered")] * 3
    members = [(r.request_id, r.subject, r.model_name) for r in loaded]
    assert members == [("r-0", None, None), ("r-1", "\u00e9 \\x0a", "belt"), (None, None, None)]


def test_every_page_of_chained_records_is_moved(of_the_release_before: Engine) -> None:
    """More than fit one page, and each ledger's own."""
    with of_the_release_before.connect() as connection:
        positions = list_positions(connection, "other", after_position=None, limit=9999)
    assert positions == [*range(2500)]


def test_a_chained_ledger_becomes_a_signed_one(of_the_release_before: Engine) -> None:
    """It is begun with what is there, and goes on."""
    audit_log = open_log(of_the_release_before)
    assert audit_log.append_blocking(START) == 3
    assert audit_log.close()
    assert checked_bodies(of_the_release_before)[:3] == BEFORE
    assert signed_sizes(of_the_release_before) == [3, 4]


def test_a_table_that_was_moved_has_its_usual_names(of_the_release_before: Engine) -> None:
    """A later migration finds key and indexes by them; nothing of the old table is left."""
    inspector = inspect(of_the_release_before)
    indexes = {index["name"] for index in inspector.get_indexes("audit_records")}
    assert {
        f"ix_audit_records_{name}" for name in ("recorded_at", "request_id", "subject")
    } < indexes
    assert "audit_records_chained" not in inspector.get_table_names()
    if of_the_release_before.dialect.name == "postgresql":
        assert inspector.get_pk_constraint("audit_records")["name"] == "pk_audit_records"


REQUEST = {
    "request_id": "r", "received_at": "2031-05-06 07:08:09+00:00", "model_name": "belt",
    "model_version": "1", "principal": "p", "input_sha256": "", "features": "{}",
    "detections": "[]", "kept_probability": 1.0, "image_probability": 0.0,
}  # fmt: skip


def _insert(connection: Connection, table: str, values: dict[str, object]) -> None:
    names = ", ".join(values)
    places = ", ".join(f":{name}" for name in values)
    connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({places})"), values)


def test_versions_and_samples_of_the_first_release_are_kept(empty: Engine) -> None:
    """Up: a version in production begins its history. Down: a request keeps the sample of the answer it got."""
    upgrade(empty, "0001")
    registered = {
        "name": "belt", "stage": "production", "file_name": "f", "plaintext_sha256": "ab",
        "class_names": '["bolt"]', "input_height": 320, "input_width": 416,
        "registered_at": "2031-05-06 07:08:09+00:00",
    }  # fmt: skip
    with write_transaction(empty) as connection:
        _insert(connection, "model_versions", {**registered, "version": "1"})
        _insert(connection, "model_versions", {**registered, "version": "2", "stage": "candidate"})
        _insert(connection, "samples", REQUEST)
    upgrade(empty, "0003")
    with write_transaction(empty) as connection:
        version = find_production_version(connection, "belt")
        assert version is not None
        assert (version.label, version.task, version.engine, version.precision) == (
            "belt@1", "detect", "openvino", "f32",
        )  # fmt: skip
        assert promote_version(connection, "belt", "2", now=MOMENT)
        assert find_version_before(connection, "belt") == "1"
        _insert(connection, "samples", {**REQUEST, "model_version": "2", "mode": "shadow"})
        of_mode = text("SELECT id FROM samples WHERE mode = 'served'")
        assert connection.execute(of_mode).scalars().all() == [1]
    downgrade(empty, "0001")
    with empty.connect() as connection:
        assert connection.execute(text("SELECT id, model_version FROM samples")).all() == [(1, "1")]


def test_alarms_of_the_release_before_are_kept_and_named_anew(empty: Engine) -> None:
    """Up: what was raised is firing. Down: of a slice nothing is left, and what is known is raised again."""
    upgrade(empty, "0004")
    alarm = {
        "model_name": "belt", "since": TIME, "model_version": "1", "features": "[]",
        "diagnosis": "darker", "above_ticks": 2, "below_ticks": 0,
    }  # fmt: skip
    change = {
        "id": 1, "model_name": "belt", "name": "drift", "at": TIME, "state_before": "clear",
        "state_after": "raised", "model_version": "1", "features": "[]", "diagnosis": "darker",
    }  # fmt: skip
    with write_transaction(empty) as connection:
        _insert(connection, "alarms", {**alarm, "name": "drift", "state": "raised"})
        _insert(connection, "alarms", {**alarm, "name": "ledger", "state": "clear"})
        _insert(connection, "alarm_transitions", change)
    upgrade(empty, "head")
    states = text("SELECT name, slice, state, harm, diagnosis FROM alarms ORDER BY name, slice")
    changes = text("SELECT state_before, state_after FROM alarm_transitions")
    with write_transaction(empty) as connection:
        assert connection.execute(states).all() == [
            ("drift", "", "firing", "unknown", "darker"),
            ("ledger", "", "clear", "unknown", "darker"),
        ]
        assert connection.execute(changes).all() == [("clear", "firing")]
        connection.execute(text("UPDATE alarms SET state = 'resolved' WHERE name = 'ledger'"))
        connection.execute(text("UPDATE alarms SET state = 'acknowledged' WHERE name = 'drift'"))
    downgrade(empty, "0004")
    before = text("SELECT name, state, above_ticks FROM alarms ORDER BY name")
    with empty.connect() as connection:
        assert connection.execute(before).all() == [("drift", "raised", 0), ("ledger", "clear", 0)]
        assert connection.execute(changes).all() == [("clear", "raised")]


def test_a_new_sqlite_file_is_its_owners_alone(tmp_path: Path) -> None:
    """It holds the ledger and the samples."""
    upgrade_database(f"sqlite:///{tmp_path}/a/b/new.db")
    assert (tmp_path / "a" / "b" / "new.db").stat().st_mode & 0o777 == 0o600


def test_the_folder_of_migrations_is_no_package() -> None:
    """An __init__.py in it would shadow the library of the same name."""
    folder = Path(__file__).resolve().parents[3] / "alembic"
    assert (folder / "env.py").is_file()
    assert not (folder / "__init__.py").exists()
