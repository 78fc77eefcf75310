"""Checkpoints and keys of ledgers as the database holds them, opened in one place.

Rules: anybody may have put there what is there, of whatever type (SQLite stores any): what cannot be read is refused
by the same error as what does not verify.
"""

from collections.abc import Callable, Sequence

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from gateway.audit.checkpoints import SignedCheckpoint, open_checkpoint
from gateway.audit.found import is_undecodable
from gateway.audit.merkle import LogInvalidError
from gateway.audit.notes import Verifier
from gateway.store.queries.audit_trees import (
    find_cosigned,
    find_ledger,
    find_newest_checkpoint,
    load_checkpoints,
)
from gateway.store.records import AuditLedger, StoredCheckpoint

Find = Callable[[Connection, str], StoredCheckpoint | None]


def open_stored(stored: StoredCheckpoint, *, verifiers: Sequence[Verifier]) -> SignedCheckpoint:
    """The checkpoint of a stored note; verifiers: see open_checkpoint.

    Its size is what was signed, whatever stands beside it. Raises LogInvalidError unless the ledger signed it.
    """
    try:
        content = stored.note.encode()
    except UnicodeEncodeError as exc:
        raise LogInvalidError("the note is not Unicode") from exc
    return open_checkpoint(content, origin=stored.origin, verifiers=verifiers)


def read_newest(connection: Connection, origin: str) -> StoredCheckpoint | None:
    """The newest checkpoint, not verified. Raises LogInvalidError if it cannot be read, SQLAlchemyError."""
    return _read(find_newest_checkpoint, connection, origin)


def read_cosigned(connection: Connection, origin: str) -> StoredCheckpoint | None:
    """The cosigned checkpoint, not verified. Raises as read_newest does."""
    return _read(find_cosigned, connection, origin)


def read_covering(size: int) -> Find:
    """What reads the smallest checkpoint of at least a size, as read_newest reads the newest."""

    def find(connection: Connection, origin: str) -> StoredCheckpoint | None:
        found = load_checkpoints(connection, origin, after_size=size - 1, limit=1)
        return found[0] if found else None

    return lambda connection, origin: _read(find, connection, origin)


def find_signed(
    connection: Connection,
    origin: str,
    *,
    verifiers: Sequence[Verifier],
    read: Find = read_newest,
) -> SignedCheckpoint | None:
    """The newest checkpoint, or what else read gives, opened; None if there is none.

    Raises as both do, and LogInvalidError for one that is stored as of another size, so that it may not be the newest.
    """
    stored = read(connection, origin)
    if stored is None:
        return None
    signed = open_stored(stored, verifiers=verifiers)
    size = signed.checkpoint.size
    if size != stored.size:
        raise LogInvalidError(f"the checkpoint of {size} records is stored as one of {stored.size}")
    return signed


def read_ledger(connection: Connection, origin: str) -> AuditLedger | None:
    """A ledger's own row; None if it was never begun. Raises LogInvalidError if it cannot be read, SQLAlchemyError."""
    try:
        return find_ledger(connection, origin)
    except ValueError as exc:
        raise LogInvalidError(str(exc)) from exc
    except SQLAlchemyError as exc:
        raise _undecodable(exc, "the ledger's own row is no text") from exc


def _read(find: Find, connection: Connection, origin: str) -> StoredCheckpoint | None:
    try:
        return find(connection, origin)
    except ValueError as exc:
        raise LogInvalidError(str(exc)) from exc
    except SQLAlchemyError as exc:
        raise _undecodable(exc, "its checkpoint is no text") from exc


def _undecodable(exc: SQLAlchemyError, words: str) -> Exception:
    return LogInvalidError(words) if is_undecodable(exc) else exc
