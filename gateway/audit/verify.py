"""Reading a whole ledger from the database and finding its first bad record.

Rules: holds one page at a time; each page is a short transaction of its own, so that a long check never keeps the
database from tidying up; changes nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.audit.checkpoints import SignedCheckpoint, open_checkpoint
from gateway.audit.entries import checked_origin
from gateway.audit.merkle import (
    EMPTY_FRONTIER,
    Frontier,
    LogInvalidError,
    append_leaves,
    frontier_root,
    hash_leaf,
)
from gateway.audit.notes import Verifier
from gateway.errors import AuditUnavailableError, Code
from gateway.store.queries.audit import load_audit_records
from gateway.store.queries.audit_trees import load_checkpoints

PAGE_RECORDS = 5000


class FaultKind(StrEnum):
    """What is wrong at the first bad record."""

    CHANGED = "changed"
    MISSING = "missing"
    EXTRA = "extra"
    REORDERED = "reordered"
    UNREADABLE = "unreadable"
    TRUNCATED = "truncated"
    ROLLED_BACK = "rolled_back"
    FORKED = "forked"
    FORGED = "forged"
    INDEX_DIFFERS = "index_differs"
    NODE_DIFFERS = "node_differs"
    CHECKPOINT_DIFFERS = "checkpoint_differs"
    LEDGER_DIFFERS = "ledger_differs"


@dataclass(frozen=True, slots=True)
class Fault:
    """The first record that can be bad, and why."""

    position: int
    kind: FaultKind
    why: str


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What was found. count: the good records before first_bad, or all of them; root: of their tree."""

    origin: str
    count: int
    root: bytes
    newest: SignedCheckpoint | None
    first_bad: Fault | None


def verify_ledger(
    engine: Engine,
    origin: str,
    *,
    verifiers: Sequence[Verifier],
    on_progress: Callable[[int], None] | None = None,
) -> VerifyResult:
    """Check every record of a ledger up to the end it has when the end is reached.

    Raises SettingsError if the origin is not a name, AuditUnavailableError if the database cannot be read.
    """
    checked_origin(origin)
    try:
        return _verify(engine, origin, verifiers, on_progress or (lambda _count: None))
    except SQLAlchemyError as exc:
        message = "the ledger could not be read from the database"
        raise AuditUnavailableError(Code.AUDIT_UNAVAILABLE, message) from exc


def _verify(
    engine: Engine,
    origin: str,
    verifiers: Sequence[Verifier],
    on_progress: Callable[[int], None],
) -> VerifyResult:
    with engine.connect() as connection:
        stored = load_checkpoints(connection, origin, limit=1_000_000_000)
    frontier, newest, fault = EMPTY_FRONTIER, None, None
    for checkpoint in stored:
        try:
            signed = open_checkpoint(checkpoint.note.encode(), origin=origin, verifiers=verifiers)
        except LogInvalidError as exc:
            why = f"the checkpoint of {checkpoint.size} records: {exc}"
            fault = Fault(frontier.size, FaultKind.FORGED, why)
            break
        frontier, fault = _walk(engine, origin, frontier, signed.checkpoint.size)
        if fault is not None:
            break
        if frontier.size < signed.checkpoint.size:
            why = f"{signed.checkpoint.size} records were signed"
            fault = Fault(frontier.size, FaultKind.TRUNCATED, why)
            break
        if frontier_root(frontier) != signed.checkpoint.root:
            old = 0 if newest is None else newest.checkpoint.size
            why = f"a record from {old} to {frontier.size - 1} is not the one that was signed"
            fault = Fault(old, FaultKind.CHANGED, why)
            break
        newest = signed
        on_progress(frontier.size)
    if fault is None:
        frontier, fault = _walk(engine, origin, frontier, None)
        on_progress(frontier.size)
    return VerifyResult(origin, frontier.size, frontier_root(frontier), newest, fault)


def _walk(
    engine: Engine, origin: str, frontier: Frontier, end: int | None
) -> tuple[Frontier, Fault | None]:
    while end is None or frontier.size < end:
        limit = PAGE_RECORDS if end is None else min(PAGE_RECORDS, end - frontier.size)
        after = frontier.size - 1 if frontier.size else None
        with engine.connect() as connection:
            records = load_audit_records(connection, origin, after_position=after, limit=limit)
        for record in records:
            if record.position != frontier.size:
                return frontier, Fault(frontier.size, FaultKind.MISSING, "it is missing")
            if record.leaf_hash != hash_leaf(record.body.encode()):
                why = "its hash is not that of its content"
                return frontier, Fault(frontier.size, FaultKind.CHANGED, why)
            frontier, _ = append_leaves(frontier, [record.leaf_hash])
        if len(records) < limit:
            break
    return frontier, None
