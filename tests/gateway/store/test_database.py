"""Opening databases: durable commits, no file made by accident, writers that wait for each other."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, select, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import IntegrityError, OperationalError

from gateway.store.database import HeldConnection, open_database, write_transaction
from gateway.store.tables import metadata, sample_images


def row(request_id: str) -> dict[str, object]:
    """One row."""
    return {"request_id": request_id, "key_id": "k", "ciphertext": b"c"}


def add_image(engine: Engine, request_id: str) -> None:
    """One row, in a transaction of its own."""
    with write_transaction(engine) as connection:
        connection.execute(insert(sample_images).values(row(request_id)))


def image_ids(engine: Engine) -> list[str]:
    """The ids of all rows."""
    with engine.connect() as connection:
        return sorted(connection.execute(select(sample_images.c.request_id)).scalars())


@pytest.mark.parametrize(
    ("pragma", "value"), [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)]
)
def test_sqlite_is_opened_durably(sqlite_engine: Engine, pragma: str, value: object) -> None:
    """WAL with synchronous FULL (2) on every connection: NORMAL loses acknowledged records with the power."""
    with sqlite_engine.connect() as first, sqlite_engine.connect() as second:
        for connection in (first, second):
            assert connection.execute(text(f"PRAGMA {pragma}")).scalar_one() == value


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("synchronous_commit", "on"), ("statement_timeout", "30s"), ("lock_timeout", "10s")],
)
def test_postgres_is_opened_durably_and_bounded(
    postgres_engine: Engine, parameter: str, value: str
) -> None:
    """Whatever the database's own defaults are."""
    name = postgres_engine.url.database
    with write_transaction(postgres_engine) as connection:
        off = "off" if value == "on" else "0"
        connection.exec_driver_sql(f"ALTER DATABASE {name} SET {parameter} = {off}")
    postgres_engine.dispose()
    with postgres_engine.connect() as connection:
        assert connection.execute(text(f"SHOW {parameter}")).scalar_one() == value


def test_a_missing_file_is_refused_and_not_made(tmp_path: Path) -> None:
    """An empty new database in place of the ledger would hide its loss."""
    path = tmp_path / "absent.db"
    with pytest.raises(FileNotFoundError, match="create it with `gateway db upgrade`"):
        open_database(f"sqlite:///{path}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_is_refused(url: str, tmp_path: Path) -> None:
    """A ledger that ends with its process is none."""
    with pytest.raises(FileNotFoundError):
        open_database(url)


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    """The file itself must be named."""
    with pytest.raises(FileNotFoundError):
        open_database(f"sqlite:///{tmp_path}")


@pytest.mark.parametrize("url", ["mysql://u@h/d", "mssql://u@h/d"])
def test_other_kinds_of_database_are_refused(url: str) -> None:
    """By name, before their drivers are looked for."""
    with pytest.raises(ValueError, match=r"unsupported database '\w+': use sqlite or postgresql"):
        open_database(url)


def test_a_transaction_that_fails_leaves_nothing(engine: Engine) -> None:
    """All of it or none of it."""
    with pytest.raises(IntegrityError), write_transaction(engine) as connection:
        connection.execute(insert(sample_images), [row("r"), row("r")])
    assert image_ids(engine) == []


def test_a_writer_waits_for_the_writer_before_it(engine: Engine) -> None:
    """Two read-then-write transactions at once: the second blocks, and neither fails."""
    is_inside, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with write_transaction(engine) as connection:
            connection.execute(select(sample_images.c.request_id)).all()
            is_inside.set()
            assert may_end.wait(20)
            connection.execute(insert(sample_images).values(row("first")))

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(hold)
        assert is_inside.wait(20)
        second = pool.submit(add_image, engine, "second")
        may_end.set()
        first.result(20)
        second.result(20)
    assert image_ids(engine) == ["first", "second"]


def test_the_write_lock_is_taken_before_the_first_read(sqlite_engine: Engine) -> None:
    """An ordinary transaction that reads, is overtaken and then writes fails at once: this is what is avoided."""
    with sqlite_engine.connect() as connection:
        connection.execute(select(sample_images.c.request_id)).all()
        add_image(sqlite_engine, "between")
        with pytest.raises(OperationalError, match="locked"):
            connection.execute(insert(sample_images).values(row("late")))
    with write_transaction(sqlite_engine), pytest.raises(OperationalError, match="locked"):
        _write_without_waiting(sqlite_engine)


def _write_without_waiting(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout=0")
        connection.execute(insert(sample_images).values(row("late")))


def test_readers_do_not_wait_for_a_writer(engine: Engine) -> None:
    """And see only what is committed."""
    add_image(engine, "old")
    with write_transaction(engine) as connection:
        connection.execute(insert(sample_images).values(row("new")))
        assert image_ids(engine) == ["old"]
    assert image_ids(engine) == ["new", "old"]


def test_a_held_connection_writes_like_any_other(engine: Engine) -> None:
    """Committed when the transaction ends, and open to other writers between two."""
    held = HeldConnection(engine)
    with held.write_transaction() as connection:
        connection.execute(insert(sample_images).values(row("first")))
    add_image(engine, "between")
    with held.write_transaction() as connection:
        connection.execute(insert(sample_images).values(row("second")))
    assert image_ids(engine) == ["between", "first", "second"]
    held.close()


def test_a_held_connection_is_replaced_after_a_failure(engine: Engine) -> None:
    """What failed leaves nothing, and the next transaction works."""
    held = HeldConnection(engine)
    with pytest.raises(IntegrityError), held.write_transaction() as connection:
        connection.execute(insert(sample_images), [row("r"), row("r")])
    with held.write_transaction() as connection:
        connection.execute(insert(sample_images).values(row("next")))
    assert image_ids(engine) == ["next"]
    held.close()


def test_a_held_connection_takes_the_write_lock_first(sqlite_engine: Engine) -> None:
    """Every time, not only when it is opened."""
    held = HeldConnection(sqlite_engine)
    for _ in range(2):
        with held.write_transaction(), pytest.raises(OperationalError, match="locked"):
            _write_without_waiting(sqlite_engine)
    held.close()


def test_closing_twice_is_fine(engine: Engine) -> None:
    """Also before anything was opened."""
    held = HeldConnection(engine)
    held.close()
    with held.write_transaction():
        pass
    held.close()
    held.close()


def _taken_away(path: Path, how: str) -> None:
    if how == "deleted":
        path.unlink()
    elif how == "moved":
        path.rename(path.with_suffix(".elsewhere"))
    else:
        copy = path.with_suffix(".copy")
        copy.write_bytes(path.read_bytes())
        copy.replace(path)


@pytest.mark.parametrize("how", ["deleted", "moved", "replaced"])
def test_nothing_is_written_to_a_file_that_lost_its_name(
    sqlite_engine: Engine, tmp_path: Path, how: str
) -> None:
    """Such writes would be acknowledged and gone with the process."""
    held = HeldConnection(sqlite_engine)
    with held.write_transaction():
        pass
    path = tmp_path / "gatewatch.db"
    _taken_away(path, how)
    with (
        pytest.raises(OperationalError, match="moved, deleted or replaced"),
        held.write_transaction(),
    ):
        pytest.fail("it began")
    held.close()


@pytest.mark.parametrize("how", ["deleted", "moved", "replaced"])
def test_a_pooled_connection_to_a_lost_file_begins_nothing(
    sqlite_engine: Engine, tmp_path: Path, how: str
) -> None:
    """Readers and writers that take a connection from the pool are refused too."""
    add_image(sqlite_engine, "before")
    _taken_away(tmp_path / "gatewatch.db", how)
    with pytest.raises(OperationalError, match="moved, deleted or replaced"):
        add_image(sqlite_engine, "after")


def test_no_connection_makes_a_file_where_the_database_was(
    sqlite_engine: Engine, tmp_path: Path
) -> None:
    """A new connection finds nothing, and leaves nothing."""
    sqlite_engine.dispose()
    (tmp_path / "gatewatch.db").unlink()
    for _ in range(2):
        with pytest.raises(OperationalError):
            add_image(sqlite_engine, "after")
    assert not (tmp_path / "gatewatch.db").exists()


def test_a_file_that_comes_back_is_written_again(sqlite_engine: Engine, tmp_path: Path) -> None:
    """Once it has its name again, without a restart."""
    held = HeldConnection(sqlite_engine)
    with held.write_transaction() as connection:
        connection.execute(insert(sample_images).values(row("before")))
    path = tmp_path / "gatewatch.db"
    aside = path.with_suffix(".elsewhere")
    path.rename(aside)
    with pytest.raises(OperationalError), held.write_transaction():
        pytest.fail("it began")
    aside.rename(path)
    with held.write_transaction() as connection:
        connection.execute(insert(sample_images).values(row("after")))
    assert image_ids(sqlite_engine) == ["after", "before"]
    held.close()


@pytest.mark.parametrize("folder", ["my home 100%", "a?b=c&mode=ro#d", "%41", "ü;x"])
def test_any_folder_name_is_taken_as_it_is(tmp_path: Path, folder: str) -> None:
    """The path is never read as an address with options."""
    path = tmp_path / folder / "gatewatch.db"
    path.parent.mkdir()
    path.touch()
    engine = open_database(URL.create("sqlite", database=str(path)).render_as_string())
    if engine.url.database != str(path):
        pytest.skip("the address itself cannot name this folder")
    metadata.create_all(engine)
    add_image(engine, "r")
    assert image_ids(engine) == ["r"]
    assert path.stat().st_size > 0
    engine.dispose()


def test_errors_show_no_values(engine: Engine) -> None:
    """They end in logs; a row may hold what a caller sent."""
    with pytest.raises(IntegrityError) as caught, write_transaction(engine) as connection:
        connection.execute(insert(sample_images), [row("r-secret"), row("r-secret")])
    assert "SQL parameters hidden" in str(caught.value)
