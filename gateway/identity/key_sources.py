"""Where an issuer's keys come from: one interface, and the simplest kind, keys that never change."""

from typing import Protocol

from gateway.identity.keysets import KeySet


class KeySource(Protocol):
    """The keys of one issuer, as they are now."""

    def current(self) -> KeySet:
        """The keys to verify with.

        Raises IdentityUnavailableError if there are none yet, or none young enough to be believed.
        """

    async def refresh_for_unknown_key(self) -> None:
        """Return once the keys are as new as the source's limits on fetching allow; called for a `kid` that is unknown.

        Any number of callers at once cost at most one fetch in 30 seconds; never raises for a failed fetch.
        """

    async def run(self) -> None:
        """Keep the keys fresh until cancelled; what cannot change returns at once."""


class FixedKeys:
    """Keys read at the start."""

    def __init__(self, keyset: KeySet) -> None:
        self._keyset = keyset

    def current(self) -> KeySet:
        """Always the same."""
        return self._keyset

    async def refresh_for_unknown_key(self) -> None:
        """There are no newer ones."""

    async def run(self) -> None:
        """Nothing changes."""
