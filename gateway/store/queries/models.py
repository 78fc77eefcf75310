"""SQL over model_versions."""

import json
from collections.abc import Sequence

from sqlalchemy import Connection, Row, insert, select, update

from gateway.store.records import ModelVersion, Stage
from gateway.store.tables import model_versions


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
        )
    )


def list_model_versions(
    connection: Connection, *, name: str | None = None
) -> Sequence[ModelVersion]:
    """All versions, or those of one name, oldest first."""
    query = select(model_versions).order_by(
        model_versions.c.registered_at, model_versions.c.version
    )
    if name is not None:
        query = query.where(model_versions.c.name == name)
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


def promote_version(connection: Connection, name: str, version: str) -> bool:
    """Put one version into production and retire the one that was; False (and no change) if it is unknown."""
    table = model_versions
    of_name = table.c.name == name
    # Locks all versions of the name on PostgreSQL: of two promotions at once the later one sees, and retires, what the
    # earlier one put into production. SQLite's write_transaction holds its one lock already.
    query = select(table.c.version).where(of_name).order_by(table.c.version).with_for_update()
    if version not in connection.execute(query).scalars().all():
        return False
    in_production = of_name & (table.c.stage == Stage.PRODUCTION.value)
    this = of_name & (table.c.version == version)
    connection.execute(update(table).where(in_production).values(stage=Stage.RETIRED.value))
    connection.execute(update(table).where(this).values(stage=Stage.PRODUCTION.value))
    return True


def _record(row: Row[tuple[object, ...]]) -> ModelVersion:
    return ModelVersion(
        name=row.name,
        version=row.version,
        stage=Stage(row.stage),
        file_name=row.file_name,
        plaintext_sha256=row.plaintext_sha256,
        class_names=tuple(json.loads(row.class_names)),
        input_size=(row.input_height, row.input_width),
        registered_at=row.registered_at,
    )
