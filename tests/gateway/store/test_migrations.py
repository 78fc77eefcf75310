"""Migrations against the tables that the code uses, on both databases."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, MetaData, inspect, text

from gateway.store import migrations
from gateway.store.database import open_database, write_transaction
from gateway.store.migrations import upgrade_database
from gateway.store.queries.audit import insert_audit_records, load_audit_records
from gateway.store.queries.models import (
    find_production_version,
    find_version_before,
    promote_version,
)
from gateway.store.queries.samples import load_window
from gateway.store.records import AuditRecord
from gateway.store.revision import REVISION, is_current
from gateway.store.tables import metadata

MOMENT = datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
RECORD = AuditRecord("gateway", 0, MOMENT, '{"a":1}', b"\x01" * 32)


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


def downgrade(engine: Engine, revision: str) -> None:
    """Go back."""
    config = migrations._config()
    config.attributes["engine"] = engine
    command.downgrade(config, revision)


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


def test_an_empty_database_is_not_current(url: str, tmp_path: Path) -> None:
    """A process refuses to start on it."""
    if url.startswith("sqlite"):
        path = tmp_path / "state" / "gatewatch.db"
        path.parent.mkdir()
        path.touch()
    engine = open_database(url)
    assert not is_current(engine)
    engine.dispose()


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


def test_going_back_to_nothing_and_forth_works(url: str, migrated: Engine) -> None:
    """Each migration can be undone; only alembic's own table stays."""
    downgrade(migrated, "base")
    assert inspect(migrated).get_table_names() == ["alembic_version"]
    assert not is_current(migrated)
    upgrade_database(url)
    assert is_current(migrated)


REQUEST = {
    "request_id": "r", "received_at": "2031-05-06 07:08:09+00:00", "model_name": "belt",
    "model_version": "1", "principal": "p", "input_sha256": "", "features": "{}",
    "detections": "[]", "kept_probability": 1.0, "image_probability": 0.0,
}  # fmt: skip


def _insert(connection: Connection, table: str, values: dict[str, object]) -> None:
    names = ", ".join(values)
    places = ", ".join(f":{name}" for name in values)
    connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({places})"), values)


def test_versions_and_samples_of_the_first_release_are_kept(url: str, migrated: Engine) -> None:
    """Up: a version in production begins its history. Down: a request keeps the sample of the answer it got."""
    registered = {
        "name": "belt", "stage": "production", "file_name": "f", "plaintext_sha256": "ab",
        "class_names": '["bolt"]', "input_height": 320, "input_width": 416,
        "registered_at": "2031-05-06 07:08:09+00:00",
    }  # fmt: skip
    downgrade(migrated, "0001")
    with write_transaction(migrated) as connection:
        _insert(connection, "model_versions", {**registered, "version": "1"})
        _insert(connection, "model_versions", {**registered, "version": "2", "stage": "candidate"})
        _insert(connection, "samples", REQUEST)
    upgrade_database(url)
    with write_transaction(migrated) as connection:
        version = find_production_version(connection, "belt")
        assert version is not None
        assert (version.label, version.task, version.engine, version.precision) == (
            "belt@1", "detect", "openvino", "f32",
        )  # fmt: skip
        assert promote_version(connection, "belt", "2", now=MOMENT)
        assert find_version_before(connection, "belt") == "1"
        _insert(connection, "samples", {**REQUEST, "model_version": "2", "mode": "shadow"})
        assert [s.id for s in load_window(connection, "belt", "1", newest=9)] == [1]
    downgrade(migrated, "0001")
    with migrated.connect() as connection:
        assert connection.execute(text("SELECT id, model_version FROM samples")).all() == [(1, "1")]


def test_a_new_sqlite_file_is_its_owners_alone(tmp_path: Path) -> None:
    """It holds the ledger and the samples."""
    upgrade_database(f"sqlite:///{tmp_path}/a/b/new.db")
    assert (tmp_path / "a" / "b" / "new.db").stat().st_mode & 0o777 == 0o600


def test_the_folder_of_migrations_is_no_package() -> None:
    """An __init__.py in it would shadow the library of the same name."""
    folder = Path(__file__).resolve().parents[3] / "alembic"
    assert (folder / "env.py").is_file()
    assert not (folder / "__init__.py").exists()
