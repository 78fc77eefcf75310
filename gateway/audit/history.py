"""What the database holds of one ledger, beside what was signed of it and kept elsewhere.

Rules: nothing that the database says is believed: what was signed is shown to lie in its past by hashes. Every
question takes a connection of its own, so that threads may ask.
"""

from collections.abc import Sequence

from sqlalchemy import Engine

from gateway.audit.checkpoints import Checkpoint, SignedCheckpoint, open_checkpoint
from gateway.audit.events import Action
from gateway.audit.merkle import LogInvalidError
from gateway.audit.notes import Verifier
from gateway.audit.past import load_newest_details
from gateway.audit.signing import require_continued
from gateway.audit.stored_notes import find_signed
from gateway.audit.stored_tree import prove_consistency
from gateway.audit.tail import follow_tail
from gateway.store.queries.audit import find_last_position


class LedgerHistory:
    """Reads one ledger. Every method raises SQLAlchemyError if the database fails."""

    def __init__(self, engine: Engine, verifier: Verifier) -> None:
        """verifier: of the ledger's key, which has the name of its origin."""
        self._engine = engine
        self._verifier = verifier

    @property
    def verifier(self) -> Verifier:
        """What verifies the ledger's checkpoints."""
        return self._verifier

    def size(self) -> int:
        """Records now. Raises LogInvalidError if the last one cannot be read."""
        with self._engine.connect() as connection:
            last = find_last_position(connection, self._verifier.name)
        if last is not None and type(last[0]) is not int:
            raise LogInvalidError("the ledger's last record cannot be read")
        return 0 if last is None else last[0] + 1

    def newest(self) -> SignedCheckpoint | None:
        """The newest stored checkpoint; None if there is none. Raises LogInvalidError if it is not the ledger's."""
        with self._engine.connect() as connection:
            return find_signed(connection, self._verifier.name, verifiers=[self._verifier])

    def open(self, note: bytes) -> SignedCheckpoint:
        """The checkpoint of a note. Raises LogInvalidError unless the ledger's key signed it."""
        return open_checkpoint(note, origin=self._verifier.name, verifiers=[self._verifier])

    def newest_details(self, action: Action, *, limit: int) -> Sequence[str]:
        """The details of the newest records of a rare action, at most limit; none of them is verified.

        Raises ValueError if a stored value has another type than its column.
        """
        with self._engine.connect() as connection:
            return load_newest_details(connection, self._verifier.name, action, limit=limit)

    def require(self, old: Checkpoint) -> None:
        """Return if the ledger as it is now goes on from a checkpoint. Raises LogInvalidError otherwise."""
        with self._engine.connect() as connection:
            tail = follow_tail(connection, old.origin, None)
            require_continued(connection, old, Checkpoint(old.origin, tail.size, tail.root))

    def prove(self, *, old_size: int, size: int) -> list[bytes]:
        """The consistency proof between two sizes. Raises LogInvalidError if a stored hash is missing."""
        with self._engine.connect() as connection:
            return prove_consistency(connection, self._verifier.name, old_size=old_size, size=size)
