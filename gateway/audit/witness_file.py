"""The witness file: the newest checkpoint of one ledger, on another volume than the database.

Rules: it is replaced as a whole and never by a smaller tree; what it holds is believed only with the ledger's own
signature; what is not a checkpoint of this ledger, or one that the ledger does not go on from, is never overwritten.
"""

from collections.abc import Callable
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from gateway.audit.checkpoints import Checkpoint, SignedCheckpoint, open_checkpoint
from gateway.audit.history import LedgerHistory
from gateway.audit.merkle import LogInvalidError
from gateway.audit.notes import DEFAULT_MAX_BYTES, Verifier
from gateway.audit.places import WitnessDisagreementError, WitnessUnavailableError
from gateway.audit.replaced_files import (
    Disk,
    lock_beside,
    read_small_file,
    replace_file,
    sync_folder,
)


def read_witness_file(path: Path, verifier: Verifier) -> SignedCheckpoint | None:
    """What a witness file holds; None if there is none in a folder that is there.

    verifier: of the ledger's key. Raises WitnessDisagreementError if it is no checkpoint that this key signed,
    WitnessUnavailableError if it cannot be read.
    """
    try:
        content = read_small_file(path, max_bytes=DEFAULT_MAX_BYTES)
    except OSError as exc:
        message = f"the witness file {path} cannot be read: {exc.strerror}; mount or make its folder, or name another"
        raise WitnessUnavailableError(message) from exc
    if content is None:
        return None
    try:
        return open_checkpoint(content, origin=verifier.name, verifiers=[verifier])
    except LogInvalidError as exc:
        message = f"the witness file {path} holds no checkpoint that the key of {verifier.name} signed: {exc}"
        raise WitnessDisagreementError(message) from exc


class WitnessFile:
    """One process's hand on the file; several may share it."""

    name = "file"

    def __init__(
        self,
        path: Path,
        *,
        history: LedgerHistory,
        on_lost: Callable[[str], None] = lambda _why: None,
        disk: Disk | None = None,
    ) -> None:
        """history: the ledger whose checkpoints stand there. on_lost: told in words that somebody took the file away or
        put an older one there while this process ran. disk: for tests.
        """
        self._path = path
        self._history = history
        self._on_lost = on_lost
        self._disk = disk or Disk()
        self._durable: Checkpoint | None = None

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._path

    def read(self) -> SignedCheckpoint | None:
        """What it holds. Raises as read_witness_file does."""
        return read_witness_file(self._path, self._history.verifier)

    def publish(self, signed: SignedCheckpoint) -> int:
        """Place.publish."""
        try:
            with lock_beside(self._path):
                held = self._newest(signed, self.read())
        except OSError as exc:
            message = f"the witness file {self._path} cannot be replaced: {exc.strerror}; check space and rights"
            raise WitnessUnavailableError(message) from exc
        self._durable = held
        return held.size

    def _newest(self, signed: SignedCheckpoint, held: SignedCheckpoint | None) -> Checkpoint:
        self._notice_loss(None if held is None else held.checkpoint.size)
        if held is not None and held.checkpoint != self._durable:
            self._require_ours(held.checkpoint)
        if held is None or held.checkpoint.size < signed.checkpoint.size:
            replace_file(self._path, signed.note, disk=self._disk)
            return signed.checkpoint
        if held.checkpoint != self._durable:
            # Whoever gave it this name may have failed to make the name durable.
            sync_folder(self._path.parent, disk=self._disk)
        return held.checkpoint

    def _notice_loss(self, held_size: int | None) -> None:
        if self._durable is None or (held_size is not None and held_size >= self._durable.size):
            return
        now = "is gone" if held_size is None else f"has a checkpoint of {held_size} records"
        self._on_lost(
            f"the witness file {self._path} {now}; it had one of {self._durable.size} records, written by this process"
        )
        # Told once: the next thing that this process knows to be there is what it writes now.
        self._durable = None

    def _require_ours(self, held: Checkpoint) -> None:
        # Another process of this ledger may have written it, or the process of a copy of this database.
        try:
            self._history.require(held)
        except LogInvalidError as exc:
            message = (
                f"the witness file {self._path} has a checkpoint of {held.size} records that this ledger does not go "
                f"on from: {exc}"
            )
            raise WitnessDisagreementError(message) from exc
        except SQLAlchemyError as exc:
            message = f"the witness file {self._path} cannot be compared: the database failed ({type(exc).__name__})"
            raise WitnessUnavailableError(message) from exc
