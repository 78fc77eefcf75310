"""Beginning a ledger: its row, and a signature over what is there, which is nothing unless a release before wrote it.

Rules: only ever when asked; a ledger is never begun anew under the same origin.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, Engine

from gateway.audit.checkpoints import Checkpoint, sign_checkpoint
from gateway.audit.merkle import (
    EMPTY_FRONTIER,
    Frontier,
    LogInvalidError,
    append_leaves,
    frontier_root,
    hash_leaf,
)
from gateway.audit.notes import NoteSigner
from gateway.audit.stored_notes import read_ledger, read_newest
from gateway.errors import Code, LedgerError
from gateway.store.database import write_transaction
from gateway.store.queries.audit import load_audit_records, lock_ledger
from gateway.store.queries.audit_trees import (
    insert_checkpoint,
    insert_ledger,
    insert_nodes,
)
from gateway.store.records import AuditLedger, AuditRecord, StoredNode

_PAGE_RECORDS = 5000


def verifier_of_ledger(engine: Engine, origin: str) -> str | None:
    """The verifier line of the key that began the ledger of this origin; None if this database has none.

    Raises LedgerError if its row cannot be read.
    """
    with engine.connect() as connection:
        found = _ledger_of(connection, origin)
    return None if found is None else found.verifier


def create_ledger(engine: Engine, signer: NoteSigner, *, now: datetime) -> int:
    """Begin the ledger that this key signs, in one transaction; the number of records that were there already.

    Raises LedgerError if it exists, or if records that a release before wrote have a gap.
    """
    origin = signer.name
    # Killed before the commit: there is no ledger, and this can be run again.
    with write_transaction(engine) as connection:
        lock_ledger(connection, origin)
        if _ledger_of(connection, origin) is not None:
            message = (
                f"there is a ledger {origin} already: set GATEWAY_AUDIT_ORIGIN to begin another"
            )
            raise LedgerError(Code.LEDGER_BROKEN, message, reason="exists")
        if _has_checkpoints(connection, origin):
            message = (
                f"checkpoints of a ledger {origin} are here, and its row is missing: restore the database, or set "
                "GATEWAY_AUDIT_ORIGIN to begin another"
            )
            raise LedgerError(Code.LEDGER_BROKEN, message, reason="checkpoints without a ledger")
        try:
            frontier = _adopt(connection, origin)
        except (LogInvalidError, ValueError) as exc:
            message = f"the records of {origin} cannot be taken over: {exc}; set GATEWAY_AUDIT_ORIGIN to begin another"
            raise LedgerError(Code.LEDGER_BROKEN, message, reason="adopted records") from exc
        insert_ledger(connection, origin, verifier=signer.verifier.line(), created_at=now)
        checkpoint = Checkpoint(origin, frontier.size, frontier_root(frontier))
        note = sign_checkpoint(checkpoint, signer)
        insert_checkpoint(connection, origin, size=frontier.size, note=note.decode())
    return frontier.size


def _ledger_of(connection: Connection, origin: str) -> AuditLedger | None:
    try:
        return read_ledger(connection, origin)
    except LogInvalidError as exc:
        message = f"the ledger {origin} is here, and cannot be read ({exc}): restore the database"
        raise LedgerError(Code.LEDGER_BROKEN, message, reason="unreadable row") from exc


def _has_checkpoints(connection: Connection, origin: str) -> bool:
    try:
        return read_newest(connection, origin) is not None
    except LogInvalidError:
        return True


def _adopt(connection: Connection, origin: str) -> Frontier:
    frontier = EMPTY_FRONTIER
    # None first, or a record hidden below position 0 would be passed by.
    after: int | None = None
    while page := load_audit_records(connection, origin, after_position=after, limit=_PAGE_RECORDS):
        frontier, nodes = append_leaves(frontier, _leaf_hashes(page, frontier.size))
        insert_nodes(
            connection, [StoredNode(origin, n.level, n.number, n.node_hash) for n in nodes]
        )
        after = frontier.size - 1
    return frontier


def _leaf_hashes(page: Sequence[AuditRecord], start: int) -> list[bytes]:
    for position, record in enumerate(page, start):
        if record.position != position or record.leaf_hash != hash_leaf(record.body.encode()):
            raise LogInvalidError(f"record {position} is missing or was changed")
    return [record.leaf_hash for record in page]
