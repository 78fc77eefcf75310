"""A batch whose commit failed and may have persisted all the same.

Rules: its callers were told that nothing is recorded; where that turns out otherwise, their refusals follow. Under the
ledger's lock the answer is final: a commit that is still on its way holds that lock.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from gateway.audit.entries import Entry
from gateway.audit.events import AuditEvent
from gateway.audit.tail import Tail
from gateway.audit.waiting import Waiting
from gateway.store.queries.audit import load_leaf_hashes


@dataclass(frozen=True, slots=True)
class Doubt:
    """One batch: where it would stand, its leaf hashes, and the events of its callers.

    refusals: how many records it begins with that say of callers before that they were refused.
    """

    position: int
    leaf_hashes: Sequence[bytes]
    events: Sequence[AuditEvent]
    refusals: int

    @staticmethod
    def of(
        tail: Tail, entries: Sequence[Entry], batch: Sequence[Waiting], *, refusals: int
    ) -> "Doubt":
        """The doubt about a batch of these entries behind a tail."""
        leaf_hashes = [entry.leaf_hash for entry in entries]
        return Doubt(tail.size, leaf_hashes, [waiting.event for waiting in batch], refusals)


def is_persisted(connection: Connection, origin: str, doubt: Doubt) -> bool:
    """Whether the batch is in the ledger, whose lock is held."""
    # A transaction persists as a whole, and whoever else took the place wrote other records there.
    end = doubt.position + len(doubt.leaf_hashes)
    rows = load_leaf_hashes(connection, origin, doubt.position, end)
    return [leaf_hash for _, leaf_hash in rows] == list(doubt.leaf_hashes)
