"""Reading a whole ledger from the database and finding its first bad record.

Rules: holds one page at a time; each page is a short transaction of its own, so that a long check never keeps the
database from tidying up; changes nothing. What a chain cannot show is said in gateway.audit.chain.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.audit.chain import Fault, FaultKind, Tail, checked_origin, genesis_tail, verify_records
from gateway.errors import AuditUnavailableError, Code
from gateway.store.queries.audit import list_positions, load_audit_records

PAGE_RECORDS = 5000


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What was found. count and last_hash are those of the good records before first_bad, or of all of them."""

    origin: str
    count: int
    last_hash: bytes
    first_bad: Fault | None


def verify_ledger(
    engine: Engine,
    origin: str,
    *,
    page_records: int = PAGE_RECORDS,
    on_progress: Callable[[int], None] | None = None,
) -> VerifyResult:
    """Check every record of a ledger up to the end it has when the end is reached.

    on_progress: called after each page with the count of good records so far.
    Raises SettingsError if the origin is not a name, AuditUnavailableError if the database cannot be read.
    """
    tail, fault = genesis_tail(checked_origin(origin)), None
    is_last = False
    while fault is None and not is_last:
        try:
            tail, fault, is_last = _verify_page(engine, origin, tail, page_records)
        except SQLAlchemyError as exc:
            message = "the ledger could not be read from the database"
            raise AuditUnavailableError(Code.AUDIT_UNAVAILABLE, message) from exc
        if on_progress is not None:
            on_progress(tail.count)
    return VerifyResult(origin, tail.count, tail.record_hash, fault)


def _verify_page(
    engine: Engine, origin: str, tail: Tail, limit: int
) -> tuple[Tail, Fault | None, bool]:
    after = tail.count - 1 if tail.count else None
    try:
        with engine.connect() as connection:
            records = load_audit_records(connection, origin, after_position=after, limit=limit)
    except (SQLAlchemyError, ValueError, TypeError):
        return _verify_singly(engine, origin, tail, limit)
    tail, fault = verify_records(records, origin=origin, tail=tail)
    return tail, fault, len(records) < limit


def _verify_singly(
    engine: Engine, origin: str, tail: Tail, limit: int
) -> tuple[Tail, Fault | None, bool]:
    # Something in the page cannot be read: a value of a wrong type, text that is not UTF-8. If the positions can,
    # the database is well and it is the record that is bad; if not, their error says that the database is not.
    after = tail.count - 1 if tail.count else None
    with engine.connect() as connection:
        positions = list_positions(connection, origin, after_position=after, limit=limit)
    for position in positions:
        after = tail.count - 1 if tail.count else None
        try:
            with engine.connect() as connection:
                records = load_audit_records(connection, origin, after_position=after, limit=1)
        except (SQLAlchemyError, ValueError, TypeError):
            why = f"the record with position {position!r} cannot be read"
            return tail, Fault(tail.count, FaultKind.UNREADABLE, why), True
        tail, fault = verify_records(records, origin=origin, tail=tail)
        if fault is not None:
            return tail, fault, True
    return tail, None, len(positions) < limit
