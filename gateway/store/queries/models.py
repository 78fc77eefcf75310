"""SQL over model_versions and model_promotions.

Rules: what changes a stage begins with lock_versions, so that of two changes of one name at once the later one sees
what the earlier one did; the caller owns the transaction, and decides before it changes anything.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, insert, select, update

from gateway.store.records import ModelVersion, Stage, Traffic
from gateway.store.rows import OnBadRow, fetch_rows
from gateway.store.tables import model_promotions, model_versions


def insert_model_version(connection: Connection, version: ModelVersion) -> None:
    """Register one version. Raises IntegrityError if its name and version exist already."""
    height, width = version.input_size
    connection.execute(
        insert(model_versions).values(
            name=version.name,
            version=version.version,
            stage=version.stage.value,
            file_name=version.file_name,
            plaintext_sha256=version.plaintext_sha256,
            class_names=json.dumps(version.class_names, ensure_ascii=False),
            input_height=height,
            input_width=width,
            registered_at=version.registered_at,
            task=version.task,
            engine=version.engine,
            precision=version.precision,
            traffic=version.traffic.value,
            share=version.share,
        )
    )


def list_model_versions(
    connection: Connection, *, name: str | None = None, on_bad_row: OnBadRow | None = None
) -> Sequence[ModelVersion]:
    """All versions, or those of one name, oldest first.

    on_bad_row: called with a number for each row that holds no version, which is left out then; None where the caller
    must see all of them, and such a row raises.
    """
    query = select(model_versions).order_by(
        model_versions.c.registered_at, model_versions.c.version
    )
    if name is not None:
        query = query.where(model_versions.c.name == name)
    if on_bad_row is None:
        return [_record(row) for row in connection.execute(query)]
    return _readable(connection, query, on_bad_row)


def list_active_versions(connection: Connection) -> Sequence[ModelVersion]:
    """The versions of all names that are in production or get traffic: what a running gateway has to load.

    A few rows, so that every gateway can ask once a second.
    """
    table = model_versions
    is_active = (table.c.stage == Stage.PRODUCTION.value) | (table.c.traffic != Traffic.NONE.value)
    query = select(table).where(is_active).order_by(table.c.name, table.c.version)
    return [_record(row) for row in connection.execute(query)]


def find_production_version(connection: Connection, name: str) -> ModelVersion | None:
    """The version of this name that is in production, if there is one."""
    query = select(model_versions).where(
        model_versions.c.name == name, model_versions.c.stage == Stage.PRODUCTION.value
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else _record(row)


def find_model_version(connection: Connection, name: str, version: str) -> ModelVersion | None:
    """One registered version, if there is one."""
    query = select(model_versions).where(
        model_versions.c.name == name, model_versions.c.version == version
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else _record(row)


def lock_versions(connection: Connection, name: str) -> dict[str, ModelVersion]:
    """All versions of a name as they are once nobody else is changing them; they stay so until the transaction ends.

    On PostgreSQL by locking their rows; SQLite's write_transaction holds its one lock already.
    """
    table = model_versions
    query = select(table).where(table.c.name == name).order_by(table.c.version).with_for_update()
    return {row.version: _record(row) for row in connection.execute(query)}


def promote_version(connection: Connection, name: str, version: str, *, now: datetime) -> bool:
    """Put one version into production and retire the one that was; False (and no change) if it is unknown.

    Promoting what is in production already changes nothing.
    """
    versions = lock_versions(connection, name)
    if version not in versions:
        return False
    if versions[version].stage is not Stage.PRODUCTION:
        _put_into_production(connection, name, version)
        promotion = insert(model_promotions).values(name=name, version=version, promoted_at=now)
        connection.execute(promotion)
    return True


def find_version_before(connection: Connection, name: str) -> str | None:
    """The version that a rollback would put into production, if there is one."""
    in_production = find_production_version(connection, name)
    current = None if in_production is None else in_production.version
    return next((row.version for row in _history(connection, name) if row.version != current), None)


def roll_back(connection: Connection, name: str, *, now: datetime) -> str | None:
    """Put the version before the one in production back, and undo the promotions since; which it is, or None.

    None (and no change) if no promotion before the last one is left.
    """
    lock_versions(connection, name)
    target = find_version_before(connection, name)
    if target is None:
        return None
    undone = []
    for row in _history(connection, name):
        if row.version == target:
            break
        undone.append(row.id)
    _put_into_production(connection, name, target)
    table = model_promotions
    connection.execute(update(table).where(table.c.id.in_(undone)).values(undone_at=now))
    return target


def retire_version(connection: Connection, name: str, version: str, *, now: datetime) -> None:
    """Take a version out of traffic and out of the history, so that no rollback returns to it."""
    _set(connection, name, version, Stage.RETIRED, Traffic.NONE, 0.0)
    table = model_promotions
    of_version = (table.c.name == name) & (table.c.version == version) & table.c.undone_at.is_(None)
    connection.execute(update(table).where(of_version).values(undone_at=now))


def set_traffic(
    connection: Connection, name: str, version: str, *, traffic: Traffic, share: float
) -> None:
    """Give a version that is not in production its share of the requests, 0..1; whatever gets some is a candidate."""
    _set(connection, name, version, Stage.CANDIDATE, traffic, share)


def _put_into_production(connection: Connection, name: str, version: str) -> None:
    table = model_versions
    in_production = (table.c.name == name) & (table.c.stage == Stage.PRODUCTION.value)
    connection.execute(update(table).where(in_production).values(stage=Stage.RETIRED.value))
    _set(connection, name, version, Stage.PRODUCTION, Traffic.NONE, 0.0)


def _set(
    connection: Connection, name: str, version: str, stage: Stage, traffic: Traffic, share: float
) -> None:
    table = model_versions
    this = (table.c.name == name) & (table.c.version == version)
    values = {"stage": stage.value, "traffic": traffic.value, "share": share}
    connection.execute(update(table).where(this).values(values))


def _history(connection: Connection, name: str) -> list[Row[Any]]:
    """The promotions of a name that were not undone, newest first."""
    table = model_promotions
    query = (
        select(table.c.id, table.c.version)
        .where(table.c.name == name, table.c.undone_at.is_(None))
        .order_by(table.c.id.desc())
    )
    return list(connection.execute(query))


def _readable(
    connection: Connection, query: Select[Any], on_bad_row: OnBadRow
) -> list[ModelVersion]:
    found = []
    for number, row in enumerate(fetch_rows(connection, query, on_bad_row=on_bad_row), start=1):
        try:
            version = _record(row)
        except (ValueError, TypeError, RecursionError):
            on_bad_row(number)
        else:
            found.append(version)
    return found


def _record(row: Row[Any]) -> ModelVersion:
    class_names = json.loads(row.class_names)
    if not isinstance(class_names, list):
        raise ValueError("not a list of names")  # noqa: TRY004  (one family for whatever is wrong with a row)
    return ModelVersion(
        name=row.name,
        version=row.version,
        stage=Stage(row.stage),
        file_name=row.file_name,
        plaintext_sha256=row.plaintext_sha256,
        class_names=tuple(class_names),
        input_size=(row.input_height, row.input_width),
        registered_at=row.registered_at,
        task=row.task,
        engine=row.engine,
        precision=row.precision,
        traffic=Traffic(row.traffic),
        share=row.share,
    )
