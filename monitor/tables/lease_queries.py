"""All SQL over leases: who acts, of several monitors.

Rules: the database's own clock decides what has expired, so monitors need no common one; the caller owns the
transaction, and a lease that was locked stays locked until it ends.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, func, literal_column, select, update
from sqlalchemy.dialects import postgresql, sqlite

from monitor.tables import leases

# Neither is the time at which the transaction began: whoever waited for the lock must not judge by that.
_NOW = {
    "postgresql": select(func.extract("epoch", func.clock_timestamp())),
    "sqlite": select((func.julianday("now") - literal_column("2440587.5")) * 86_400.0),
}
_INSERT_IF_NEW = {
    "postgresql": postgresql.insert(leases).on_conflict_do_nothing(),
    "sqlite": sqlite.insert(leases).on_conflict_do_nothing(),
}


@dataclass(frozen=True, slots=True)
class Lease:
    """Who acts, of several monitors, until expires_at_seconds by the database's clock; then another may take it.

    holder: empty while nobody holds it. fence: grows whenever it is taken: by it a holder that slept knows of its loss.
    """

    name: str
    holder: str
    expires_at_seconds: float
    fence: int


def read_clock_seconds(connection: Connection) -> float:
    """The database's time, seconds since 1970; on SQLite that of this host."""
    return float(connection.execute(_NOW[connection.dialect.name]).scalar_one())


def lock_lease(connection: Connection, name: str) -> Lease:
    """The lease, locked until the transaction ends (SQLite holds the whole database already); made if it is new."""
    # Without renewed_at: one that is no time must not keep every monitor from acting.
    columns = (leases.c.name, leases.c.holder, leases.c.expires_at_seconds, leases.c.fence)
    query = select(*columns).where(leases.c.name == name).with_for_update()
    row = connection.execute(query).one_or_none()
    if row is None:
        # Two monitors that start at the same time: one of them makes it, and the other waits for its lock below.
        free = {"holder": "", "expires_at_seconds": 0.0, "fence": 0, "renewed_at": _at(0.0)}
        connection.execute(_INSERT_IF_NEW[connection.dialect.name], {"name": name, **free})
        row = connection.execute(query).one()
    return Lease(
        name=row.name, holder=row.holder, expires_at_seconds=row.expires_at_seconds, fence=row.fence
    )


def find_renewed_at(connection: Connection, name: str) -> datetime | None:
    """When a lease was last taken, renewed or given back; None if it never was."""
    renewed_at = connection.execute(
        select(leases.c.renewed_at).where(leases.c.name == name)
    ).scalar_one_or_none()
    return None if renewed_at == _at(0.0) else renewed_at


def save_lease(connection: Connection, lease: Lease, *, now_seconds: float) -> None:
    """Store who holds a lease that is locked. now_seconds: the database's time."""
    connection.execute(
        update(leases)
        .where(leases.c.name == lease.name)
        .values(
            holder=lease.holder,
            expires_at_seconds=lease.expires_at_seconds,
            fence=lease.fence,
            renewed_at=_at(now_seconds),
        )
    )


def _at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
