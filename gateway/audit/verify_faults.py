"""What a check of a ledger can find. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from gateway.audit.checkpoints import SignedCheckpoint


class FaultKind(StrEnum):
    """What is wrong.

    CHANGED: a record is not the one that was hashed or signed. MISSING: there is none at a position. EXTRA: one stands
    where none can. REORDERED: two changed places. UNREADABLE: a value is none of its column. INDEX_DIFFERS: a column
    beside the body is not the body's. NODE_DIFFERS: a stored hash of the tree is not that of the records.
    CHECKPOINT_DIFFERS: a checkpoint is missing, malformed, or stored as another than it is. FORGED: a checkpoint
    without the signature of the ledger's key. TRUNCATED: records are gone that this database itself speaks of.
    ROLLED_BACK: records are gone that others have seen signed. FORKED: the ledger's key signed another history.
    LEDGER_DIFFERS: the ledger's own row is missing or names another key.
    """

    CHANGED = "changed"
    MISSING = "missing"
    EXTRA = "extra"
    REORDERED = "reordered"
    UNREADABLE = "unreadable"
    INDEX_DIFFERS = "index_differs"
    NODE_DIFFERS = "node_differs"
    CHECKPOINT_DIFFERS = "checkpoint_differs"
    FORGED = "forged"
    TRUNCATED = "truncated"
    ROLLED_BACK = "rolled_back"
    FORKED = "forked"
    LEDGER_DIFFERS = "ledger_differs"


@dataclass(frozen=True, slots=True)
class Fault:
    """The first bad record, and why.

    position: the record, or the first one that can be bad; last: the last one that can be it, the same where it is
    known exactly.
    """

    position: int
    kind: FaultKind
    why: str
    last: int


def fault_at(position: int, kind: FaultKind, why: str) -> Fault:
    """A fault of exactly one record."""
    return Fault(position, kind, why, position)


def fault_between(start: int, end: int, kind: FaultKind, why: str) -> Fault:
    """A fault of some record from start to before end."""
    return Fault(start, kind, why, max(start, end - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyResult:
    """What was found.

    begun_at: the size of the trusted checkpoint that the check went on from, 0 without one. count: the records before
    first_bad, or all of them; root: of their tree, None where something is bad. newest: the newest checkpoint that fits
    them; unsigned: the records behind it, which nobody has signed yet. witnessed_size: the size of the largest
    checkpoint of others that fits, None without any. is_signed: whether signatures were checked; without a key they
    cannot be.
    """

    origin: str
    begun_at: int
    count: int
    root: bytes | None
    newest: SignedCheckpoint | None
    unsigned: int
    witnessed_size: int | None
    is_signed: bool
    first_bad: Fault | None
