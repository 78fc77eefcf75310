"""Runs migrations over the tables of both processes. Called by alembic, with or without an engine of the caller's."""

import os
from pathlib import Path

from alembic import context
from sqlalchemy import Connection

from gateway.settings import read_settings
from gateway.store.database import open_database, write_transaction
from gateway.store.environment import read_environment
from gateway.store.tables import metadata
from monitor import tables as _monitor_tables  # noqa: F401  (adds the monitor's tables to the metadata)


def run(connection: Connection) -> None:
    """Run the wanted migrations on one connection."""
    context.configure(
        connection=connection, target_metadata=metadata, render_as_batch=True, compare_type=True
    )
    with context.begin_transaction():
        context.run_migrations()


engine = context.config.attributes.get("engine")
if engine is None:
    environment = read_environment(os.environ, dotenv_file=Path(".env"))
    engine = open_database(read_settings(environment).database_url)
with write_transaction(engine) as opened:
    run(opened)
