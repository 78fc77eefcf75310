"""SQL over sample_keys."""

from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from gateway.store.records import WrappedSampleKey
from gateway.store.tables import sample_keys


def insert_sample_key(connection: Connection, key: WrappedSampleKey) -> None:
    """Store one wrapped key. Raises IntegrityError if its id exists already."""
    connection.execute(
        insert(sample_keys).values(
            key_id=key.key_id,
            kek_id=key.kek_id,
            wrapped_key=key.wrapped_key,
            created_at=key.created_at,
        )
    )


def find_sample_key(connection: Connection, key_id: str) -> WrappedSampleKey | None:
    """The wrapped key of this id, if there is one."""
    query = select(sample_keys).where(sample_keys.c.key_id == key_id)
    row = connection.execute(query).one_or_none()
    return None if row is None else _record(row)


def list_sample_keys(connection: Connection) -> list[WrappedSampleKey]:
    """Every wrapped key, the oldest first."""
    query = select(sample_keys).order_by(sample_keys.c.created_at, sample_keys.c.key_id)
    return [_record(row) for row in connection.execute(query)]


def replace_sample_key(
    connection: Connection, old: WrappedSampleKey, *, new: WrappedSampleKey
) -> bool:
    """Store another wrap of the same key; False, and nothing stored, if the row is no longer the old one."""
    is_old = (sample_keys.c.key_id == old.key_id) & (sample_keys.c.wrapped_key == old.wrapped_key)
    values = {"kek_id": new.kek_id, "wrapped_key": new.wrapped_key}
    return connection.execute(update(sample_keys).where(is_old).values(**values)).rowcount == 1


def _record(row: Row[Any]) -> WrappedSampleKey:
    return WrappedSampleKey(
        key_id=row.key_id,
        kek_id=row.kek_id,
        wrapped_key=bytes(row.wrapped_key),
        created_at=row.created_at,
    )
