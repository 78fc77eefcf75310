"""All SQL over references and reports: rows in and out as records.

Rules: the caller owns the transaction; nothing here commits.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from monitor.records import Report
from monitor.tables import drift_references, reports


def insert_reference(
    connection: Connection,
    *,
    model_name: str,
    model_version: str,
    created_at: datetime,
    source: str,
    covers_until: datetime | None,
    sample_count: int,
    content: str,
) -> int:
    """Store a reference and give its id; the newest one of a model version is the one in use."""
    result = connection.execute(
        insert(drift_references).values(
            model_name=model_name,
            model_version=model_version,
            created_at=created_at,
            source=source,
            covers_until=covers_until,
            sample_count=sample_count,
            content=content,
        )
    )
    key = result.inserted_primary_key
    if key is None:
        raise RuntimeError("internal: the database gave no id for a new reference")
    return int(key[0])


def find_reference_id(connection: Connection, model_name: str, model_version: str) -> int | None:
    """The id of the newest reference of this model version, without reading its content."""
    table = drift_references
    query = (
        select(table.c.id)
        .where(table.c.model_name == model_name, table.c.model_version == model_version)
        .order_by(table.c.id.desc())
        .limit(1)
    )
    return connection.execute(query).scalar_one_or_none()


def read_reference_row(connection: Connection, reference_id: int) -> Row[Any]:
    """The stored row of one reference; monitor.windows.content parses it. Raises NoResultFound if it is gone."""
    return connection.execute(
        select(drift_references).where(drift_references.c.id == reference_id)
    ).one()


def list_references(
    connection: Connection, *, model_name: str | None = None, newest: int
) -> Iterator[Row[Any]]:
    """The rows of the newest references, of all models or of one, newest first; one at a time, they may be large."""
    query = select(drift_references).order_by(drift_references.c.id.desc()).limit(newest)
    if model_name is not None:
        query = query.where(drift_references.c.model_name == model_name)
    yield from connection.execute(query)


def insert_report(connection: Connection, report: Report) -> None:
    """Make a report known; its files are in place already."""
    connection.execute(
        insert(reports).values(
            created_at=report.created_at,
            model_name=report.model_name,
            model_version=report.model_version,
            reference_id=report.reference_id,
            window_count=report.window_count,
            drifted_features=report.drifted_features,
            html_file=report.html_file,
            json_file=report.json_file,
        )
    )


def find_last_report(connection: Connection, model_name: str) -> Report | None:
    """The newest report of a model."""
    query = (
        select(reports)
        .where(reports.c.model_name == model_name)
        .order_by(reports.c.id.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else _report(row)


def _report(row: Row[Any]) -> Report:
    return Report(
        created_at=row.created_at,
        model_name=row.model_name,
        model_version=row.model_version,
        reference_id=row.reference_id,
        window_count=row.window_count,
        drifted_features=row.drifted_features,
        html_file=row.html_file,
        json_file=row.json_file,
    )
