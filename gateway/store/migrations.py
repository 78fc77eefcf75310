"""Bringing a database to the tables of this release, by alembic.

Rules: a database is created and changed only when an operator asks; whether it is current is gateway.store.revision's
question.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy.engine import make_url

from gateway.store.database import open_database

_PACKAGE = Path(__file__).resolve().parents[1]


def upgrade_database(url: str) -> None:
    """Create the SQLite file if it is missing, then run every migration that this database lacks.

    Each migration is one transaction: if the process dies, the database is at the last whole one; run it again.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        _create_file(Path(parsed.database or ""))
    engine = open_database(url)
    try:
        config = _config()
        config.attributes["engine"] = engine
        command.upgrade(config, "head")
    finally:
        engine.dispose()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_scripts()).replace("%", "%%"))
    return config


def _scripts() -> Path:
    """The migrations: inside the package when installed from a wheel, beside it in a checkout."""
    installed = _PACKAGE / "_migrations"
    return installed if installed.is_dir() else _PACKAGE.parent / "alembic"


def _create_file(path: Path) -> None:
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    path.chmod(0o600)
