"""Reading a part of a ledger from the database and following its tree.

Rules: holds one page at a time; each page is a short transaction of its own, so that a long check never keeps the
database from tidying up; changes nothing. A part that another process checks begins at hashes that the database gave:
whoever joins the parts compares them with those that were computed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.audit.checkpoints import SignedCheckpoint
from gateway.audit.merkle import STORED_HEIGHT, Frontier, LogInvalidError
from gateway.audit.notes import Verifier
from gateway.audit.stored_tree import load_frontier
from gateway.audit.verify_copies import CopyComparison
from gateway.audit.verify_faults import Fault, FaultKind, fault_at
from gateway.audit.verify_rows import CheckedRows, check_rows
from gateway.audit.verify_tree import BadClaim, Claim, Holder, TreeWalk, read_claim
from gateway.store.database import open_database
from gateway.store.queries.audit_verify import (
    MAX_LEVEL,
    read_checkpoints,
    read_nodes,
    read_positions,
    read_records,
)

PAGE_RECORDS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is checked against what. claims: checkpoints to compare with beside the stored ones."""

    origin: str
    verifiers: tuple[Verifier, ...]
    claims: tuple[Claim | BadClaim, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeOrder:
    """What another process is to check: the records from start to before end, which are multiples of a stored node."""

    database_url: str
    subject: Subject
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeReport:
    """That a part fits, if the tree before it is this. agreed: None without a checkpoint that fits inside it."""

    before: Frontier
    after: Frontier
    agreed: Frontier | None
    newest: SignedCheckpoint | None
    witnessed_size: int | None


def check_range(order: RangeOrder) -> RangeReport | None:
    """Check a part in a process of its own; None if anything at all is not as it should be, which others look into."""
    engine = open_database(order.database_url)
    try:
        with engine.connect() as connection:
            before = load_frontier(connection, order.subject.origin, order.start)
        walk = TreeWalk(before, agreed=before)
        fault = walk_records(engine, order.subject, walk, end=order.end)
    except LogInvalidError:
        return None
    except database_errors(engine):
        return None
    finally:
        engine.dispose()
    if fault is not None or not walk.is_clean:
        return None
    return RangeReport(
        before=before,
        after=walk.frontier,
        agreed=None if walk.agreed is before else walk.agreed,
        newest=walk.newest,
        witnessed_size=walk.witnessed_size,
    )


def walk_records(
    engine: Engine,
    subject: Subject,
    walk: TreeWalk,
    *,
    end: int,
    on_progress: Callable[[int], None] = lambda _count: None,
) -> Fault | None:
    """Go on to before end, or to what does not fit: walk.finding, or the fault that is returned, in a record itself.

    on_progress: called after each page with the count of records so far.
    """
    comparison = CopyComparison()
    # Checkpoints after this size come with the next page: from the start also that of the empty tree.
    after = -1 if walk.frontier.size == 0 else walk.frontier.size
    while walk.finding is None and (walk.frontier.size < end or after < 0):
        start = walk.frontier.size
        page_end = min((start // PAGE_RECORDS + 1) * PAGE_RECORDS, end)
        rows = _check_page(engine, subject.origin, start, page_end, comparison)
        sound_end = start + len(rows.leaf_hashes)
        with engine.connect() as connection:
            stored = _nodes(connection, subject.origin, start, sound_end)
            claims = _claims(connection, subject, after, sound_end)
        walk.advance(rows.leaf_hashes, stored=stored, claims=claims)
        if rows.first_bad is not None and walk.finding is None:
            return rows.first_bad
        after = walk.frontier.size
        on_progress(after)
    return None


def database_errors(engine: Engine) -> tuple[type[Exception], type[Exception]]:
    """What reading with driver statements raises: errors of the driver's own among them."""
    return SQLAlchemyError, engine.dialect.loaded_dbapi.Error


def _check_page(
    engine: Engine, origin: str, start: int, end: int, comparison: CopyComparison
) -> CheckedRows:
    leaf_hashes: list[bytes] = []
    try:
        with engine.connect() as connection:
            for rows in read_records(connection, origin, start, end):
                checked = check_rows(rows, start=start + len(leaf_hashes), comparison=comparison)
                leaf_hashes += checked.leaf_hashes
                if checked.first_bad is not None:
                    return CheckedRows(leaf_hashes, checked.first_bad)
    except (ValueError, *database_errors(engine)):
        return _check_singly(engine, origin, start, end)
    return CheckedRows(leaf_hashes, _missing(start + len(leaf_hashes), end))


def _check_singly(engine: Engine, origin: str, start: int, end: int) -> CheckedRows:
    # Something in the page cannot be read: text that is not UTF-8. If the positions can, the database is well and it is
    # the record that is bad; if not, their error says that the database is not.
    with engine.connect() as connection:
        positions = read_positions(connection, origin, start, end)
    leaf_hashes: list[bytes] = []
    for position in range(start, start + len(positions)):
        try:
            with engine.connect() as connection:
                rows = next(read_records(connection, origin, position, position + 1), [])
        except (ValueError, *database_errors(engine)):
            fault = fault_at(position, FaultKind.UNREADABLE, "it holds what is no text")
            return CheckedRows(leaf_hashes, fault)
        checked = check_rows(rows, start=position, comparison=CopyComparison())
        leaf_hashes += checked.leaf_hashes
        if checked.first_bad is not None:
            return CheckedRows(leaf_hashes, checked.first_bad)
    return CheckedRows(leaf_hashes, _missing(start + len(leaf_hashes), end))


def _missing(position: int, end: int) -> Fault | None:
    if position == end:
        return None
    return fault_at(position, FaultKind.MISSING, "it is missing, and later ones are there")


def _nodes(
    connection: Connection, origin: str, start: int, end: int
) -> dict[tuple[int, int], object]:
    found: dict[tuple[int, int], object] = {}
    for level in range(1, MAX_LEVEL + 1):
        first, last = start >> (STORED_HEIGHT * level), end >> (STORED_HEIGHT * level)
        if first == last:
            break
        for number, node_hash in read_nodes(connection, origin, level, first, last):
            # One that is there twice, in a table without its primary key, is none.
            found[level, number] = None if (level, number) in found else node_hash
    return found


def _claims(
    connection: Connection, subject: Subject, after: int, up_to: int
) -> Sequence[Claim | BadClaim]:
    stored = [
        read_claim(size, note, origin=subject.origin, verifiers=subject.verifiers)
        for size, note in read_checkpoints(connection, subject.origin, after, up_to)
    ]
    held = [claim for claim in subject.claims if after < claim.size <= up_to]
    return sorted([*held, *stored], key=_order)


def _order(claim: Claim | BadClaim) -> tuple[int, int]:
    # At one size first what is bad in itself, and the ledger's own last: whether others agree is known by then.
    if isinstance(claim, BadClaim):
        return claim.size, 0
    return claim.size, 1 if claim.holder is Holder.WITNESS else 2
