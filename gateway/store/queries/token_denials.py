"""SQL over token_denials.

Rules: a denial is never changed and never deleted, only lifted once, so that counts tell whether anything changed;
the caller owns the transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, insert, or_, select, update

from gateway.store.records import TokenDenial
from gateway.store.tables import token_denials


@dataclass(frozen=True, slots=True)
class StoredDenial:
    """A denial as it was read back, under the id that lifts it."""

    id: int
    denial: TokenDenial


@dataclass(frozen=True, slots=True)
class ChangeMark:
    """What differs between two states of the table; max_id is None while it is empty."""

    count: int
    max_id: int | None
    lifted_count: int


def insert_denial(connection: Connection, denial: TokenDenial) -> int:
    """Store one denial; its id."""
    stored = connection.execute(
        insert(token_denials)
        .values(
            issuer=denial.issuer,
            subject=denial.subject,
            token_id=denial.token_id,
            issued_before=denial.issued_before,
            ends_at=denial.ends_at,
            why=denial.why,
            created_at=denial.created_at,
            created_by=denial.created_by,
            lifted_at=denial.lifted_at,
        )
        .returning(token_denials.c.id)
    )
    denial_id: int = stored.scalar_one()
    return denial_id


def lift_denial(connection: Connection, denial_id: int, *, now: datetime) -> bool:
    """Take a denial back; False, and nothing changed, if there is none of this id that was not lifted already."""
    is_standing = (token_denials.c.id == denial_id) & token_denials.c.lifted_at.is_(None)
    lifted = update(token_denials).where(is_standing).values(lifted_at=now)
    return connection.execute(lifted).rowcount == 1


def find_denial(connection: Connection, denial_id: int) -> TokenDenial | None:
    """The denial of this id, in force or not, if there is one."""
    query = select(token_denials).where(token_denials.c.id == denial_id)
    row = connection.execute(query).one_or_none()
    return None if row is None else _record(row)


def list_denials(
    connection: Connection, *, now: datetime, is_history_included: bool
) -> list[StoredDenial]:
    """The denials in force, and with their history those that ended or were lifted; the oldest first."""
    query = select(token_denials).order_by(token_denials.c.id)
    if not is_history_included:
        query = query.where(_is_in_force(now))
    return [StoredDenial(row.id, _record(row)) for row in connection.execute(query)]


def load_active(connection: Connection, *, now: datetime) -> Sequence[TokenDenial]:
    """The denials in force, in no order."""
    query = select(token_denials).where(_is_in_force(now))
    return [_record(row) for row in connection.execute(query)]


def read_change_mark(connection: Connection) -> ChangeMark:
    """What is another one after each insert and lift; it reads no rows into this process.

    Read it before the denials themselves: what comes in between is then noticed the next time. The largest id alone
    would not do: PostgreSQL gives ids before transactions commit, so a smaller one can appear after a larger.
    """
    table = token_denials
    # count(column) leaves out the rows where it is NULL.
    query = select(func.count(), func.max(table.c.id), func.count(table.c.lifted_at))
    count, max_id, lifted_count = connection.execute(query).one()
    return ChangeMark(count=count, max_id=max_id, lifted_count=lifted_count)


def _is_in_force(now: datetime) -> ColumnElement[bool]:
    table = token_denials
    return table.c.lifted_at.is_(None) & or_(table.c.ends_at.is_(None), table.c.ends_at > now)


def _record(row: Row[Any]) -> TokenDenial:
    return TokenDenial(
        issuer=row.issuer,
        subject=row.subject,
        token_id=row.token_id,
        issued_before=row.issued_before,
        ends_at=row.ends_at,
        why=row.why,
        created_at=row.created_at,
        created_by=row.created_by,
        lifted_at=row.lifted_at,
    )
