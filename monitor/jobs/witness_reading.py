"""What the database says of a ledger, read for its witness, and the witness's signature under it.

Rules: every stored value may have been put there by anybody, of whatever type (SQLite stores any); a checkpoint is one
only with its ledger's signature.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, Engine

from gateway.audit.checkpoints import SignedCheckpoint, checkpoint_text
from gateway.audit.merkle import LogInvalidError, frontier_root
from gateway.audit.notes import NoteCosigner, Verifier, add_signature
from gateway.audit.stored_notes import find_signed, read_cosigned
from gateway.audit.stored_tree import load_frontier, prove_consistency
from gateway.store.database import write_transaction
from gateway.store.queries.audit_feed import find_end
from gateway.store.queries.audit_trees import store_cosigned
from gateway.store.records import StoredCheckpoint
from monitor.witness import DisagreementError, DisagreementKind, Evidence, Seen


def newest_checkpoint(connection: Connection, seen: Seen) -> SignedCheckpoint:
    """The newest checkpoint of a ledger. Raises DisagreementError if it has none, or one that its key did not sign."""
    try:
        signed = find_signed(connection, seen.origin, verifiers=[seen.verifier])
    except LogInvalidError as exc:
        words = f"its newest checkpoint is not one that its key signed: {exc}"
        raise DisagreementError(DisagreementKind.UNSIGNED, words) from exc
    if signed is None:
        raise DisagreementError(DisagreementKind.VANISHED, "its checkpoints are gone")
    return signed


def collect_evidence(connection: Connection, signed: SignedCheckpoint, seen: Seen) -> Evidence:
    """What the database shows for a checkpoint that is not smaller than what was seen.

    Raises DisagreementError if a hash that is needed is missing.
    """
    origin, size = seen.origin, signed.checkpoint.size
    count = find_end(connection, origin)
    if count < size:
        return Evidence(count, b"", ())
    old_size = 0 if seen.state is None else seen.state.size
    try:
        root = frontier_root(load_frontier(connection, origin, size))
        proof = prove_consistency(connection, origin, old_size=old_size, size=size)
    except LogInvalidError as exc:
        words = f"what its first {size} records were signed as cannot be shown: {exc}"
        raise DisagreementError(DisagreementKind.CHANGED, words) from exc
    return Evidence(count, root, tuple(proof))


def own_cosigned(
    engine: Engine, verifier: Verifier, cosigner: NoteCosigner
) -> SignedCheckpoint | None:
    """The checkpoint of a ledger that this witness cosigned last, if the database still has it."""
    with engine.connect() as connection:
        signed = _cosigned(connection, verifier.name, [verifier, cosigner.verifier])
    return signed if signed is not None and signed.cosignatures else None


def cosign(engine: Engine, seen: Seen, cosigner: NoteCosigner, *, now: datetime) -> None:
    """Have the database hold the newest accepted checkpoint with this witness's signature; seen is durable already."""
    if seen.newest is None:
        return
    verifiers = [seen.verifier, cosigner.verifier]
    checkpoint = seen.newest.checkpoint
    with engine.connect() as connection:
        stored = _cosigned(connection, seen.origin, verifiers)
    if stored is not None and stored.checkpoint == checkpoint and stored.cosignatures:
        return
    line = cosigner.cosign(checkpoint_text(checkpoint), time_seconds=int(now.timestamp()))
    # Killed before the commit: the next look cosigns, on the strength of the same state.
    with write_transaction(engine) as connection:
        stored = _cosigned(connection, seen.origin, verifiers)
        if stored is not None and stored.checkpoint.size > checkpoint.size:
            return
        # Another witness may have signed the same one.
        is_same = stored is not None and stored.checkpoint == checkpoint
        base = stored.note if stored is not None and is_same else seen.newest.note
        note = add_signature(base, line).decode()
        store_cosigned(connection, StoredCheckpoint(seen.origin, checkpoint.size, note))


def _cosigned(
    connection: Connection, origin: str, verifiers: Sequence[Verifier]
) -> SignedCheckpoint | None:
    """What witnesses signed, if it is of the ledger; else there is nothing, and it is signed anew."""
    try:
        return find_signed(connection, origin, verifiers=verifiers, read=read_cosigned)
    except LogInvalidError:
        return None
