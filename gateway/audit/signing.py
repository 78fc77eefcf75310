"""Signing checkpoints of a ledger: never two histories.

Rules: only what is durable is signed, under the lock that appending takes; before every signature the tree is shown to
go on from every checkpoint that this process knows: the newest stored one, the last that it signed itself, and those
that witnesses kept.
"""

from collections.abc import Iterable

from sqlalchemy import Connection

from gateway.audit.checkpoints import (
    Checkpoint,
    SignedCheckpoint,
    open_checkpoint,
    sign_checkpoint,
)
from gateway.audit.merkle import LogInvalidError, verify_consistency
from gateway.audit.notes import NoteSigner
from gateway.audit.stored_notes import find_signed
from gateway.audit.stored_tree import prove_consistency
from gateway.audit.tail import Tail
from gateway.store.queries.audit_trees import insert_checkpoint


class CheckpointSigner:
    """Signs one ledger's checkpoints; its origin is the key's name."""

    def __init__(self, signer: NoteSigner, *, witnessed: Iterable[Checkpoint] = ()) -> None:
        """witnessed: what others saw of this ledger, the signature checked."""
        self._signer = signer
        self._verifiers = [signer.verifier]
        self._witnessed = tuple(witnessed)
        self._signed: Checkpoint | None = None

    @property
    def origin(self) -> str:
        """The ledger's name."""
        return self._signer.name

    def sign(self, connection: Connection, tail: Tail) -> SignedCheckpoint:
        """A stored checkpoint of this tail: the newest one if it covers it, else a new one, durable with the commit.

        Raises LogInvalidError if the tree does not go on from a checkpoint that is known, or none was ever signed.
        """
        newest = self._newest(connection)
        checkpoint = Checkpoint(self.origin, tail.size, tail.root)
        for old in self._known(newest.checkpoint):
            require_continued(connection, old, checkpoint)
        if newest.checkpoint == checkpoint:
            return newest
        note = sign_checkpoint(checkpoint, self._signer)
        insert_checkpoint(connection, self.origin, size=tail.size, note=note.decode())
        return open_checkpoint(note, origin=self.origin, verifiers=self._verifiers)

    def remember(self, signed: SignedCheckpoint) -> None:
        """It is durable: no later one may contradict it, whatever the database says by then."""
        # It was shown to go on from what witnesses saw, so that need not be shown again.
        self._signed, self._witnessed = signed.checkpoint, ()

    def _newest(self, connection: Connection) -> SignedCheckpoint:
        newest = find_signed(connection, self.origin, verifiers=self._verifiers)
        if newest is None:
            raise LogInvalidError("it has no signed beginning")
        if self._signed is not None and newest.checkpoint.size < self._signed.size:
            raise LogInvalidError(f"the checkpoint of {self._signed.size} records is gone")
        return newest

    def _known(self, newest: Checkpoint) -> set[Checkpoint]:
        known = {newest, *self._witnessed}
        return known if self._signed is None else known | {self._signed}


def require_continued(connection: Connection, old: Checkpoint, now: Checkpoint) -> None:
    """Return if stored hashes show that the tree of now goes on from the old one. Raises LogInvalidError otherwise."""
    if old.size > now.size:
        raise LogInvalidError(f"it has {now.size} records, and {old.size} were signed")
    proof = prove_consistency(connection, now.origin, old_size=old.size, size=now.size)
    verify_consistency(
        old_size=old.size, size=now.size, old_root=old.root, root=now.root, proof=proof
    )
