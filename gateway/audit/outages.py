"""What the writer tells whoever remembers its outages, and that a fault there is no fault of the ledger.

Rules: called in the writer's thread alone; nothing that goes wrong in remembering keeps a record from being written or
a caller from its answer.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from gateway.audit.events import AuditEvent

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class Outages(Protocol):
    """What remembers, outside of the database, that nothing could be recorded (gateway.audit.emergency)."""

    def note(self, *, reason: str, refused: int) -> None:
        """Remember durably that this many more appends were refused."""

    def pending(self) -> Sequence[AuditEvent]:
        """What is remembered and not yet in the ledger, as events."""

    def settle(self) -> None:
        """Forget what the last pending() gave: it is durable in the ledger now."""

    def close(self) -> None:
        """Nothing more comes."""


class QuietOutages:
    """The same for the writer, whatever happens in it; without one, nothing is remembered."""

    def __init__(self, outages: Outages | None) -> None:
        self._outages = outages

    def note(self, *, reason: str, refused: int) -> None:
        """Remember."""
        if self._outages is not None:
            note = self._outages.note
            _quietly(lambda: note(reason=reason, refused=refused), otherwise=None)

    def pending(self) -> Sequence[AuditEvent]:
        """What is remembered; nothing where that fails."""
        return () if self._outages is None else _quietly(self._outages.pending, otherwise=())

    def settle(self) -> None:
        """Forget."""
        if self._outages is not None:
            _quietly(self._outages.settle, otherwise=None)

    def close(self) -> None:
        """Nothing more comes."""
        if self._outages is not None:
            _quietly(self._outages.close, otherwise=None)


def _quietly(work: Callable[[], Result], *, otherwise: Result) -> Result:
    try:
        return work()
    except Exception:
        log.exception("audit_outage_not_remembered")
        return otherwise
