"""The second places that hold a ledger's newest checkpoint, as those see them who write there.

Rules: what a place holds is compared with the database, never taken over by it; a place that holds what the ledger does
not continue is left as it is, for it is the evidence.
"""

from typing import Protocol

from gateway.audit.checkpoints import SignedCheckpoint


class WitnessUnavailableError(Exception):
    """The checkpoint is not there yet; the same may pass later. The message tells the cause, and what mends it."""


class WitnessDisagreementError(Exception):
    """The place holds what this ledger does not go on from, or what is no checkpoint of it; the message says which."""


class Place(Protocol):
    """Where checkpoints are kept."""

    @property
    def name(self) -> str:
        """Of a closed set, for metrics: file, url."""

    def publish(self, signed: SignedCheckpoint) -> int:
        """Have the place hold this checkpoint, or one that goes on from it, durably; the size that it holds then.

        Raises WitnessUnavailableError, WitnessDisagreementError.
        """
