"""Opening the one database: SQLite for one host, PostgreSQL for several.

Rules: never creates a database or a table (migrations do); every commit is durable when it returns; no transaction
begins on an SQLite file that is no longer the one at its path; errors never show the values of a statement.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Dialect, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

BUSY_TIMEOUT_SECONDS = 10
_FILE_ID = "sqlite_file_id"
# A hanging server must not hold the one audit writer for ever: the connection ends, and the next batch opens another.
_POSTGRES_LIMITS = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    # The limit above is for what was sent. Whoever waits for an answer from a host that is gone learns it by these.
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "options": "-c statement_timeout=30000 -c lock_timeout=10000 -c synchronous_commit=on",
}


def open_database(url: str) -> Engine:
    """An engine whose commits survive a power cut.

    url: `sqlite:///path/to/file.db` or `postgresql+psycopg://…`. SQLite gets WAL (readers never block the writer)
    and synchronous=FULL: NORMAL would lose acknowledged audit records when the power goes.
    Raises FileNotFoundError if the SQLite file does not exist, ValueError for any other kind of database.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _open_sqlite(parsed)
    if parsed.get_backend_name() == "postgresql":
        return create_engine(
            parsed,
            pool_pre_ping=True,
            pool_size=5,
            max_overflow=5,
            connect_args=_POSTGRES_LIMITS,
            hide_parameters=True,
        )
    raise ValueError(
        f"unsupported database {parsed.get_backend_name()!r}: use sqlite or postgresql"
    )


def _open_sqlite(url: URL) -> Engine:
    path = Path(url.database or "")
    if not path.is_file():
        raise FileNotFoundError(f"no database at {path}: create it with `gateway db upgrade`")
    # Absolute, so that a later change of the working folder opens no other file.
    file = path.absolute()

    def connect(
        dialect: Dialect,
        entry: ConnectionPoolEntry,
        _arguments: list[object],
        options: dict[str, object],
    ) -> DBAPIConnection:
        # Before opening: a file exchanged in between is then noticed when the first transaction begins.
        entry.info[_FILE_ID] = _file_id(file)
        # mode=rw: without it SQLite makes an empty file where the database was taken away.
        return dialect.connect(f"{file.as_uri()}?mode=rw", **{**options, "uri": True})

    def begin(connection: Connection) -> None:
        file_id = _file_id(file)
        if file_id is None or file_id != connection.info.get(_FILE_ID):
            # What is written to a file without a name is acknowledged now and gone when the process ends.
            connection.invalidate()
            cause = sqlite3.OperationalError("the database file was moved, deleted or replaced")
            raise OperationalError("BEGIN", None, cause, hide_parameters=True)
        _begin(connection)

    engine = create_engine(
        url, connect_args={"timeout": BUSY_TIMEOUT_SECONDS}, hide_parameters=True
    )
    event.listen(engine, "do_connect", connect)
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "begin", begin)
    return engine


def _file_id(file: Path) -> tuple[int, int] | None:
    # Device and inode; None if there is nothing at the path.
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


@contextmanager
def write_transaction(engine: Engine) -> Iterator[Connection]:
    """A transaction that holds SQLite's write lock from its first statement; an ordinary one on PostgreSQL.

    A deferred transaction that reads first and writes later fails at once with "database is locked" when another
    process wrote in between; taking the lock first waits for up to BUSY_TIMEOUT_SECONDS instead.
    """
    with engine.connect() as connection:
        connection.execution_options(takes_write_lock=True)
        with connection.begin():
            yield connection


class HeldConnection:
    """Writes of one thread: on SQLite over one connection that is kept, opened when first needed and after a failure.

    Taking a connection from the pool and giving it back costs more than a small transaction on SQLite itself. A
    server can drop a connection at any time, so there each transaction takes one that the pool has just tried.
    """

    def __init__(self, engine: Engine) -> None:
        """Nothing is opened yet."""
        self._engine = engine
        self._connection: Connection | None = None

    @contextmanager
    def write_transaction(self) -> Iterator[Connection]:
        """What write_transaction of this module does."""
        if self._engine.dialect.name != "sqlite":
            with write_transaction(self._engine) as connection:
                yield connection
            return
        if self._connection is None:
            self._connection = self._engine.connect().execution_options(takes_write_lock=True)
        try:
            with self._connection.begin():
                yield self._connection
        except BaseException:
            # Whatever state the connection is in, the next transaction begins on another.
            self.close()
            raise

    def close(self) -> None:
        """Give the connection back, if one is held."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _begin(connection: Connection) -> None:
    takes_lock = connection.get_execution_options().get("takes_write_lock", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if takes_lock else "BEGIN")


def _set_pragmas(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    # None turns off the driver's own implicit BEGIN, so that _begin alone decides.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()
