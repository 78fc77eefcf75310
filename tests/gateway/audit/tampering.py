"""Copies of everything that is stored of ledgers, to tamper with and to put back."""

from typing import Any

from sqlalchemy import Connection, Engine

from gateway.store.tables import audit_checkpoints, audit_ledgers, audit_nodes, audit_records

_TABLES = (audit_ledgers, audit_records, audit_nodes, audit_checkpoints)

Copy = dict[str, list[dict[str, Any]]]


def copied(engine: Engine) -> Copy:
    """Every row of every ledger."""
    with engine.connect() as connection:
        return {
            table.name: [dict(row) for row in connection.execute(table.select()).mappings()]
            for table in _TABLES
        }


def put_back(engine: Engine, copy: Copy) -> None:
    """Make the ledgers what they were, as restoring a backup does."""
    with engine.begin() as connection:
        for table in _TABLES:
            connection.execute(table.delete())
            if copy[table.name]:
                connection.execute(table.insert(), copy[table.name])


def change_record(connection: Connection, position: int, **values: object) -> None:
    """Write other values into one record."""
    table = audit_records
    connection.execute(table.update().where(table.c.position == position).values(**values))


def cut(connection: Connection, size: int) -> None:
    """Delete the records from this one on."""
    connection.execute(audit_records.delete().where(audit_records.c.position >= size))
