"""SQL over sample_keys."""

from sqlalchemy import Connection, insert, select

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
    if row is None:
        return None
    return WrappedSampleKey(
        key_id=row.key_id,
        kek_id=row.kek_id,
        wrapped_key=bytes(row.wrapped_key),
        created_at=row.created_at,
    )
